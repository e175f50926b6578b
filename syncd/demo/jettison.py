# SPDX-License-Identifier: Apache-2.0
"""JSON as OpenMeetings writes it (Jettison's "mapped" convention) and reads it (openjson, which is lenient).

Pure. For the embedded OpenMeetings only.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

LONG = 2**63


def mapped(value: msgspec.Struct) -> dict[str, Any]:
    """An object as it is sent: missing and empty values are left out, a list of one is its only element."""
    sent: dict[str, Any] = {}
    for key, part in msgspec.to_builtins(value).items():
        match part:
            case None | []:
                continue
            case str(text) | [str(text)]:
                sent[key] = coerced(text)
            case _:
                sent[key] = part
    return sent


def coerced(text: str) -> str | int | float | bool:
    """A text as it is sent: as a long, a double or a boolean if it is exactly how one of them is written."""
    if text in {"true", "false"}:
        return text == "true"
    if re.fullmatch(r"0|-?[1-9][0-9]{0,18}", text, re.ASCII) and -LONG <= int(text) < LONG:
        return int(text)
    if re.fullmatch(r"-?[0-9]{1,7}\.[0-9]{1,9}", text, re.ASCII) and repr(float(text)) == text:
        return float(text)
    return text


def text_of(value: object) -> str:
    """A string as it is read: null becomes the text "null"."""
    return "null" if value is None else str(value)


def flag_of(value: object) -> bool:
    """A boolean as it is read: only true and "true" are true, so 1 is false."""
    return value is True or value == "true"


def number_of(value: object) -> int | None:
    """A number as it is read, also from digits in a string; ``None`` for anything else."""
    return int(str(value)) if str(value).isdecimal() else None


def texts_of(value: object) -> list[str]:
    """A list of strings as it is read; a single value is a list of one."""
    return [text_of(part) for part in value] if isinstance(value, list) else [text_of(value)]


READERS: Mapping[object, Callable[[Any], Any]] = {
    str: text_of,
    str | None: text_of,
    bool: flag_of,
    int: number_of,
    list[str]: texts_of,
}


def fields_of(given: Mapping[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of ``kind`` that were sent, as they are read; unknown keys are ignored."""
    return {
        field.name: READERS[field.type](given[field.encode_name])
        for field in msgspec.structs.fields(kind)
        if field.encode_name in given
    }
