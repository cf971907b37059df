"""The certificate that a process shows."""

from __future__ import annotations

import ssl
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from sysadmd.config import RelayConfig
from sysadmd.errors import ConfigError
from sysadmd.keys.certificate import CertificateFiles, ensure_certificate
from sysadmd.keys.certificate import fingerprint as fingerprint_of
from sysadmd.server import certificate as module
from sysadmd.server.certificate import ShownCertificate


def shown_by(context: ssl.SSLContext) -> str:
    """The fingerprint that a client of this context sees; the handshake goes through memory."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = trusting.wrap_bio(back, there), context.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return fingerprint_of(der)


def named(files: CertificateFiles) -> RelayConfig:
    return RelayConfig(certificate=files.cert, key=files.key)


@pytest.fixture
def other(tmp_path: Path) -> CertificateFiles:
    (tmp_path / "other").mkdir()
    return ensure_certificate(tmp_path / "other")


def test_its_own_pair_is_made_and_told_once_for_all_listeners(tmp_path: Path) -> None:
    shown = ShownCertificate(tmp_path, RelayConfig(), table="relay")
    with capture_logs() as logs:
        seen = {shown_by(shown.context()) for _ in range(2)}
    own = ensure_certificate(tmp_path)
    assert seen == {own.fingerprint}
    assert [(line["event"], line["fingerprint"]) for line in logs] == [("certificate", own.fingerprint)]


def test_the_configured_pair_is_the_one_that_is_shown(tmp_path: Path, other: CertificateFiles) -> None:
    assert shown_by(ShownCertificate(tmp_path, named(other), table="relay").context()) == other.fingerprint
    assert not (tmp_path / "server.crt").exists()


def test_each_listener_shows_what_was_configured_since(tmp_path: Path, other: CertificateFiles) -> None:
    shown = ShownCertificate(tmp_path, RelayConfig(), table="relay")
    contexts = [shown.context(), shown.context()]
    shown.configured = named(other)
    shown.refresh()
    assert {shown_by(context) for context in contexts} == {other.fingerprint}


def test_a_bad_pair_is_named_by_its_table_and_leaves_the_one_before(tmp_path: Path) -> None:
    shown = ShownCertificate(tmp_path, RelayConfig(), table="relay")
    context = shown.context()
    shown.configured = RelayConfig(certificate=Path("/gone"), key=Path("/gone"))
    with pytest.raises(ConfigError, match=r"relay\.certificate"):
        shown.refresh()
    assert shown_by(context) == ensure_certificate(tmp_path).fingerprint


def test_without_a_listener_nothing_is_made(tmp_path: Path) -> None:
    ShownCertificate(tmp_path, RelayConfig(), table="relay").refresh()
    assert list(tmp_path.iterdir()) == []


async def test_it_is_looked_at_again_and_a_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL", 0.01)
    shown = ShownCertificate(tmp_path, RelayConfig(), table="relay")
    context = shown.context()
    before = shown_by(context)
    (tmp_path / "server.crt").unlink()
    with capture_logs() as logs:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(shown.renew)
                while shown_by(context) == before:
                    await anyio.sleep(0.01)
                (tmp_path / "server.crt").unlink()
                (tmp_path / "server.key").write_text("half of a k")
                while not logs:
                    await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
    assert logs[0]["event"] == "certificate"
    assert "server.key" in logs[0]["reason"]
