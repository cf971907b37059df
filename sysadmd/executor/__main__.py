"""`python -m sysadmd.executor`."""

import sys

from sysadmd.executor.main import command

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
