"""What every test has: an environment of its own, and an account of what could not run.

Nothing here starts anything. A fixture that needs a running part returns a factory, used as `async with` in the test.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

# A loaded two-core machine is slow at random: a deadline on one example tells nothing. CI's examples are the same each
# time, so that a red run can be repeated; a developer's are not, so that they find something.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# A shell without job control starts what runs in its background with SIGINT ignored, and children inherit that: the
# programs that are started here would not hear of an interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def private_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the state, the configuration or the server of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("SYSADMD_")]:
        # The choice of validator is what a whole run may be about.
        if name != "SYSADMD_VALIDATOR":
            monkeypatch.delenv(name)
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SYSADMD_STATE_DIR", str(home / "state"))


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A test that starts a server in this process sets its log; the stream of that log ends with the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        root.handlers[:], root.level = handlers, level


@pytest.fixture
def repository() -> Path:
    """The top of the tree that is tested."""
    return Path(__file__).resolve().parent.parent


def skip_reasons(reports: list[pytest.TestReport]) -> Iterator[str]:
    """One line for each reason, with the number of tests that gave it."""
    counted: Counter[str] = Counter()
    for report in reports:
        if isinstance(report.longrepr, tuple):
            counted[str(report.longrepr[2]).removeprefix("Skipped: ")] += 1
    for reason, count in sorted(counted.items()):
        yield f"SKIPPED: {reason}" + (f" ({count} tests)" if count > 1 else "")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """What was skipped, after everything else: it is what a reader of a green run still has to know."""
    yield
    lines = list(skip_reasons(terminalreporter.stats.get("skipped", [])))
    if lines:
        terminalreporter.section("could not run here", sep="-", yellow=True)
        for line in lines:
            terminalreporter.write_line(line, yellow=True)
