"""`sysadmd bridge`."""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sysadmd.cli.connection import ConnectionOptions, connection_options
from sysadmd.cli.key_file import public_key
from sysadmd.cli.values import host_port

if TYPE_CHECKING:
    from sysadmd.bridge.keyring import Keyring

SERVER_COLUMNS = {
    "hostname": "Host name",
    "nick": "Nickname",
    "key": "Key",
    "id": "Id",
    "sealed": "Sealed",
    "pinned": "Pinned",
}
SHORT_KEY = 16
"""Digits of a fingerprint in the table: enough to tell two apart, not to compare them."""
KEY_COLUMNS = {"nick": "Nickname", "kind": "Kind", "fingerprint": "Fingerprint", "imported": "Imported"}

PEER_COLUMNS = {
    "nick": "Nickname",
    "role": "Role",
    "hostname": "Host name",
    "address": "Address",
    "since": "Since",
    "pairs": "Pairs",
    "messages": "In/out",
    "queued": "Queued",
}

state_dir_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="State directory of the bridge. [env: SYSADMD_BRIDGE_STATE_DIR]",
)


@click.group()
def bridge() -> None:
    """Run a bridge, which servers and clients behind NAT dial, and say who may."""


@bridge.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one server a line.")
@connection_options
def list_servers(*, as_json: bool, connection: ConnectionOptions) -> None:
    """List the servers that this client reaches through a bridge.

    --server bridge://HOST[:PORT] names the bridge. Of a server that did not answer it is unknown whether its sessions
    are sealed; one whose key "sysadmd key pins" has is pinned. Bridge and servers may say what they like here: a
    session is what proves it.
    """
    import asyncio
    from dataclasses import asdict

    from sysadmd.cli.render import for_people, print_rows

    rows = [asdict(each) for each in asyncio.run(connection.reachable())]
    if for_people() and not as_json:
        answers = {None: "unknown", True: "yes", False: "no"}
        for row in rows:
            row |= {"key": row["key"][:SHORT_KEY], "sealed": answers[row["sealed"]], "pinned": answers[row["pinned"]]}
    print_rows(SERVER_COLUMNS, rows, as_json=as_json)


@bridge.command()
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file (TOML).")
@state_dir_option
@click.option("--listen", type=host_port, metavar="H:P", help="Address of the listener. [default: *:12149]")
@click.option("--no-tls", is_flag=True, help="No TLS; only on loopback addresses.")
def serve(*, config: Path | None, state_dir: Path | None, listen: tuple[str, int] | None, no_tls: bool) -> int:
    """Run the bridge.

    It stays in the foreground until SIGTERM or SIGINT; SIGHUP reads the configuration again. It needs no rights, and
    starts no program. One bridge runs on each state directory, which is not the one of a server.
    """
    gc.disable()  # as `sysadmd serve` does
    from sysadmd.config import default_bridge_dir, load
    from sysadmd.server.bridge import run

    overrides: dict[str, Any] = {"socket.enabled": False}  # that one is the server's
    if state_dir is not None:
        overrides["state_dir"] = str(state_dir)
    if listen is not None:
        overrides["relay.host"], overrides["relay.port"] = listen
    if no_tls:
        overrides["relay.tls"] = False
    default = default_bridge_dir()
    return run(load(config, overrides, state_dir=default), lambda: load(config, overrides, state_dir=default))


@bridge.command()
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one connection a line.")
@state_dir_option
def peers(*, as_json: bool, state_dir: Path | None) -> None:
    """List who is connected to the bridge.

    A nickname is the one of the key that logged in; who has not logged in is not listed. Messages are those that were
    relayed from it and to it, queued are the bytes that wait for it to read.
    """
    from sysadmd.bridge.status import SOCKET, ask
    from sysadmd.cli.render import for_people, print_rows

    path = _directory(state_dir) / SOCKET
    try:
        rows = ask(path)["peers"]
    except OSError as error:
        from sysadmd.client import ConnectFailed

        raise ConnectFailed(f"no bridge answers at {path}: {error.strerror or error}") from None
    if not as_json and for_people():
        rows = [_shown(row) for row in rows]
    print_rows(PEER_COLUMNS, rows, as_json=as_json)


@bridge.group()
def key() -> None:
    """Import, list and remove the keys that log in at the bridge.

    A bridge that runs has a change at once. It lets in who holds one of these keys, and shows to one another a server
    and a client whose lists of keys have one in common.
    """


@key.command("import")
@click.argument("nick")
@click.argument("file", type=click.Path(path_type=Path))
@state_dir_option
def import_(*, nick: str, file: Path, state_dir: Path | None) -> None:
    """Let the holder of a private key in, under the name NICK; its earlier key is let in no more.

    FILE is the public half: what `sysadmd key export --bridge` prints on a server, the file that the graphical client
    exports, a public key in PEM, or an X.509 certificate.
    """
    public = public_key(file)
    _keyring(state_dir).add(nick, public)
    print(f"{nick} may log in at the bridge with the key {public.fingerprint}", file=sys.stderr)


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one key a line.")
@state_dir_option
def list_(*, as_json: bool, state_dir: Path | None) -> None:
    """List the keys that are let in."""
    from sysadmd.cli.render import print_rows

    keys = sorted(_keyring(state_dir).current().values(), key=lambda one: one.nick)
    rows = [
        {
            "nick": one.nick,
            "kind": one.public.kind,
            "fingerprint": one.public.fingerprint,
            "checksum": one.public.checksum,
            "imported": _moment(one.imported),
        }
        for one in keys
    ]
    print_rows(KEY_COLUMNS, rows, as_json=as_json)


@key.command()
@click.argument("nick")
@state_dir_option
def remove(*, nick: str, state_dir: Path | None) -> None:
    """Let NICK in no more; the connections of its key end within a second or two."""
    _keyring(state_dir).remove(nick)


def _keyring(state_dir: Path | None) -> Keyring:
    """The keyring in the directory, by the rights of the directory's owner."""
    from sysadmd.bridge.keyring import DIRECTORY, Keyring
    from sysadmd.cli.owner import become_owner

    directory = _directory(state_dir)
    become_owner(directory)
    return Keyring(directory / DIRECTORY)


def _directory(state_dir: Path | None) -> Path:
    from sysadmd.config import default_bridge_dir

    return (state_dir or default_bridge_dir()).absolute()


def _shown(peer: dict[str, Any]) -> dict[str, Any]:
    """A peer for people: moments and numbers instead of seconds and lists."""
    messages = f"{peer['messages_in']}/{peer['messages_out']}"
    since, pairs = _moment(peer["connected"]), len(peer["paired"])
    return {**peer, "since": since, "pairs": pairs, "messages": messages}


def _moment(seconds: float) -> str:
    """A moment in UTC, for people and programs alike."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
