"""The table of commands."""

from __future__ import annotations

import click

from sysadmd import __version__
from sysadmd.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "serve": Lazy("sysadmd.cli.serve:serve", "Run the server."),
    "executor": Lazy("sysadmd.cli.executor:executor", "Run the executor, which starts commands for the server."),
    "worker": Lazy("sysadmd.cli.worker:worker", "Run tasks of the server's job queue in a process of its own."),
    "user": Lazy("sysadmd.cli.user:user", "Add, list, disable and remove accounts, set their passwords and roles."),
    "role": Lazy("sysadmd.cli.role:role", "List, set and remove roles: what accounts may do."),
    "token": Lazy("sysadmd.cli.token:token", "Make, list and revoke API tokens."),
    "session": Lazy("sysadmd.cli.session:session", "List who is connected, and end connections."),
    "key": Lazy("sysadmd.cli.key:key", "Register, list, revoke and pin the public keys of people and servers."),
    "bridge": Lazy(
        "sysadmd.cli.bridge:bridge", "Run a bridge, which servers and clients behind NAT dial, and say who may."
    ),
    "job": Lazy("sysadmd.cli.job:job", "Enqueue, list, follow and end jobs."),
    "transfer": Lazy("sysadmd.cli.transfer:transfer", "List, copy, remove and rename files of the configured sites."),
    "call": Lazy("sysadmd.cli.call:call", "Call a method and print its result."),
    "events": Lazy("sysadmd.cli.events:events", "Print events as they come."),
    "status": Lazy("sysadmd.cli.status:status", "Show who answers, and what it is doing."),
    "config": Lazy("sysadmd.cli.config:config", "Check a configuration file."),
    "audit": Lazy("sysadmd.cli.audit:audit", "Show, export and verify the audit trail."),
    "backup": Lazy("sysadmd.cli.backup:backup", "Write database, certificate and configuration to one file."),
    "restore": Lazy("sysadmd.cli.restore:restore", "Bring back what a backup holds."),
    "completion": Lazy("sysadmd.cli.completion:completion", "Print the completion script of a shell."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 1 refused, 2 usage or configuration, 3 cannot connect, 4 connection lost, 130 interrupted.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def app() -> None:
    """A live, authenticated, scriptable control plane for this machine and others.

    Commands talk to the server of the state directory (SYSADMD_STATE_DIR, or the default one) through its Unix socket;
    --server names another.
    """
