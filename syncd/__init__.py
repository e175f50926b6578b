# SPDX-License-Identifier: Apache-2.0
"""syncd keeps people's calendars in step with their OpenTalk meetings.

In reading order:

``model`` the nouns · ``plan`` the decisions, pure · ``sync`` carries them out · ``store`` the ledger
``opentalk``, ``openmeetings`` where meetings and links come from · ``ical`` meetings as iCalendar
``dav``, ``web`` where entries go · ``transport`` the one way out · ``config``, ``daemon``, ``cli`` put it
together · ``demo`` the servers to try it on · ``errors`` who must act.
"""

__version__ = "0.1.0"
