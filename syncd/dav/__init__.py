# SPDX-License-Identifier: Apache-2.0
"""CalDAV: reads and writes the objects of a calendar, whatever they contain."""
