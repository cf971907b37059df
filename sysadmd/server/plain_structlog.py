"""structlog, imported without rich, before anything else imports it.

structlog takes rich for its tracebacks wherever that is installed, and so half of rich is imported with it: a tenth of
the time that a start has, for a form of traceback that shows local variables. Ours are plain (logs.py), because local
variables hold passwords.
"""

from __future__ import annotations

import sys

_hide = "rich" not in sys.modules
if _hide:
    sys.modules["rich"] = None  # type: ignore[assignment]  # an import of it fails, as where it is not installed

import structlog  # noqa: E402, F401

if _hide:
    del sys.modules["rich"]
