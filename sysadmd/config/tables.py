"""The tables of the configuration as frozen objects. schemas/config.json is the reference of their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from sysadmd.limits import Limits

ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ")
SHIPPED_LANES: Mapping[str, int | None] = MappingProxyType({"no_queue": None, "pkg_queue": 1, "iocage_queue": 1})
SHIPPED_GROUPS: Mapping[str, str] = MappingProxyType({"wheel": "admin", "sudo": "admin", "operator": "operator"})


@dataclass(frozen=True, slots=True)
class Listen:
    """The WebSocket listener."""

    host: str = "*"
    port: int = 12150
    tls: bool = True
    certificate: Path | None = None
    key: Path | None = None
    client_certificates: Literal["auto", "off"] = "auto"
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """The HTTP listener. `trusted_proxies` are addresses and networks in CIDR form."""

    enabled: bool = True
    host: str = "*"
    port: int = 12151
    tls: bool = True
    trusted_proxies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Socket:
    """The Unix socket."""

    path: Path
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class DispatcherConfig:
    """What every command gets. `timeout`: seconds, None for none. `rlimits`: names of setrlimit(2) without RLIMIT_.

    `executor_socket`: of an executor that runs as root, while the server does not; None for one of our own user, with
    its socket in the state directory. `launch_executor`: start such a one where none answers.
    `no_new_privs`: of commands that are run as root, unless the job says otherwise.
    """

    launch_executor: bool = True
    executor_socket: Path | None = None
    no_new_privs: bool = False
    environment: tuple[str, ...] = ENVIRONMENT
    variables: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    rlimits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pam:
    """Log-ins of the machine's accounts. `groups` maps a group of the system to the role of its members."""

    enabled: bool | Literal["auto"] = "auto"
    groups: Mapping[str, str] = field(default_factory=lambda: dict(SHIPPED_GROUPS))
    allow_root: bool = False


@dataclass(frozen=True, slots=True)
class LifePreserverConfig:
    """The log files of lpreserver, and the seconds between two looks at them."""

    logs: tuple[Path, ...] = (Path("/var/log/lpreserver/lpreserver.log"),)
    interval: float = 1.0


@dataclass(frozen=True, slots=True)
class SystemStateConfig:
    """Seconds between two states sent (`interval`) and between two looks (`check`); the commands that are asked."""

    interval: float = 900.0
    check: float = 15.0
    zpool: str = "zpool"
    zfs: str = "zfs"


@dataclass(frozen=True, slots=True)
class JobsConfig:
    """The job queue. `lease`: seconds that a worker holds a step without a word. `task_slots`, `transfer_slots`: steps
    that the server's own worker runs at once; 0 for none. `user`: the account that tasks run as; None: the server's
    own, and `nobody` under root. `max_load` (of the last minute, for each CPU) and `min_memory` (free bytes): beyond
    them a worker claims nothing new; None for no bound.
    """

    lease: float = 30.0
    task_slots: int = 4
    transfer_slots: int = 4
    user: str | None = None
    max_load: float | None = None
    min_memory: int | None = None


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """What is kept of the past: seconds (`_age`) and numbers (`_count`), whichever is less; None for all of it.

    `jobs` are those that left the queue and the dispatcher's finished ones, with their output files.
    """

    jobs_age: float | None = 30 * 86_400.0
    jobs_count: int | None = 100_000
    events_age: float | None = 30 * 86_400.0
    events_count: int | None = 1_000_000


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """A job that is enqueued by the clock. `cron`: five fields. `timezone`: an IANA name; None for the system's."""

    cron: str
    job: str
    args: Mapping[str, object] = field(default_factory=dict)
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """The server's own log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


@dataclass(frozen=True, slots=True)
class BridgeLink:
    """A bridge that the server dials. `ca`: an authority or the bridge's own certificate, and no other is trusted;
    `insecure`: any is.
    """

    url: str
    ca: Path | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class BridgePolicy:
    """Who may come through a bridge. `allow_classic`: the original clients, whose traffic the bridge can read."""

    allow_classic: bool = True


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """The listener of a bridge (`sysadmd bridge serve`). `trusted_proxies` are addresses and networks in CIDR form."""

    host: str = "*"
    port: int = 12149
    tls: bool = True
    certificate: Path | None = None
    key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """A place for files. `root` alone is a directory of this host; with `ssh` (USER@HOST[:PORT]) it is one over there,
    relative to the home directory, which is also its default. `dummy`: pretend. `host_key` and `known_hosts`: which
    server is the right one. `key`: the file of the private key to log in with.
    """

    root: str | None = None
    ssh: str | None = None
    key: Path | None = None
    host_key: str | None = None
    known_hosts: Path | None = None
    dummy: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration in force. `lanes` maps a lane to its parallel processes; None is `limits.lane_parallel`."""

    state_dir: Path
    node: str
    socket: Socket
    listen: Listen = Listen()
    rest: Rest = Rest()
    origins: tuple[str, ...] = ()
    classic: Literal["auto", "always", "never"] = "auto"
    lanes: Mapping[str, int | None] = field(default_factory=lambda: dict(SHIPPED_LANES))
    pam: Pam = field(default_factory=Pam)
    bridge: BridgePolicy = BridgePolicy()
    bridges: Mapping[str, BridgeLink] = field(default_factory=dict)
    sites: Mapping[int, SiteConfig] = field(default_factory=dict)
    relay: RelayConfig = RelayConfig()
    dispatcher: DispatcherConfig = DispatcherConfig()
    jobs: JobsConfig = JobsConfig()
    schedules: Mapping[str, ScheduleConfig] = field(default_factory=dict)
    retention: RetentionConfig = RetentionConfig()
    lifepreserver: LifePreserverConfig = LifePreserverConfig()
    system_state: SystemStateConfig = SystemStateConfig()
    log: Log = Log()
    limits: Limits = field(default_factory=Limits)
