"""The server's certificate: self-signed and kept, unless the configuration names another.

Three things shape it. The original programs' clients accept exactly one kind of private certificate, an unexpired
self-signed leaf (spec sysadm §1.2), so that is what is made: RSA-2048, not a CA. People pin what they have seen, so the
private key is made once and a renewal only signs it again. And a start has one second, while importing `cryptography`
takes a third of it, so a certificate that is good is recognised by reading its two dates straight from the DER.

The key is written before the certificate, each by rename: a crash in between leaves a key without a certificate, which
the next start signs. There is no moment at which the two do not belong together.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sysadmd.errors import ConfigError, StateError
from sysadmd.keys.files import write_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate, GeneralName

    SigningKey = RSAPrivateKey | Ed25519PrivateKey

CERTIFICATE_FILE = "server.crt"
KEY_FILE = "server.key"
LIFE = 825 * 86400.0
"""Seconds that a certificate is good for: the longest that Apple's TLS accepts from a private issuer."""
RENEW_BEFORE = 30 * 86400.0
"""Seconds before its end at which it is renewed."""
CLOCK_SKEW = 3600.0
"""Seconds by which a client's clock may be behind ours."""
MAX_PEM = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate and its key. `fingerprint` is `SHA256:AA:BB:…` of the DER; the validity is Unix seconds."""

    cert: Path
    key: Path
    fingerprint: str
    not_before: float
    not_after: float


def ensure_certificate(state_dir: Path, hostnames: Iterable[str] = (), *, now: float | None = None) -> CertificateFiles:
    """The self-signed pair of the state directory: made when missing, renewed in its last 30 days or when it is not
    valid yet (a clock that was set back).

    A new certificate names `hostnames` and every name and address of this machine. A good one is kept although those
    have changed since, because clients pin it. Raises StateError for a file that cannot be read, or is no certificate.
    """
    cert, key = state_dir / CERTIFICATE_FILE, state_dir / KEY_FILE
    return self_signed(cert, key, _own_names(hostnames), _server_key, now=now)


def self_signed(
    cert: Path,
    key: Path,
    names: Iterable[str],
    load: Callable[[Path], SigningKey],
    *,
    now: float | None = None,
    anew: bool = False,
) -> CertificateFiles:
    """The certificate in the file `cert` for the key in the file `key`: kept while it is good, else made again for
    `names`. `anew`: it is not good, whatever its dates say.

    `load` gives the key, or makes it; nothing but a new signature asks for it, or for the names. Raises StateError.
    """
    now = time.time() if now is None else now
    try:
        if key.exists() and cert.exists() and not anew:
            files = _files(cert, key)
            if files.not_before <= now < files.not_after - RENEW_BEFORE:
                return files
        write_file(cert, _sign(load(key), names, now), 0o644)
        return _files(cert, key)
    except OSError as error:
        raise StateError(f"{error.filename or cert.parent}: {error.strerror}") from error
    except ValueError as error:
        raise StateError(f"{error}; move it away to have a new one made") from error


def check_certificate(
    cert: Path, key: Path, *, source: str = "configuration", table: str = "listen", now: float | None = None
) -> CertificateFiles:
    """The pair that a table of the configuration `source` names. Raises ConfigError: unreadable, not PEM, expired, not
    a pair.
    """
    now = time.time() if now is None else now
    try:
        files = _files(cert, key)
    except OSError as error:
        raise ConfigError(source, f"{table}.certificate", str(cert), f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(source, f"{table}.certificate", str(cert), str(error).removeprefix(f"{cert}: ")) from None
    if not files.not_before <= now < files.not_after:
        when = f"{_iso(files.not_before)} to {_iso(files.not_after)}"
        raise ConfigError(source, f"{table}.certificate", str(cert), f"must be valid now, and is from {when}")
    _check_pair(cert, key, source, table)
    return files


def fingerprint(der: bytes) -> str:
    """`SHA256:AA:BB:…` of a certificate in DER, as browsers and openssl show it."""
    return "SHA256:" + hashlib.sha256(der).digest().hex(":").upper()


def validity(der: bytes) -> tuple[float, float]:
    """notBefore and notAfter (RFC 5280 §4.1) as Unix seconds. Raises ValueError when `der` is no certificate.

    Certificate and tbsCertificate are entered; an optional version, the serial number, the algorithm and the issuer
    are passed over; then comes the validity.
    """
    try:
        _, dates, _ = _contents(_from_validity(der))
        first_tag, first, after = _contents(dates)
        second_tag, second, _ = _contents(after)
        return _time(first_tag, first), _time(second_tag, second)
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("is not an X.509 certificate") from error


def public_key(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo (RFC 5280 §4.1) of a certificate, in DER. Raises ValueError when `der` is none.

    It comes after the validity and the subject.
    """
    try:
        _, _, rest = _contents(_from_validity(der))
        _, _, rest = _contents(rest)
        _, _, after = _contents(rest)
        return rest[: len(rest) - len(after)]
    except IndexError as error:
        raise ValueError("is not an X.509 certificate") from error


def _from_validity(der: bytes) -> bytes:
    """The rest of a tbsCertificate from its validity on."""
    body = _contents(_contents(der)[1])[1]
    tag, _, rest = _contents(body)
    if tag == 0xA0:
        _, _, rest = _contents(rest)
    for _ in range(2):
        _, _, rest = _contents(rest)
    return rest


def _contents(der: bytes) -> tuple[int, bytes, bytes]:
    """Tag and contents of the first DER element, and what follows it (X.690 §8.1)."""
    length, start = der[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise IndexError
    return der[0], der[start : start + length], der[start + length :]


def _time(tag: int, text: bytes) -> float:
    """UTCTime has two digits for the year, up to 2049; GeneralizedTime has four (RFC 5280 §4.1.2.5)."""
    digits = text.decode("ascii").removesuffix("Z")
    if tag == 0x17:
        digits = ("19" if digits >= "50" else "20") + digits
    if len(digits) != 14 or not digits.isdigit():
        raise ValueError("is not an X.509 certificate")
    # Not strptime: its first call imports more than the rest of this function costs.
    month, day, hour, minute, second = (int(digits[n : n + 2]) for n in range(4, 14, 2))
    return datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC).timestamp()


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _der(path: Path) -> bytes:
    """The first certificate of a PEM file. Raises ValueError naming the file."""
    with path.open("rb") as file:
        text = file.read(MAX_PEM)
    _, begin, rest = text.partition(b"-----BEGIN CERTIFICATE-----")
    body, end, _ = rest.partition(b"-----END CERTIFICATE-----")
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        der = b""
    if not (begin and end and der):
        raise ValueError(f"{path}: is not a certificate in PEM")
    return der


def _files(cert: Path, key: Path) -> CertificateFiles:
    der = _der(cert)
    try:
        return CertificateFiles(cert, key, fingerprint(der), *validity(der))
    except ValueError as error:
        raise ValueError(f"{cert}: {error}") from error


def _check_pair(cert: Path, key: Path, source: str, table: str) -> None:
    import ssl

    def no_password() -> str:
        rule = "must not be encrypted: nobody is there to type the password"
        raise ConfigError(source, f"{table}.key", str(key), rule)

    try:
        with key.open("rb"):
            pass
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, no_password)
    except ssl.SSLError as error:
        rule = f"must be the key of {table}.certificate" if "MISMATCH" in str(error) else "must be a private key in PEM"
        raise ConfigError(source, f"{table}.key", str(key), rule) from None
    except OSError as error:
        raise ConfigError(source, f"{table}.key", str(key), f"cannot be read: {error.strerror}") from None


def private_key(path: Path) -> SigningKey:
    """The RSA or Ed25519 key in the file. Raises ValueError, naming it, for a file that holds something else."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: is not a private key in PEM") from error
    if not isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise ValueError(f"{path}: is not an RSA or Ed25519 key")  # noqa: TRY004  # the file is wrong, not the call
    return key


def _server_key(path: Path) -> SigningKey:
    """The key in the file, or a new one. Raises ValueError for a file that holds something else."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    if path.exists():
        found = private_key(path)
        if not isinstance(found, rsa.RSAPrivateKey):
            raise ValueError(f"{path}: is not an RSA key")
        path.chmod(0o600)
        return found
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_file(path, key.private_bytes(encoding, form, serialization.NoEncryption()), 0o600)
    return key


def _sign(key: SigningKey, hostnames: Iterable[str], now: float) -> bytes:
    """A self-signed leaf certificate in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    names = _names(hostnames)
    common = next((name.value for name in names if isinstance(name, x509.DNSName)), "localhost")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])
    public = key.public_key()
    usage = dict.fromkeys(("data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"), False)
    usage |= dict.fromkeys(("content_commitment", "encipher_only", "decipher_only"), False)
    moment = datetime.fromtimestamp(now, UTC)
    certificate: Certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(seconds=CLOCK_SKEW))
        .not_valid_after(moment + timedelta(seconds=LIFE - CLOCK_SKEW))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_encipherment=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256() if isinstance(key, RSAPrivateKey) else None)
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _own_names(hostnames: Iterable[str]) -> Iterator[str]:
    """The names given, then every name and address of this machine."""
    from sysadmd.keys.addresses import host_addresses, host_names

    yield from hostnames
    yield from host_names()
    yield from map(str, host_addresses())


def _names(texts: Iterable[str]) -> list[GeneralName]:
    """What can stand in a certificate of these names and addresses, each once."""
    from ipaddress import ip_address

    from cryptography import x509

    names: dict[GeneralName, None] = {}
    for text in texts:
        try:
            names[x509.IPAddress(ip_address(text))] = None
        except ValueError:
            try:
                names[x509.DNSName(text.encode("idna").decode("ascii"))] = None
            except UnicodeError:
                continue
    return list(names)
