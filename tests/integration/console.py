"""Documentation that is executed: its blocks, how they are run, and how their output is compared.

A page is run from top to bottom in one directory of its own, with the state directory in it. What a block means:

==================================  ====================================================================================
```console                          `$ ` starts a command, `> ` goes on with it; what follows is its output. Each
                                    command is a shell of its own: files stay, variables do not. It must end with 0.
```python                           a script; a ```text block right after it is its output
`<!-- exit: N -->` above            the last command of the block ends with N
`<!-- background -->` above         the block has one command, which goes on until the page ends; the next block is run
                                    when its output is there
`<!-- file: NAME -->` above         any block: its text is written to NAME
`<!-- not run: REASON -->` above    any block: it is left out
==================================  ====================================================================================

In expected output `...` is any text within a line, and as a line of its own any number of lines. The usual ports are
exchanged for free ones, so that a page can show them and still be run beside other servers. A block of another kind is
an error: every block of a page is executed or says why not.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(r"^(`{3,})(\w*)[ \t]*\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(r"<!-- (exit|background|file|not run)(?:: (.*?))? -->\s*$")
PORTS = ("12149", "12150", "12151")
COMMAND_TIMEOUT = 60.0


class TutorialError(AssertionError):
    """A block that does not do what the page says."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block with the directive above it."""

    line: int
    kind: str
    text: str
    directive: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One command and its expected output."""

    command: str
    expected: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in FENCE.finditer(page):
        directive = DIRECTIVE.search(page[: match.start()])
        name, value = (directive[1], directive[2] or "") if directive else ("", "")
        found.append(Block(page.count("\n", 0, match.start()) + 1, match[2], match[3], name, value))
    return found


def steps(block: Block) -> list[Step]:
    """The commands of a console block. Raises `TutorialError` for output before the first command."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif not found:
            raise TutorialError(f"line {block.line}: output without a command: {line!r}")
        elif line.startswith("> ") and not found[-1][1]:
            found[-1][0].append(line[2:])
        else:
            found[-1][1].append(line)
    return [Step("\n".join(command), "\n".join(output)) for command, output in found]


def pattern(expected: str) -> str:
    """The regular expression that expected output stands for."""
    lines = []
    for line in expected.splitlines():
        if line.strip() == "...":
            lines.append(r"(?:[^\n]*\n)*?")
        else:
            lines.append("[^\\n]*".join(re.escape(part) for part in line.rstrip().split("...")) + r"[ \t]*\n")
    return "".join(lines)


def matches(expected: str, output: str) -> bool:
    """Whether output is what was expected; blanks at the ends of lines and of the output do not count."""
    text = output.strip("\n")
    return re.fullmatch(pattern(expected.strip("\n")), text + "\n" if text else "") is not None


def begins(expected: str, output: str) -> bool:
    """Whether a command that still runs has printed what was expected of it."""
    return re.match(pattern(expected.strip("\n")), output) is not None


@dataclass
class Session:
    """A page being run: its directory, its environment, what it left running."""

    directory: Path
    environment: Mapping[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: Mapping[str, str] = field(default_factory=lambda: dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))

    def run(self, page: str) -> int:
        """Run every block; returns how many commands and scripts were run."""
        count, todo = 0, iter(blocks(page))
        waiting = next(todo, None)
        while waiting is not None:
            block, waiting = waiting, next(todo, None)
            if block.directive == "not run":
                continue
            if block.directive == "file":
                (self.directory / block.value).write_text(self.local(block.text))
            elif block.kind == "python":
                expected = None
                if waiting is not None and waiting.kind == "text" and not waiting.directive:
                    expected, waiting = waiting.text, next(todo, None)
                self._script(block, expected)
                count += 1
            elif block.kind == "console":
                count += self._console(block)
            else:
                raise TutorialError(f"line {block.line}: a block of {block.kind or 'no kind'} is not executed")
        return count

    def local(self, text: str) -> str:
        """Text of the page with the ports of this run."""
        for usual, ours in self.ports.items():
            text = re.sub(rf"\b{usual}\b", ours, text)
        return text

    def close(self) -> None:
        """End what goes on in the background, the last one first."""
        for process in reversed(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(COMMAND_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _console(self, block: Block) -> int:
        found = steps(block)
        if block.directive == "background":
            if len(found) != 1:
                raise TutorialError(f"line {block.line}: a background block has one command, not {len(found)}")
            self._background(block, found[0])
            return 1
        for number, step in enumerate(found, 1):
            wanted = int(block.value) if block.directive == "exit" and number == len(found) else 0
            self._check(block, step, self._execute(["sh", "-c", self.local(step.command)]), wanted)
        return len(found)

    def _script(self, block: Block, expected: str | None) -> None:
        done = self._execute([sys.executable, "-c", self.local(block.text)])
        step = Step("the script", done.stdout if expected is None else expected)
        self._check(block, step, done, 0)

    def _execute(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT,
        )

    def _check(self, block: Block, step: Step, done: subprocess.CompletedProcess[str], wanted: int) -> None:
        expected = self.local(step.expected)
        if done.returncode != wanted or not matches(expected, done.stdout):
            raise TutorialError(
                f"line {block.line}: {step.command}\n--- expected, exit {wanted}\n{expected}\n"
                f"--- came, exit {done.returncode}\n{done.stdout}"
            )

    def _background(self, block: Block, step: Step) -> None:
        log = self.directory / f"background-{block.line}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {self.local(step.command)}"],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(process)
        deadline = time.monotonic() + COMMAND_TIMEOUT
        while not begins(self.local(step.expected), log.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TutorialError(
                    f"line {block.line}: {step.command}\n--- expected\n{self.local(step.expected)}\n"
                    f"--- came, exit {process.returncode}\n{log.read_text()}"
                )
            time.sleep(0.05)


@contextlib.contextmanager
def session(directory: Path, environment: Mapping[str, str]) -> Iterator[Session]:
    """A session whose background commands end with it. Programs of this environment are found first."""
    path = f"{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}"
    state = {
        "SYSADMD_STATE_DIR": str(directory / "state"),
        "HOME": str(directory),
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
    }
    opened = Session(directory, {**environment, **state, "PATH": path})
    try:
        yield opened
    finally:
        opened.close()


def free_ports(count: int) -> list[str]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [str(sock.getsockname()[1]) for sock in sockets]
