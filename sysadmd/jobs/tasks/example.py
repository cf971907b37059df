"""A task to try things with."""

from __future__ import annotations

import time

from sysadmd.jobs.tasks import logger, progress

STEP = 0.25
"""Seconds between two reports."""


class DummyJob:
    """Sleep, and say how far that is: the example job of core4, under its name there."""

    def execute(self, sleep: float = 10.0) -> None:
        """Sleep for `sleep` seconds, reporting as it goes."""
        logger.info("sleeping for %g seconds", sleep)
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < sleep:
            progress(passed / sleep, f"slept {passed:.1f} of {sleep:g} seconds")
            time.sleep(min(STEP, sleep - passed))
        logger.info("slept for %g seconds", sleep)
