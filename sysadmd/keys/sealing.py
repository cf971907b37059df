"""A server's end of sealed sessions, made when somebody first needs it.

Making the key takes tenths of a second and reading it a millisecond, and a server without bridges needs neither until
a client asks for the key's fingerprint. So the first one who asks waits for a thread, and nobody else does.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread

from sysadmd.keys.seal import SealingContext, sealing_context


class Sealing:
    """The sealing context of a state directory. Used on one event loop."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._context: SealingContext | None = None
        self._making = anyio.Lock()

    async def context(self) -> SealingContext:
        """The context, the same one from the first call on. Raises StateError; the next call then tries again."""
        async with self._making:
            if self._context is None:
                self._context = await anyio.to_thread.run_sync(sealing_context, self._state_dir)
            return self._context
