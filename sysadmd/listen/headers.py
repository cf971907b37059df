"""What every HTTP answer of ours tells a browser: keep it, show it, frame it and read it nowhere.

Answers are data for programs. A browser that is led to one gets nothing to run, no other site's page may read it, and
it stays in no cache. There is no CORS header, so pages of another origin read nothing even where they are listed for
WebSockets, and no cookie is ever set.
"""

from __future__ import annotations

from types import MappingProxyType

SECURITY_HEADERS = MappingProxyType(
    {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
)
STRICT_TRANSPORT = ("Strict-Transport-Security", "max-age=31536000")
"""RFC 6797: a year of TLS only. Browsers take it by names only, and not with a certificate that they do not trust."""


def security_headers(*, tls: bool) -> list[tuple[str, str]]:
    """The headers of each answer of a listener."""
    return [*SECURITY_HEADERS.items(), *([STRICT_TRANSPORT] if tls else [])]
