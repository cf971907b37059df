"""Keys, certificates and signatures made by the openssl program, so that the library is not its own judge."""

from __future__ import annotations

import subprocess
from pathlib import Path

KINDS = {
    "rsa-1024": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"),
    "rsa-2048": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "rsa-4096": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"),
    "ed25519": ("-algorithm", "ED25519"),
    "p256": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
}


def openssl(*args: str | Path, stdin: bytes | None = None) -> bytes:
    done = subprocess.run(["openssl", *map(str, args)], input=stdin, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def make_key(directory: Path, kind: str, name: str = "key") -> Path:
    """A file with a new private key in PEM."""
    path = directory / f"{name}.key"
    openssl("genpkey", *KINDS[kind], "-out", path)
    return path


def public_key(private: Path) -> str:
    return openssl("pkey", "-in", private, "-pubout").decode()


def make_certificate(private: Path, *options: str, name: str = "olga") -> Path:
    """A self-signed certificate of a key, good for a month."""
    path = private.with_suffix(".crt")
    openssl("req", "-x509", "-key", private, "-subj", f"/CN={name}", "-out", path, *(options or ("-days", "30")))
    return path


def sign_classic(private: Path, challenge: str) -> bytes:
    """PKCS#1 v1.5 type 1 over the text itself. `pkeyutl` does it too, but for nothing that is longer than a hash."""
    text = private.with_suffix(".text")
    text.write_text(challenge)
    return openssl("rsautl", "-sign", "-pkcs", "-inkey", private, "-in", text)


def sign_pss(private: Path, text: bytes) -> bytes:
    options = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
    return openssl("dgst", "-sha256", "-sign", private, *options, stdin=text)


def sign_ed25519(private: Path, text: bytes) -> bytes:
    message = private.with_suffix(".text")
    message.write_bytes(text)
    return openssl("pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", message)
