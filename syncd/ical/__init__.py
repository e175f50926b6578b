# SPDX-License-Identifier: Apache-2.0
"""Meetings as iCalendar: pure, no clock, no I/O."""
