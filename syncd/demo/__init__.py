# SPDX-License-Identifier: Apache-2.0
"""Embedded servers with state for ``syncd demo`` and the tests: OpenTalk with its sign-in, OpenMeetings, calendars."""
