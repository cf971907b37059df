"""The server's own log, on standard error: JSON for machines, one coloured line an event for a terminal."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from sysadmd.config import Log

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(options: Log) -> None:
    """Set level and format; may be called again (SIGHUP changes the level)."""
    level = LEVELS[options.level]
    as_json = options.format == "json" or (options.format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Any] = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    if not as_json:
        renderer = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries (websockets, uvicorn, asyncio) log through the standard library; what they say below a warning is noise
    # here.
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.WARNING), force=True, format="%(name)s: %(message)s"
    )
