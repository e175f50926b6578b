# SPDX-License-Identifier: Apache-2.0
"""syncd keeps people's calendars in step with their OpenTalk meetings.

In reading order:

``model`` the nouns · ``plan`` the decisions, pure · ``sync`` carries them out · ``ledger`` what is known
``opentalk`` where meetings come from, and a package for every link maker · ``ical`` meetings as
iCalendar · ``dav``, ``web`` where entries go · ``transport`` the one way out · ``config``, ``jobs``,
``daemon``, ``cli`` put it together · ``explain`` why an entry looks as it does · ``demo`` the servers to
try it on · ``errors`` who must act.
"""

__version__ = "0.1.0"
