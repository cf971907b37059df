"""TLS contexts of whoever dials: which certificates of the other end they accept."""

from __future__ import annotations

import ssl
from pathlib import Path


def trust_file(ca: Path) -> ssl.SSLContext:
    """A context that trusts what is in `ca` and nothing else: an authority, or a server's own certificate.

    Raises ValueError, whose text names the file, when it cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca))
    except ssl.SSLError as error:
        raise ValueError(f"{ca}: no PEM certificate ({error.reason or error})") from error
    except OSError as error:
        raise ValueError(f"{ca}: {error.strerror or error}") from error
    # A leaf certificate in the file is trusted as itself (X509_V_FLAG_PARTIAL_CHAIN), and strict RFC 5280 checks, on
    # since Python 3.13, would refuse self-signed leaves that other programs made.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def trust_all() -> ssl.SSLContext:
    """A context that takes any certificate of any name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
