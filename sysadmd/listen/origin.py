"""Which web pages may talk to this server.

A browser sends a request for any page to any server, with what it knows to authenticate it: a name and a password that
its user once typed for this server, say. It tells which page it was. `Origin` comes with every WebSocket and with what
changes something; a link or an image has none, but `Sec-Fetch-Site` (W3C Fetch Metadata) says that it is foreign. What
comes without either header is from no browser, and is judged by its log-in alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

CLASSIC_ORIGINS = frozenset({"sysadm-client", "sysadm-server"})
"""What the original programs send as Origin (spec sysadm §1.3)."""
FOREIGN_SITES = frozenset({"cross-site", "same-site"})
"""Values of Sec-Fetch-Site that name another origin; the others are `same-origin` and `none` (typed by the user)."""


def origin_allowed(origins: Sequence[str], hosts: Sequence[str], listed: Sequence[str]) -> bool:
    """Whether the Origin headers name one page, of the same host, or listed, or an original program.

    `hosts` are the Host headers.
    """
    if len(origins) != 1:
        return False
    if origins[0] in CLASSIC_ORIGINS or origins[0] in listed:
        return True
    # The host of an opaque origin, `null`, is empty and equals nobody's.
    host = origins[0].partition("://")[2].lower()
    return bool(host) and [host] == [one.lower() for one in hosts]


def from_browser(names: Iterable[str]) -> bool:
    """Whether a request with these headers, in lower case, is a browser's: only those say which page asked."""
    return any(name == "origin" or name.startswith("sec-fetch-") for name in names)
