"""Networks of a test's own: hosts that are network namespaces of Linux, joined by cables (ip-netns(8), veth(4)).

Nothing here touches the machine's own network: each host has its own interfaces, addresses, routes and rules, which are
all gone at the end. A program runs on a host by `Host.argv`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

MASQUERADE = """
table ip sysadmd {
    chain out {
        type nat hook postrouting priority srcnat;
        oifname "%s" masquerade;
    }
    chain through {
        type filter hook forward priority filter;
        iifname "%s" ct state established,related accept;
        iifname "%s" drop;
    }
}
"""
"""What a home router does: those inside have its address outside, and nobody outside can begin to speak to them."""


def why_not() -> str | None:
    """Why this machine cannot make networks; None: it can."""
    if not sys.platform.startswith("linux"):
        return "not Linux: no network of its own was made"
    if os.getuid() != 0:
        return "not root: no network of its own was made"
    if shutil.which("ip") is None:
        return "ip (iproute2) is not installed: no network of its own was made"
    name = f"sysadmd-try-{secrets.token_hex(3)}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "no network namespace is permitted here: no network of its own was made"
    made = subprocess.run(
        ["ip", "-n", name, "link", "add", "one", "type", "veth", "peer", "name", "other"], capture_output=True
    )
    subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    return "no veth is permitted here: no network of its own was made" if made.returncode else None


def can_masquerade() -> bool:
    """Whether nftables is here; without it those inside are merely not routed to."""
    return shutil.which("nft") is not None


@dataclass(frozen=True)
class Host:
    """A namespace, by its name on this machine."""

    name: str

    def argv(self, *command: str) -> list[str]:
        """The command on this host."""
        return ["ip", "netns", "exec", self.name, *command]

    def ip(self, *words: str) -> None:
        _run("ip", "-n", self.name, *words)

    def masquerade(self, outside: str) -> None:
        """Forward, in the way of a home router whose line is the interface `outside`."""
        _run(*self.argv("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"))
        if can_masquerade():
            _run(*self.argv("nft", "-f", "-"), stdin=MASQUERADE % (outside, outside, outside))

    def slow_down(self, interface: str, rate: str) -> None:
        """What leaves by this interface waits for its turn, for seconds if need be (tc-tbf(8))."""
        bucket = ("rate", rate, "burst", "8kb", "latency", "8s")
        _run("tc", "-n", self.name, "qdisc", "add", "dev", interface, "root", "tbf", *bucket)

    def reaches(self, address: str, port: int) -> bool:
        """Whether a connection to there can be made within a second."""
        probe = f"import socket; socket.create_connection(({address!r}, {port}), 1).close()"
        return subprocess.run(self.argv(sys.executable, "-c", probe), capture_output=True).returncode == 0


@dataclass
class Network:
    """The hosts and cables of one test."""

    mark: str = field(default_factory=lambda: secrets.token_hex(3))
    hosts: list[Host] = field(default_factory=list)

    def host(self, name: str) -> Host:
        host = Host(f"sysadmd-{self.mark}-{name}")
        _run("ip", "netns", "add", host.name)
        self.hosts.append(host)
        host.ip("link", "set", "lo", "up")
        return host

    def cable(self, one: Host, other: Host, names: tuple[str, str], subnet: str) -> None:
        """Join two hosts: `subnet` is the first three numbers of a /24, in which `one` is 1 and `other` 2."""
        peer = ("peer", "name", names[1], "netns", other.name)
        _run("ip", "-n", one.name, "link", "add", "name", names[0], "type", "veth", *peer)
        for number, (host, interface) in enumerate(zip((one, other), names, strict=True), 1):
            host.ip("address", "add", f"{subnet}.{number}/24", "dev", interface)
            host.ip("link", "set", "dev", interface, "up")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """An empty network; its hosts are gone at the end, with all that runs there still running."""
    made = Network()
    try:
        yield made
    finally:
        for host in made.hosts:
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True)


def _run(*argv: str, stdin: str = "") -> None:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
