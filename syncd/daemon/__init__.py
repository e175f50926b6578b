# SPDX-License-Identifier: Apache-2.0
"""``syncd run``: the process that keeps calendars in step."""
