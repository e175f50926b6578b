# SPDX-License-Identifier: Apache-2.0
"""The addresses of feeds, and the only trace of them that is stored."""

from hashlib import sha256


def token_key(token: str) -> str:
    """The SHA-256 of a feed's token, hexadecimal: the only trace of it that is stored."""
    return sha256(token.encode("utf-8", "replace")).hexdigest()


def feed_address(public_url: str, token: str) -> str:
    """The address at which the feed of a token is subscribed to."""
    return f"{public_url.rstrip('/')}/feed/{token}.ics"
