"""The certificate that a process shows: the configured pair or its own, on each of its listeners, as it is now."""

from __future__ import annotations

import ssl
from pathlib import Path

import anyio
import structlog

from sysadmd.config import Listen, RelayConfig
from sysadmd.errors import SysadmdError
from sysadmd.keys.certificate import CertificateFiles, check_certificate, ensure_certificate
from sysadmd.keys.tls import reload_certificate, server_context

log = structlog.get_logger(__name__)

CHECK_INTERVAL = 86_400.0
"""Seconds between two looks at the certificate's end."""


class ShownCertificate:
    """What `configured` names, checked, or the self-signed pair in the state directory, made or renewed where that is
    due. `table` is what the configuration calls `configured`.
    """

    def __init__(self, state_dir: Path, configured: Listen | RelayConfig, *, table: str) -> None:
        self.configured = configured
        self._state_dir, self._table = state_dir, table
        self._contexts: list[ssl.SSLContext] = []

    def context(self) -> ssl.SSLContext:
        """A context for one more listener. Raises SysadmdError."""
        files = self._files()
        if not self._contexts:
            log.info("certificate", file=str(files.cert), fingerprint=files.fingerprint)
        made = server_context(files.cert, files.key)
        self._contexts.append(made)
        return made

    def refresh(self) -> None:
        """New connections get the pair as it is now. Raises SysadmdError; then they get the one before."""
        if self._contexts:
            files = self._files()
            for context in self._contexts:
                reload_certificate(context, files.cert, files.key)

    async def renew(self) -> None:
        """A self-signed certificate is renewed before its end. Does not return."""
        while True:
            await anyio.sleep(CHECK_INTERVAL)
            try:
                self.refresh()
            except SysadmdError as error:
                log.warning("certificate", reason=str(error))

    def _files(self) -> CertificateFiles:
        named = self.configured
        if named.certificate is not None and named.key is not None:
            return check_certificate(named.certificate, named.key, table=self._table)
        return ensure_certificate(self._state_dir)
