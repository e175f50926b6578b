# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: the feeds that calendar programs subscribe to."""
