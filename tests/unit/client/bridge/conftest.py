from __future__ import annotations

from pathlib import Path

import pytest

from sysadmd.client.trust import read_key
from sysadmd.keys.certificate import CertificateFiles, ensure_certificate
from sysadmd.keys.seal import SealingContext, sealing_context
from sysadmd.keys.signing import PrivateKey
from tests.unit.keys.openssl import make_key


@pytest.fixture(scope="session")
def rsa() -> PrivateKey:
    """A client's key, as the originals have it."""
    return PrivateKey.generate()


@pytest.fixture(scope="session")
def key() -> PrivateKey:
    """A client's key of the modern kind."""
    return PrivateKey.generate("ed25519")


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> SealingContext:
    """The sealing key of a server."""
    return sealing_context(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="session")
def other_context(tmp_path_factory: pytest.TempPathFactory) -> SealingContext:
    """That of another server."""
    return sealing_context(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    """The bridge's certificate."""
    return ensure_certificate(tmp_path_factory.mktemp("bridge"))


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client's key in a file."""
    return make_key(tmp_path_factory.mktemp("client"), "ed25519")


@pytest.fixture
def file_key(key_file: Path) -> PrivateKey:
    """The key in that file."""
    return read_key(key_file)
