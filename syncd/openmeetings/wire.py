# SPDX-License-Identifier: Apache-2.0
"""What OpenMeetings' services answer, as values or as one of our exceptions. Pure: nothing is asked here."""

from typing import Any

from syncd.errors import BadAnswer, LoginRefused, Refused, SyncdError, Unavailable

Json = dict[str, Any]

RIGHTS = (
    "openmeetings: the account may not make entry links: give it the rights Login and SOAP "
    "(Administration, Users; Admin alone is not enough)"
)

WRONG_PASSWORD = "error.bad.credentials"  # noqa: S105 -- a key of OpenMeetings' texts

LOGIN_ERRORS = {
    WRONG_PASSWORD: "openmeetings: username or password is wrong; it is not tried again (the server "
    "punishes every try): correct them in [openmeetings] and reload",
    "error.notactivated": "openmeetings: the account is not activated: give it the right Login (and SOAP)",
    "error.nogroup": "openmeetings: the account is in no group: put it into one (Administration, Users)",
}


class NotAllowed(LoginRefused):
    """``error.notallowed``: a right is missing, or the session ended or became a visitor's; nobody can tell which."""


def read_result(answer: Json) -> tuple[str, str]:
    """Type and message of a ``serviceResult``.

    Jettison makes numbers of what looks like one, and Java exceptions without a text leave the message out.
    """
    result = answer.get("serviceResult")
    if not isinstance(result, dict):
        raise BadAnswer("openmeetings answered JSON without a serviceResult")
    return str(result.get("type", "")), str(result.get("message", ""))


def read_code(message: str) -> str:
    """The message of a success, which is what was asked for."""
    if not message:
        raise BadAnswer("openmeetings answered success without a result")
    return message


def login_error(key: str) -> SyncdError:
    """What a refused login means, by the key of its message."""
    if key in LOGIN_ERRORS:
        return LoginRefused(LOGIN_ERRORS[key])
    return Unavailable("openmeetings cannot check the login now; its own log says why")


def service_error(message: str) -> SyncdError:
    """What a service's error means. Its text is not told on: it may quote what we sent."""
    if message == "error.notallowed":
        return NotAllowed(RIGHTS)
    return Refused("openmeetings refuses it for a reason of its own; its log says which")
