# SPDX-License-Identifier: Apache-2.0
"""The page of the embedded OpenMeetings behind an entry link, in English and in German."""

from html import escape

from starlette.responses import Response

ENGLISH, GERMAN = 0, 1
WORDS = {
    "enters": ("{who} enters the room “{room}”.", "{who} betritt den Raum „{room}“."),
    "moderates": ("{who} enters the room “{room}” as its moderator.", "{who} moderiert den Raum „{room}“."),
    "invalid": ("This link is not valid.", "Dieser Link ist ungültig."),
    "used": ("This link has been used.", "Dieser Link wurde bereits benutzt."),
}
PAGE = """<!doctype html>
<html lang="{lang}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>OpenMeetings</title><style>body{{font:1.2rem system-ui;margin:4rem auto;max-width:40rem;padding:0 1rem}}</style>
</head><body><h1>OpenMeetings</h1><p>{text}</p></body></html>
"""
SOMEBODY = ("Somebody, after giving a name,", "Jemand, nach Angabe eines Namens,")


def page(word: str, language: int, **values: str) -> Response:
    """What a visitor reads: a sentence of ``WORDS`` with these values."""
    text = WORDS[word][language].format(**{name: escape(value) for name, value in values.items()})
    body = PAGE.format(lang=("en", "de")[language], text=text)
    return Response(body, headers={"content-type": "text/html;charset=utf-8"})


def language_of(number: str) -> int:
    """The index of a language's texts: OpenMeetings' number 2 is German; all others are English here."""
    return GERMAN if number == "2" else ENGLISH
