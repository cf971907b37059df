"""Files that people bring along to have a key registered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sysadmd.errors import BadRequest

if TYPE_CHECKING:
    from sysadmd.keys.signing import PublicKey

MAX_FILE = 64 * 1024
"""Bytes of a key's or certificate's file that are read."""


def public_key(file: Path) -> PublicKey:
    """The key in a file: PEM, base64 of PEM, or an X.509 certificate in PEM.

    Raises BadRequest for what is no key, and click.UsageError for a private key, before it goes anywhere.
    """
    from sysadmd.keys.signing import parse

    text = _read(file)
    try:
        return parse(text)
    except BadRequest as error:
        raise BadRequest(f"{file}: {error.message.removeprefix('args.pub_key: ')}") from None


def _read(file: Path) -> str:
    with file.open("rb") as opened:
        text = opened.read(MAX_FILE + 1).decode("ascii", "replace")
    if len(text) > MAX_FILE:
        raise click.UsageError(f"{file} is larger than a key: more than {MAX_FILE} bytes")
    if "PRIVATE KEY-----" in text:
        raise click.UsageError(f"{file} holds a private key; it stays where it is, its public half is what is needed")
    return text
