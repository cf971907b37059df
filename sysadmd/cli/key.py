"""`sysadmd key`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sysadmd.cli.connection import ConnectionOptions, connection_options
from sysadmd.cli.key_file import public_key
from sysadmd.errors import BadRequest, StateError

if TYPE_CHECKING:
    from sysadmd.cli.directory import Directory
    from sysadmd.client import Pinned
    from sysadmd.keys.signing import PublicKey

FINGERPRINT = re.compile(r"[0-9a-fA-F]{64}")
COLUMNS = {
    "account": "Account",
    "nickname": "Nickname",
    "kind": "Kind",
    "fingerprint": "Fingerprint",
    "registered": "Registered",
}

state_dir_option = click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="State directory. [env: SYSADMD_STATE_DIR]"
)


@click.group()
def key() -> None:
    """Register, list, revoke and pin the public keys of people and servers.

    "register", "pin" and "pins" are a client's: they have the connection flags, or need no server. For the others the
    running server is asked through its Unix socket; without one, its database is changed in place.
    """


@key.command("import")
@click.argument("user")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--nick", default="", metavar="NAME", help="What people call the key.")
@click.option("--email", default="", metavar="ADDRESS", help="Whose it is.")
@click.option("--tls", is_flag=True, help="FILE is a certificate, and whoever shows it in a TLS handshake is USER.")
@state_dir_option
def import_(*, user: str, file: Path, nick: str, email: str, tls: bool, state_dir: Path | None) -> None:
    """Let the holder of a private key log in as USER.

    FILE is the public half: a public key in PEM (openssl pkey -pubout), the file that the graphical client exports, or
    an X.509 certificate. As soon as one certificate is registered with --tls, TLS turns clients away that show another.
    """
    from sysadmd.cli.directory import open_directory

    found = public_key(file)
    args = {"user": user, "pub_key": found.registered, "nickname": nick, "email": email}
    if tls:
        if found.certificate is None:
            raise click.UsageError(f"--tls needs a certificate, and {file} is a key")
        args["certificate"] = found.certificate
    with open_directory(state_dir) as directory:
        directory.call("rpc/settings/register_ssl_cert", args)
    print(f"{user} may log in with the key {found.fingerprint}", file=sys.stderr)


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one key a line.")
@state_dir_option
def list_(*, as_json: bool, state_dir: Path | None) -> None:
    """List the registered keys."""
    from sysadmd.cli.directory import open_directory
    from sysadmd.cli.render import print_rows

    with open_directory(state_dir) as directory:
        rows = _rows(directory)
    shown = [{name: value for name, value in row.items() if name != "pub_key"} for row in rows]
    print_rows(COLUMNS, shown, as_json=as_json)


@key.command()
@click.argument("user")
@click.argument("which", metavar="FILE|FINGERPRINT")
@state_dir_option
def revoke(*, user: str, which: str, state_dir: Path | None) -> None:
    """Revoke a key of USER; what it opened ends at once.

    The key is named by its file or by the fingerprint that "sysadmd key list" shows.
    """
    from sysadmd.cli.directory import open_directory

    with open_directory(state_dir) as directory:
        if FINGERPRINT.fullmatch(which):
            rows = [row for row in _rows(directory) if (row["account"], row["fingerprint"]) == (user, which.lower())]
            if not rows:
                raise BadRequest(f"account {user[:40]!r} has no such key")
            wanted = rows[0]["pub_key"]
        else:
            wanted = public_key(Path(which)).registered
        directory.call("rpc/settings/revoke_ssl_cert", {"user": user, "pub_key": wanted})


@key.command()
@click.option("--bridge", is_flag=True, help="The key by which bridges know this server; made where there is none.")
@click.option("--config", type=click.Path(path_type=Path), metavar="CONFIG", help="Read this configuration file.")
@state_dir_option
def export(*, bridge: bool, config: Path | None, state_dir: Path | None) -> None:
    """Print this server's public key in PEM, and its fingerprint on standard error.

    It is the key of the TLS certificate, for clients that pin it. With --bridge it is the one to be imported by
    whoever runs a bridge.
    """
    from sysadmd.config import load

    found = load(config, {"state_dir": str(state_dir)} if state_dir else {})
    if bridge:
        from sysadmd.keys.bridge import bridge_key

        public = bridge_key(found.state_dir).public
        print(f"fingerprint {public.fingerprint}, checksum {public.checksum}", file=sys.stderr, flush=True)
    else:
        public = _certificate(found.listen.certificate or found.state_dir / "server.crt")
    sys.stdout.write(public.pem)


@key.command()
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    required=True,
    help="The private key that is to log in; its public half is registered.",
)
@click.option("--generate", is_flag=True, help="Make FILE if it is not there: Ed25519, readable by you alone.")
@click.option("--rsa", is_flag=True, help="With --generate: RSA-2048, the only kind that the original programs take.")
@click.option("--nick", default="", metavar="NAME", help="What people call the key.")
@click.option("--email", default="", metavar="ADDRESS", help="Whose it is.")
@click.option("--as", "pin_as", metavar="NAME", help="Pin the server under this name instead of its host name.")
@click.option("--replace", is_flag=True, help="The server's key was changed on purpose: forget the old pin.")
@connection_options
def register(
    *,
    key_file: Path,
    generate: bool,
    rsa: bool,
    nick: str,
    email: str,
    pin_as: str | None,
    replace: bool,
    connection: ConnectionOptions,
) -> None:
    """Let a private key of yours log in, and pin the server's key, for sealed sessions through a bridge.

    It needs a connection on which nobody can stand between: wss:// without --insecure, or the Unix socket. Who logs in
    on it is whose key it will be. Pins are kept in known_servers in the XDG configuration directory.

    The public half is printed, to be imported by whoever runs a bridge.
    """
    import asyncio

    from sysadmd.cli.render import safe
    from sysadmd.client.trust import read_key

    if rsa and not generate:
        raise click.UsageError("--rsa needs --generate")
    if connection.insecure:
        raise click.UsageError("--insecure: whoever answered would be the one that is trusted from then on")
    client = connection.client()
    if generate and not key_file.exists():
        _generate(key_file, rsa=rsa)
    if not key_file.exists():
        raise click.UsageError(f"{key_file} does not exist; --generate makes it")

    async def once() -> Pinned:
        async with client:
            return await client.register(key_file, nick, email, pin_as=pin_as, replace=replace)

    pinned = asyncio.run(once())
    said = f"{key_file} may log in; {safe(pinned.name)} is pinned as {pinned.fingerprint}"
    print(said, file=sys.stderr, flush=True)
    sys.stdout.write(read_key(key_file).public.pem)


@key.command()
@click.argument("name")
@click.argument("fingerprint")
@click.option("--replace", is_flag=True, help="The server's key was changed on purpose: forget the old pin.")
def pin(*, name: str, fingerprint: str, replace: bool) -> None:
    """Take this key from the server NAME in sealed sessions, and no other.

    "sysadmd key export --bridge" tells the FINGERPRINT on the server. NAME is how a bridge address names it.
    """
    from sysadmd.client.pins import KnownServers

    KnownServers().pin(name, fingerprint, replace=replace)


@key.command()
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one server a line.")
def pins(*, as_json: bool) -> None:
    """List the pinned servers."""
    from sysadmd.cli.render import print_rows
    from sysadmd.client.pins import KnownServers

    known = KnownServers()
    rows = [{"name": name, "fingerprint": found} for name in known.names() for found in sorted(known.pins(name))]
    print_rows({"name": "Name", "fingerprint": "Fingerprint"}, rows, as_json=as_json)


def _generate(file: Path, *, rsa: bool) -> None:
    """Make a key in a file that is not there."""
    from sysadmd.keys.files import create_file
    from sysadmd.keys.signing import PrivateKey

    create_file(file, PrivateKey.generate("rsa" if rsa else "ed25519").pem, 0o600)


def _certificate(file: Path) -> PublicKey:
    """The key in the server's certificate; says which that is."""
    import ssl

    from sysadmd.keys.certificate import fingerprint

    if not file.exists():
        raise StateError(f"{file}: there is no certificate yet; the first start of the server makes it")
    public = public_key(file)
    assert public.certificate is not None
    shown = fingerprint(ssl.PEM_cert_to_DER_cert(public.certificate))
    print(f"certificate {shown}, its key {public.fingerprint}", file=sys.stderr, flush=True)
    return public


def _rows(directory: Directory) -> list[dict[str, Any]]:
    """Every key: what is shown of it, and `pub_key`."""
    from sysadmd.keys.signing import parse

    rows = []
    for account, keys in directory.call("rpc/settings/list_ssl_certs").items():
        for text, description in keys.items():
            public, said = parse(text), dict(line.split(": ", 1) for line in description.split("\n"))
            row = {"account": account, "nickname": said["Nickname"], "email": said["Email"], "kind": public.kind}
            row |= {"fingerprint": public.fingerprint, "registered": said["Date Registered"], "pub_key": text}
            rows.append(row)
    return rows
