"""TLS contexts of the server."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from sysadmd.errors import StateError
from sysadmd.keys.certificate import ensure_certificate
from sysadmd.keys.tls import reload_certificate, server_context


def test_only_ciphers_with_forward_secrecy_and_authenticated_encryption_are_offered(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path)
    for cipher in server_context(files.cert, files.key).get_ciphers():
        assert cipher["aead"]
        assert cipher["name"].startswith(("TLS_", "ECDHE-"))


def test_peers_are_not_asked_for_a_certificate(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path)
    assert server_context(files.cert, files.key).verify_mode == ssl.CERT_NONE


def test_a_renewed_certificate_is_taken_by_a_living_context(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path)
    context = server_context(files.cert, files.key)
    renewed = ensure_certificate(tmp_path, now=files.not_after)
    reload_certificate(context, renewed.cert, renewed.key)


def test_a_pair_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path)
    with pytest.raises(StateError, match=r"nowhere.*No such file"):
        server_context(files.cert, tmp_path / "nowhere")
    files.key.write_text("damaged")
    with pytest.raises(StateError, match="not a certificate and its key"):
        server_context(files.cert, files.key)
