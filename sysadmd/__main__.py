"""`python -m sysadmd` is the command `sysadmd`."""

from __future__ import annotations

import sys

from sysadmd.cli import main

sys.exit(main())
