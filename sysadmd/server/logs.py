"""The server's own log, on standard error: JSON for machines, one coloured line an event for a terminal.

Tracebacks come without local variables, which hold passwords, tokens and the arguments of calls.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from sysadmd.config import Log

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(options: Log) -> None:
    """Set level and format; may be called again (SIGHUP changes the level)."""
    level = LEVELS[options.level]
    as_json = options.format == "json" or (options.format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    structlog.configure(
        processors=[*shared, *(_for_machines() if as_json else _for_people())],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries (websockets, uvicorn, asyncio) log through the standard library; what they say below a warning is noise
    # here.
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.WARNING), force=True, format="%(name)s: %(message)s"
    )


def _for_machines() -> list[Any]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(),
    ]


def _for_people() -> list[Any]:
    """Local time to the second, addresses as one types them."""
    return [
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        _addresses_as_text,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback),
    ]


def _addresses_as_text(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, list) and value and all(isinstance(one, tuple) for one in value):
            event[key] = ", ".join(address_text(one) for one in value)
    return event


def address_text(address: tuple[Any, ...]) -> str:
    """`192.0.2.1:12150` or `[2001:db8::1]:12150`, of what a socket tells (`getsockname`)."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
