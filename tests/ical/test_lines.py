# SPDX-License-Identifier: Apache-2.0
import re
import sys

from syncd.ical.lines import _ADDRESS, address

LETTERS = re.compile(r"(?:https?://|tel:|sips?:)[\x21-\x7e\u00a1-\U0010ffff]+", re.IGNORECASE)
"""What an address is, with the case ignored of all of it."""


def test_the_case_of_a_scheme_is_ignored_and_what_follows_is_any_character_but_blanks_and_controls() -> None:
    text = " ".join(f"tel:{chr(code)}" for code in range(sys.maxunicode + 1))
    found = _ADDRESS.findall(text)
    assert found == LETTERS.findall(text)
    # C0 with the blank, DEL, C1 and the no-break space are left out
    assert len(found) == sys.maxunicode + 1 - 33 - 1 - 32 - 1


def test_a_letter_of_a_scheme_may_be_whatever_is_the_same_letter_without_its_case() -> None:
    for scheme in ("http://x", "https://x", "tel:x", "sip:x", "sips:x"):
        for place in range(len(scheme) - 1):
            text = " ".join(f"{scheme[:place]}{chr(code)}{scheme[place + 1 :]}" for code in range(0x3000))
            assert _ADDRESS.findall(text) == LETTERS.findall(text)
    assert address("HTTPS://meet.example.org") == "HTTPS://meet.example.org"
    assert address("javascript:x") is None
