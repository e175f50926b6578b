# SPDX-License-Identifier: Apache-2.0
"""Reads the answers of OpenMeetings' services, into values or our exceptions. Pure: no request is sent here."""

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
    """``error.notallowed``: a right is missing, or the session has ended or become a visitor's."""


def read_result(answer: Json) -> tuple[str, str]:
    """The type and message of a ``serviceResult``. Raises BadAnswer.

    Jettison writes a text that looks like a number as a number, and leaves out the message of a Java exception that
    has no text.
    """
    result = answer.get("serviceResult")
    if not isinstance(result, dict):
        raise BadAnswer("openmeetings answered JSON without a serviceResult")
    return str(result.get("type", "")), str(result.get("message", ""))


def read_code(message: str) -> str:
    """The message of a success, which is the session id or the hash. Raises BadAnswer if it is empty."""
    if not message:
        raise BadAnswer("openmeetings answered success without a result")
    return message


def login_error(key: str) -> SyncdError:
    """The exception for a refused login, by the key of its message."""
    if key in LOGIN_ERRORS:
        return LoginRefused(LOGIN_ERRORS[key])
    return Unavailable("openmeetings cannot check the login now; its own log says why")


def service_error(message: str) -> SyncdError:
    """The exception for a service's error. The message is not passed on: it may quote what we sent."""
    if message == "error.notallowed":
        return NotAllowed(RIGHTS)
    return Refused("openmeetings refuses it for a reason of its own; its log says which")
