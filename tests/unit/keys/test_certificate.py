"""The server's certificate: made once, kept, renewed; and the one that the configuration names."""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.errors import ConfigError, StateError
from sysadmd.keys import certificate
from sysadmd.keys.certificate import CertificateFiles, check_certificate, ensure_certificate
from sysadmd.keys.tls import server_context

DAY = 86400.0


def parsed(files: CertificateFiles) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.cert.read_bytes())


def own_pair(directory: Path, starts: datetime, ends: datetime, name: str = "own") -> tuple[Path, Path]:
    """A pair as somebody's CA would make it, with an elliptic key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.org")])
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(starts).not_valid_after(ends)
    cert_path, key_path = directory / f"{name}.crt", directory / f"{name}.key"
    cert_path.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key_path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return cert_path, key_path


def good_pair(directory: Path, name: str = "own") -> tuple[Path, Path]:
    now = datetime.now(UTC)
    return own_pair(directory, now - timedelta(days=1), now + timedelta(days=1), name)


# Made


def test_a_first_start_makes_a_pair(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path)
    assert (files.cert, files.key) == (tmp_path / "server.crt", tmp_path / "server.key")
    server_context(files.cert, files.key)


def test_the_certificate_is_a_self_signed_leaf_that_the_original_clients_take(tmp_path: Path) -> None:
    made = parsed(ensure_certificate(tmp_path))
    assert made.issuer == made.subject
    made.verify_directly_issued_by(made)
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    public = made.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.key_size == 2048


def test_it_names_the_host_its_addresses_and_what_the_caller_adds(tmp_path: Path) -> None:
    made = parsed(ensure_certificate(tmp_path, ["node.example", "192.0.2.7", "exämple.org", "bad..name"]))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"node.example", "xn--exmple-cua.org", "localhost", os.uname().nodename} <= set(
        names.get_values_for_type(x509.DNSName)
    )
    expected = {ip_address(text) for text in ("192.0.2.7", "127.0.0.1", "::1")}
    assert expected <= set(names.get_values_for_type(x509.IPAddress))


def test_it_is_good_for_825_days(tmp_path: Path) -> None:
    now = time.time()
    files = ensure_certificate(tmp_path, now=now)
    assert files.not_after - files.not_before == 825 * DAY
    assert files.not_before <= now - 3599


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        files = ensure_certificate(tmp_path)
    finally:
        os.umask(previous)
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.crt", "server.key"]


def test_the_fingerprint_is_what_openssl_shows(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path)
    der = ssl.PEM_cert_to_DER_cert(files.cert.read_text())
    digest = hashlib.sha256(der).hexdigest().upper()
    assert files.fingerprint == "SHA256:" + ":".join(digest[n : n + 2] for n in range(0, 64, 2))


def test_a_client_verifies_it_by_the_file_itself(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path)
    assert handshake(files, ssl.create_default_context(cafile=str(files.cert)), "localhost") == "TLSv1.3"


def test_a_strict_client_verifies_it_too(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path)
    client = ssl.create_default_context(cafile=str(files.cert))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert handshake(files, client, "127.0.0.1") == "TLSv1.3"


def test_tls_1_2_is_the_oldest_spoken(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path)
    client = ssl.create_default_context(cafile=str(files.cert))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(files, client, "localhost") == "TLSv1.2"
    assert server_context(files.cert, files.key).minimum_version == ssl.TLSVersion.TLSv1_2


def handshake(files: CertificateFiles, client: ssl.SSLContext, name: str) -> str | None:
    """The protocol that the two sides agree on, over memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    there = server_context(files.cert, files.key).wrap_bio(to_server, to_client, server_side=True)
    waiting = [here, there]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    return here.version()


# Kept and renewed


def test_a_second_start_keeps_the_pair(tmp_path: Path) -> None:
    assert ensure_certificate(tmp_path) == ensure_certificate(tmp_path, ["other.example"])


def test_the_last_30_days_renew_the_certificate_with_the_same_key(tmp_path: Path) -> None:
    first = ensure_certificate(tmp_path, now=1_800_000_000.0)
    before = first.key.read_bytes()
    assert ensure_certificate(tmp_path, now=first.not_after - 30 * DAY - 1) == first
    renewed = ensure_certificate(tmp_path, now=first.not_after - 30 * DAY)
    assert renewed.fingerprint != first.fingerprint
    assert renewed.not_after > first.not_after + 700 * DAY
    assert renewed.key.read_bytes() == before


def test_a_certificate_from_the_future_is_made_again(tmp_path: Path) -> None:
    first = ensure_certificate(tmp_path, now=1_900_000_000.0)
    assert ensure_certificate(tmp_path, now=1_800_000_000.0).not_before < first.not_before


def test_a_crash_between_key_and_certificate_is_mended(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path)
    key = files.key.read_bytes()
    files.cert.unlink()
    (tmp_path / "server.crt.part").write_bytes(b"half")
    again = ensure_certificate(tmp_path)
    assert again.key.read_bytes() == key
    server_context(again.cert, again.key)


def test_a_lost_key_makes_a_new_pair(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path)
    files.key.unlink()
    again = ensure_certificate(tmp_path)
    assert again.fingerprint != files.fingerprint
    server_context(again.cert, again.key)


@pytest.mark.parametrize("name", ["server.crt", "server.key"])
def test_a_damaged_file_is_named_and_not_overwritten(tmp_path: Path, name: str) -> None:
    files = ensure_certificate(tmp_path)
    (tmp_path / name).write_text("damaged")
    if name == "server.key":
        files.cert.unlink()
    with pytest.raises(StateError, match=rf"{name}: is not a .* in PEM; move it away"):
        ensure_certificate(tmp_path)
    assert (tmp_path / name).read_text() == "damaged"


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="gone"):
        ensure_certificate(tmp_path / "gone")


def test_a_warm_start_neither_waits_nor_imports_cryptography(tmp_path: Path) -> None:
    ensure_certificate(tmp_path)
    code = f"""
import sys, time, pathlib
from sysadmd.keys.certificate import ensure_certificate
start = time.process_time()
ensure_certificate(pathlib.Path({str(tmp_path)!r}))
print(time.process_time() - start < 0.005, "cryptography" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["True", "False"]


# Named by the configuration


def test_a_good_pair_of_the_configuration_is_used(tmp_path: Path) -> None:
    cert, key = good_pair(tmp_path)
    files = check_certificate(cert, key)
    assert (files.cert, files.key) == (cert, key)
    server_context(cert, key)


def test_an_expired_one_is_refused(tmp_path: Path) -> None:
    cert, key = own_pair(tmp_path, datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC))
    with pytest.raises(ConfigError) as caught:
        check_certificate(cert, key, source="/etc/sysadmd.toml")
    assert str(caught.value) == (
        f"/etc/sysadmd.toml: listen.certificate = {str(cert)!r}: "
        "must be valid now, and is from 2020-01-01T00:00:00Z to 2021-01-01T00:00:00Z"
    )


def test_the_second_after_its_end_is_one_too_many(tmp_path: Path) -> None:
    cert, key = good_pair(tmp_path)
    ends = check_certificate(cert, key).not_after
    check_certificate(cert, key, now=ends - 1)
    with pytest.raises(ConfigError, match="must be valid now"):
        check_certificate(cert, key, now=ends)


def test_one_that_is_not_valid_yet_is_refused(tmp_path: Path) -> None:
    cert, key = own_pair(tmp_path, datetime(2060, 1, 1, tzinfo=UTC), datetime(2061, 1, 1, tzinfo=UTC))
    with pytest.raises(ConfigError, match="from 2060-01-01"):
        check_certificate(cert, key)


def test_the_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    cert, _ = good_pair(tmp_path)
    _, other = good_pair(tmp_path, "other")
    with pytest.raises(ConfigError, match=r"listen.key = .*: must be the key of listen.certificate"):
        check_certificate(cert, other)


def test_missing_files_are_named(tmp_path: Path) -> None:
    cert, key = good_pair(tmp_path)
    with pytest.raises(ConfigError, match=r"listen.certificate = '/nowhere': cannot be read: No such file"):
        check_certificate(Path("/nowhere"), key)
    with pytest.raises(ConfigError, match=r"listen.key = '/nowhere': cannot be read: No such file"):
        check_certificate(cert, Path("/nowhere"))


def test_what_is_no_pem_is_refused(tmp_path: Path) -> None:
    cert, key = good_pair(tmp_path)
    text = tmp_path / "text"
    text.write_text("hello")
    with pytest.raises(ConfigError, match=r"listen.certificate.*: is not a certificate in PEM"):
        check_certificate(text, key)
    with pytest.raises(ConfigError, match=r"listen.key.*: must be a private key in PEM"):
        check_certificate(cert, text)


def test_an_encrypted_key_is_refused_without_asking_for_its_password(tmp_path: Path) -> None:
    cert, key = good_pair(tmp_path)
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    encrypted = serialization.BestAvailableEncryption(b"secret")
    key.write_bytes(
        loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted),
    )
    with pytest.raises(ConfigError, match="must not be encrypted"):
        check_certificate(cert, key)


# Dates


def test_both_forms_of_time_are_read(tmp_path: Path) -> None:
    cert, key = own_pair(tmp_path, datetime(1999, 1, 2, tzinfo=UTC), datetime(2055, 3, 4, 5, 6, 7, tzinfo=UTC))
    files = check_certificate(cert, key)
    assert datetime.fromtimestamp(files.not_before, UTC) == datetime(1999, 1, 2, tzinfo=UTC)
    assert datetime.fromtimestamp(files.not_after, UTC) == datetime(2055, 3, 4, 5, 6, 7, tzinfo=UTC)


@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda b: b"\x30\x82\x01\x00\x30\x81\xff\xa0\x03" + b))
def test_bytes_that_are_no_certificate_are_refused(der: bytes) -> None:
    with pytest.raises(ValueError):  # the two sentences differ by where it stops to make sense
        certificate.validity(der)


def test_a_certificate_cut_short_is_refused(tmp_path: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert(ensure_certificate(tmp_path).cert.read_text())
    for length in range(0, len(der) - 1, 7):
        with pytest.raises(ValueError, match=r"X\.509"):
            certificate.validity(der[:length])
