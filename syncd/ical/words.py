# SPDX-License-Identifier: Apache-2.0
"""The few words of ours that people read in an entry. Nothing here is text of a meeting."""

from msgspec import Struct


class Words(Struct, frozen=True):
    """The labels of an entry in one language."""

    untitled: str
    guests: str
    phone: str
    conference_id: str
    password: str
    folder: str
    folder_password: str
    invited_by: str


_ENGLISH = Words(
    untitled="Meeting",
    guests="For guests",
    phone="Phone",
    conference_id="Conference ID",
    password="Password",  # noqa: S106 -- a label
    folder="Shared folder",
    folder_password="Password of the folder",  # noqa: S106 -- a label
    invited_by="Invited by",
)

_GERMAN = Words(
    untitled="Besprechung",
    guests="Für Gäste",
    phone="Telefon",
    conference_id="Konferenz-ID",
    password="Passwort",  # noqa: S106 -- a label
    folder="Gemeinsamer Ordner",
    folder_password="Passwort des Ordners",  # noqa: S106 -- a label
    invited_by="Eingeladen von",
)


def words(language: str) -> Words:
    """The words in a language; English if there is no translation."""
    return _GERMAN if language == "de" else _ENGLISH
