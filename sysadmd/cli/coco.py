"""`coco`: core4's command line over the queue of this machine (spec job-queues §1.11).

One option says what to do, words say to what. It speaks to the server of the state directory through its Unix socket.
What core4 calls a project is a lane here. Its scheduler and applications are parts of `sysadmd serve`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sysadmd import __version__
from sysadmd.cli.lazy import PipeClosed

if TYPE_CHECKING:
    from sysadmd.client import AsyncClient

PROGRAM = "coco"
ACTIONS = {
    "enqueue": "Enqueue a job: its name, then its arguments as KEY=VALUE, KEY:VALUE or one JSON object.",
    "worker": "Run a worker, under a name if one is given.",
    "halt": "Ask all workers to leave after what they run.",
    "pause": "Start nothing new, in one lane if it is named.",
    "resume": "Undo --pause.",
    "alive": "Show the workers.",
    "info": "Count jobs by state, flags and name.",
    "listing": "List the jobs in the queue, in some states if they are named.",
    "detail": "Show all that is known of jobs.",
    "kill": "End jobs.",
    "restart": "Restart jobs.",
    "remove": "Take jobs out of the queue.",
    "jobs": "List the names of jobs that may be enqueued.",
}


class _Command(click.Command):
    def invoke(self, ctx: click.Context) -> Any:
        """Run it; a reader that goes away is told apart from every other failure (see lazy.py)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise PipeClosed from error


def _choice(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(f"--{name}", "actions", flag_value=name, multiple=True, help=text)


@click.command(
    cls=_Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 1 refused, 2 usage or configuration, 3 cannot connect, 4 connection lost, 130 interrupted.",
)
@click.argument("words", metavar="[NAME|ID|LANE|STATE|KEY=VALUE]...", nargs=-1)
@click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="State directory. [env: SYSADMD_STATE_DIR]"
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def coco(ctx: click.Context, words: tuple[str, ...], actions: tuple[str, ...], state_dir: Path | None) -> int:
    """Enqueue jobs and control them, in the words of core4.

    A job is named by its id, the beginning of its id, or its number; a NAME stands for all its jobs in the queue.

    \b
    coco --enqueue core4.queue.helper.job.example.DummyJob sleep=5
    coco --listing running
    coco --kill core4.queue.helper.job.example.DummyJob
    """  # noqa: D301 - \b is the character that keeps click from rewrapping
    if len(actions) != 1:
        given = [f"--{name}" for name in actions or ACTIONS]
        said = f"{' and '.join(given)} exclude each other" if actions else f"one of {', '.join(given)} is needed"
        raise click.UsageError(said, ctx)
    (action,) = actions
    least, most = WORDS[action]
    if not least <= len(words) <= most:
        raise click.UsageError(f"--{action}: {'too many words' if words else 'of what?'}", ctx)
    if action == "worker":
        return _work(words, state_dir)
    from sysadmd.cli import coco_actions

    return _with(state_dir, lambda client: getattr(coco_actions, action)(client, words))


for _name, _text in ACTIONS.items():
    coco = _choice(_name, _text)(coco)

_MANY = 10_000
WORDS = {
    "enqueue": (1, _MANY),
    "worker": (0, 1),
    "halt": (0, 0),
    "pause": (0, 1),
    "resume": (0, 1),
    "alive": (0, 0),
    "info": (0, 0),
    "listing": (0, 8),
    "detail": (1, _MANY),
    "kill": (1, 1000),
    "restart": (1, _MANY),
    "remove": (1, 1000),
    "jobs": (0, 0),
}
"""How many words each action takes."""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` when `args` is None) and return its exit code."""
    from sysadmd.cli.outcome import run

    return run(coco, args, PROGRAM)


def _work(words: Sequence[str], state_dir: Path | None) -> int:
    from sysadmd.cli.worker import worker

    code = worker.callback(name=words[0] if words else None, parallel=None, config=None, state_dir=state_dir)  # type: ignore[misc]  # a command has a callback
    return int(code or 0)


def _with(state_dir: Path | None, act: Callable[[AsyncClient], Awaitable[int | None]]) -> int:
    from urllib.parse import quote

    from sysadmd.client import AsyncClient
    from sysadmd.config import default_state_dir, runtime_socket

    socket = runtime_socket((state_dir or default_state_dir()).absolute())

    async def once() -> int | None:
        async with AsyncClient(f"unix://{quote(str(socket))}") as client:
            return await act(client)

    return asyncio.run(once()) or 0


if __name__ == "__main__":
    sys.exit(main())
