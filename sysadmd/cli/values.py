"""Values of the command line in their text forms. Each function is a click type: it raises `click.BadParameter`."""

from __future__ import annotations

import math
import re

import click


def seconds(text: str) -> float:
    """A positive duration: `90`, `1h10m`, `500ms`."""
    from sysadmd.config.document import duration

    given = text.strip()
    try:
        value = float(given) if given.isascii() and given.replace(".", "", 1).isdigit() else duration(given)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise click.BadParameter(f"{text!r} is no duration such as 90, 1h10m or 500ms")
    return value


def host_port(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPv6]:PORT`, `:PORT` or `*:PORT`; the last two are every address."""
    host, found, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    valid_port = port.isascii() and port.isdigit() and int(port) <= 65535
    if not found or not valid_port or (":" in host and not bracketed):
        raise click.BadParameter(f"{text!r} is no HOST:PORT such as 127.0.0.1:12150, [::1]:12150 or :12150")
    return host.strip("[]") or "*", int(port)


def resume_token(text: str) -> tuple[str, int]:
    """`EPOCH:SEQ`, as the events show it."""
    epoch, _, seq = text.rpartition(":")
    if not epoch or not seq.isascii() or not seq.isdigit():
        raise click.BadParameter(f"{text!r} is no EPOCH:SEQ, as the events show it")
    return epoch, int(seq)


def anchor(text: str) -> tuple[int, str]:
    """`SEQ:HASH`, the number of an audit record and its hash."""
    seq, _, digest = text.partition(":")
    if not re.fullmatch(r"[1-9][0-9]{0,17}", seq, re.ASCII) or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise click.BadParameter(f"{text!r} is no SEQ:HASH, the number of an audit record and its 64 digits")
    return int(seq), digest.lower()


def site_path(text: str) -> tuple[int, str]:
    """`SITE:PATH`: the number of a site, and a path on it."""
    site, colon, path = text.partition(":")
    if not (colon and path and site.isascii() and site.isdigit() and len(site) <= 9):
        raise click.BadParameter(f"{text!r} is no SITE:PATH such as 1:/data; sites are numbers")
    return int(site), path
