"""The keys of bridges that were trusted when they were first seen: `known_bridges` in the state directory.

One line for each link, its name and the fingerprint of the key in the bridge's certificate (SHA-256 of the
SubjectPublicKeyInfo, hexadecimal). It is a file that people read and edit: to trust another key, remove the line.
"""

from __future__ import annotations

from pathlib import Path

from sysadmd.errors import StateError
from sysadmd.keys.files import write_file

KNOWN_FILE = "known_bridges"
MAX_FILE = 1024 * 1024


class KnownBridges:
    """The file below a state directory. Read at each use: somebody may have edited it."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / KNOWN_FILE

    def get(self, name: str) -> str | None:
        """The fingerprint that is known for a link. Raises StateError."""
        return self._read().get(name)

    def add(self, name: str, fingerprint: str) -> None:
        """Remember a fingerprint. Raises StateError."""
        known = {**self._read(), name: fingerprint}
        text = "".join(f"{one} {key}\n" for one, key in known.items())
        try:
            write_file(self.path, text.encode("ascii"), 0o600)
        except OSError as error:
            raise StateError(f"{self.path}: {error.strerror}") from error

    def _read(self) -> dict[str, str]:
        try:
            with self.path.open("rb") as file:
                text = file.read(MAX_FILE).decode("ascii", "replace")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StateError(f"{self.path}: {error.strerror}") from error
        lines = [line.split() for line in text.splitlines()]
        return {line[0]: line[1].lower() for line in lines if len(line) == 2 and not line[0].startswith("#")}
