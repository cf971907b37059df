"""The configuration: a TOML file, checked against schemas/config.json, as frozen objects.

`schemas/config.json` is the reference of every key: its type, range, default and description; the documentation is made
from it. document.py reads and checks the document, tables.py has the objects. Here are the rules that a schema cannot
state: defaults that depend on the machine, and what two keys must be together. What costs time to import waits until
there is something to read, so that a start without a file pays nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from sysadmd.config import document
from sysadmd.config.tables import (
    SHIPPED_LANES,
    BridgeLink,
    BridgePolicy,
    Config,
    DispatcherConfig,
    JobsConfig,
    LifePreserverConfig,
    Listen,
    Log,
    Pam,
    RelayConfig,
    Rest,
    RetentionConfig,
    ScheduleConfig,
    SiteConfig,
    Socket,
    SystemStateConfig,
)
from sysadmd.limits import Limits

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "BridgeLink",
    "BridgePolicy",
    "Change",
    "Config",
    "DispatcherConfig",
    "JobsConfig",
    "LifePreserverConfig",
    "Listen",
    "Log",
    "Pam",
    "RelayConfig",
    "Rest",
    "RetentionConfig",
    "ScheduleConfig",
    "SiteConfig",
    "Socket",
    "SystemStateConfig",
    "default_bridge_dir",
    "default_state_dir",
    "diff",
    "is_loopback",
    "load",
    "reloadable",
    "reloaded",
    "root_executor_dir",
    "root_state_dir",
    "runtime_socket",
    "schemas_root",
]
T = TypeVar("T", bound="DataclassInstance")
MAX_SOCKET_PATH = 103  # sun_path holds 104 bytes with its end on FreeBSD, 108 on Linux
NOTHING: Mapping[str, Any] = MappingProxyType({})

RELOADABLE = frozenset(
    {
        "bridge.*",
        "bridges",
        "classic",
        "dispatcher.*",
        "jobs.lease",
        "lanes",
        "limits.*",
        "listen.certificate",
        "listen.client_ca",
        "listen.client_certificates",
        "listen.key",
        "log.level",
        "origins",
        "pam.*",
        "relay.certificate",
        "relay.key",
        "relay.trusted_proxies",
        "rest.trusted_proxies",
        "retention.*",
        "schedules",
        "sites",
    }
)
"""Keys that SIGHUP applies, `*` for a whole table; every other change waits for a restart."""
FIXED = frozenset(
    {
        "dispatcher.executor_socket",
        "dispatcher.launch_executor",
        "limits.connections",
        "limits.handshake_timeout",
        "limits.ring_bytes",
        "limits.ring_events",
        "limits.tls_buffer",
    }
)
"""Keys of such a table that are read once, when a server starts."""


@dataclass(frozen=True, slots=True)
class Change:
    """One key that differs between two configurations. `reloadable`: SIGHUP applies it."""

    key: str
    old: object
    new: object
    reloadable: bool


def load(path: Path | None = None, overrides: Mapping[str, Any] = NOTHING, *, state_dir: Path | None = None) -> Config:
    """The configuration of the file at `path` (None: defaults), with `overrides` (dotted or nested keys) over it.

    `state_dir`: the directory where neither says which; None for the default one of a server. Raises ConfigError.
    Overrides come from our own command line, whose parser checked their types; their keys and what values must be
    together are checked here like those of a file.
    """
    tables: dict[str, Any] = {}
    command_line = document.Source("command line", Path.cwd())
    source = document.Source(str(path), path.absolute().parent) if path else command_line
    if path or overrides:
        schema = document.load_schema(schemas_root())
        if path:
            tables = source.coerced(document.read(path, source), schema)
            document.check(tables, schema, source)
        document.merge(tables, command_line.coerced(document.nested(overrides), schema))
    config = _assemble(tables, state_dir)
    _check_together(config, source)
    return config


def default_state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """SYSADMD_STATE_DIR, else root's directory for uid 0, else the one of the XDG base directory specification."""
    if named := environ.get("SYSADMD_STATE_DIR"):
        return Path(named).absolute()
    if os.geteuid() == 0:
        return root_state_dir()
    base = Path(environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():  # the specification has a relative one ignored
        base = Path(environ.get("HOME") or Path.home(), ".local", "state")
    return base / "sysadmd"


def default_bridge_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """SYSADMD_BRIDGE_STATE_DIR, else the directory `sysadmd-bridge` beside the default one of a server."""
    if named := environ.get("SYSADMD_BRIDGE_STATE_DIR"):
        return Path(named).absolute()
    server = default_state_dir({name: value for name, value in environ.items() if name != "SYSADMD_STATE_DIR"})
    return server.with_name("sysadmd-bridge")


def root_executor_dir() -> Path:
    """The directory of an executor that runs as root for a server that does not."""
    return root_state_dir().with_name("sysadmd-executor")


def root_state_dir() -> Path:
    """The default state directory of root on this system (hier(7), FHS 3.0 §5.8)."""
    return Path("/var/db/sysadmd" if sys.platform.startswith("freebsd") else "/var/lib/sysadmd")


def runtime_socket(state_dir: Path) -> Path:
    """The Unix socket of the server on `state_dir`: in the run directory for root's default one, else inside it."""
    if state_dir == root_state_dir():
        run = "/var/run" if sys.platform.startswith("freebsd") else "/run"
        return Path(run, "sysadmd", "sysadmd.sock")
    return state_dir / "sysadmd.sock"


def schemas_root() -> Path:
    """The directory schemas/: the copy inside an installed package, else the one beside the package in a checkout."""
    here = Path(__file__).resolve().parent.parent
    packaged = here / "schemas"
    return packaged if packaged.is_dir() else here.parent / "schemas"


def reloadable(key: str) -> bool:
    """Whether SIGHUP applies a change of `key`, such as `limits.drain`."""
    return key not in FIXED and (key in RELOADABLE or f"{key.partition('.')[0]}.*" in RELOADABLE)


def diff(old: Config, new: Config) -> tuple[Change, ...]:
    """The keys whose values differ, in the order of `Config`."""
    before = dict(_flat_config(old))
    return tuple(Change(k, before[k], v, reloadable(k)) for k, v in _flat_config(new) if before[k] != v)


def reloaded(old: Config, new: Config) -> Config:
    """`old` with those changes of `new` that SIGHUP applies."""
    result = old
    for change in diff(old, new):
        if not change.reloadable:
            continue
        table, _, key = change.key.partition(".")
        value: Any = replace(getattr(result, table), **{key: change.new}) if key else change.new
        result = replace(result, **{table: value})
    return result


def _assemble(given: Mapping[str, Any], default: Path | None = None) -> Config:
    """The object of a checked document, with the defaults that depend on the machine or on other keys."""
    tables: dict[str, Any] = dict(given)
    state_dir = Path(tables.get("state_dir") or default or default_state_dir())
    listen = _built(Listen, tables.get("listen", {}))
    rest = _built(Rest, {"host": listen.host, "tls": listen.tls, **tables.get("rest", {})})
    socket = _built(Socket, {"path": runtime_socket(state_dir), **tables.get("socket", {})})
    lanes = {name: None if n == "parallel" else n for name, n in tables.get("lanes", {}).items()}
    return _built(
        Config,
        {
            **tables,
            "state_dir": state_dir,
            "node": tables.get("node") or os.uname().nodename.partition(".")[0] or "localhost",
            "socket": socket,
            "listen": listen,
            "rest": rest,
            "lanes": {**SHIPPED_LANES, **lanes},
            "pam": _built(Pam, tables.get("pam", {})),
            "bridge": _built(BridgePolicy, tables.get("bridge", {})),
            "bridges": {name: _built(BridgeLink, one) for name, one in tables.get("bridges", {}).items()},
            "sites": {int(number): _built(SiteConfig, one) for number, one in tables.get("sites", {}).items()},
            "relay": _built(RelayConfig, tables.get("relay", {})),
            "dispatcher": _built(DispatcherConfig, tables.get("dispatcher", {})),
            "jobs": _built(JobsConfig, tables.get("jobs", {})),
            "schedules": {name: _built(ScheduleConfig, one) for name, one in tables.get("schedules", {}).items()},
            "retention": _built(RetentionConfig, tables.get("retention", {})),
            "lifepreserver": _built(LifePreserverConfig, tables.get("lifepreserver", {})),
            "system_state": _built(SystemStateConfig, tables.get("system_state", {})),
            "log": _built(Log, tables.get("log", {})),
            "limits": _built(Limits, tables.get("limits", {})),
        },
    )


def _built(kind: type[T], table: Mapping[str, Any]) -> T:
    """A frozen object of `table`: arrays become tuples, texts paths and integers floats where its fields say so."""
    values: dict[str, Any] = {}
    for one in fields(kind):
        if one.name not in table:
            continue
        value, wanted = table[one.name], str(one.type)
        if isinstance(value, list):
            value = tuple(Path(item) if "Path" in wanted else item for item in value)
        elif "Path" in wanted and value is not None:
            value = Path(value)
        elif wanted.startswith("float") and value is not None:
            value = float(value)
        values[one.name] = value
    return kind(**values)


def _check_together(config: Config, source: document.Source) -> None:
    """The rules between keys, and those that need more than a schema."""
    _check_listeners(config, source)
    limits = config.limits
    if config.socket.enabled and len(os.fsencode(config.socket.path)) > MAX_SOCKET_PATH:
        raise source.error("socket.path", str(config.socket.path), f"must be at most {MAX_SOCKET_PATH} bytes")
    for name, link in config.bridges.items():
        if link.ca is not None and link.insecure:
            raise source.error(f"bridges.{name}.insecure", True, f"contradicts bridges.{name}.ca")
        if not _is_address(link.url):
            raise source.error(f"bridges.{name}.url", link.url, "must be wss://HOST[:PORT]")
    for name, schedule in config.schedules.items():
        _check_schedule(f"schedules.{name}", schedule, source)
    for number, site in config.sites.items():
        _check_site(f"sites.{number}", site, source)
    if limits.token_idle > limits.token_absolute:
        raise source.error("limits.token_idle", limits.token_idle, "must be at most limits.token_absolute")
    if limits.frame_unauthenticated > limits.frame_authenticated:
        rule = "must be at most limits.frame_authenticated"
        raise source.error("limits.frame_unauthenticated", limits.frame_unauthenticated, rule)


def _check_listeners(config: Config, source: document.Source) -> None:
    listen, rest, relay = config.listen, config.rest, config.relay
    for name, one in (("listen", listen), ("rest", rest), ("relay", relay)):
        if not 0 <= one.port <= 65535:
            raise source.error(f"{name}.port", one.port, "must be a port, 0 to 65535")
        if not one.tls and not is_loopback(one.host):
            raise source.error(f"{name}.tls", False, f"needs a loopback address, and {name}.host is {one.host!r}")
    if rest.enabled and listen.port and (listen.host, listen.port) == (rest.host, rest.port):
        raise source.error("rest.port", rest.port, "is listen.port already")
    for name, pair in (("listen", listen), ("relay", relay)):
        if (pair.certificate is None) != (pair.key is None):
            missing, given = ("key", "certificate") if pair.certificate else ("certificate", "key")
            raise source.error(f"{name}.{missing}", None, f"is needed together with {name}.{given}")
    for name, proxies in (("rest", rest.trusted_proxies), ("relay", relay.trusted_proxies)):
        for network in proxies:
            _check_network(f"{name}.trusted_proxies", network, source)


def _check_schedule(key: str, schedule: ScheduleConfig, source: document.Source) -> None:
    from sysadmd.config import cron

    for name, value, check in (("cron", schedule.cron, cron.check_cron), ("timezone", schedule.timezone, cron.zone_of)):
        try:
            if value is not None:
                check(value)
        except ValueError as error:
            raise source.error(f"{key}.{name}", value, str(error)) from None


def _check_site(key: str, site: SiteConfig, source: document.Source) -> None:
    """A directory here, one behind SSH, or a pretence; and of a server it must be known that it is the right one."""
    pins = {"host_key": site.host_key, "known_hosts": site.known_hosts}
    if site.dummy or site.ssh is None:
        for name, value in {"ssh": site.ssh, "key": site.key, **pins}.items():
            if value is not None:
                raise source.error(f"{key}.{name}", str(value), "belongs to a site with ssh, which is no dummy")
        if site.dummy == (site.root is not None):
            raise source.error(key, None, "must have one of root, ssh and dummy")
        if site.root is not None and not site.root.startswith("/"):
            raise source.error(f"{key}.root", site.root, "must be an absolute path")
        return
    if site.key is None:
        raise source.error(f"{key}.key", None, f"is needed together with {key}.ssh")
    if sum(value is not None for value in pins.values()) != 1:
        raise source.error(key, None, "must have one of host_key and known_hosts")
    port = site.ssh.rpartition("]")[2].rpartition(":")[2] if ":" in site.ssh.rpartition("]")[2] else "22"
    if not 0 < int(port) <= 65535:
        raise source.error(f"{key}.ssh", site.ssh, "must be USER@HOST[:PORT]")


def _check_network(key: str, text: str, source: document.Source) -> None:
    from ipaddress import ip_network

    try:
        ip_network(text)
    except ValueError:
        rule = "must be an address or a network such as 10.0.0.0/8, without host bits"
        raise source.error(key, text, rule) from None


def _is_address(url: str) -> bool:
    """Whether what has the form of a bridge's address is one: a form does not tell 65535 from 65536."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url if "://" in url else f"wss://{url}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine alone."""
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _flat_config(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for one in fields(config):
        value = getattr(config, one.name)
        if is_dataclass(value):
            yield from _flat_config(value, f"{prefix}{one.name}.")
        else:
            yield f"{prefix}{one.name}", value
