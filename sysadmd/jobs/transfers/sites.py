"""The sites of the configuration by their number, with what they share: threads and connections."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import anyio

from sysadmd.config import SiteConfig
from sysadmd.jobs.transfers.faults import TransferError
from sysadmd.jobs.transfers.file_site import FileSite, Threads
from sysadmd.jobs.transfers.site import Site
from sysadmd.jobs.transfers.tree import Bounds
from sysadmd.limits import Limits

CLOSE = 5.0
"""Seconds that all connections have for ending."""


class Sites:
    """What a worker hands to each attempt. Leaving its context ends the connections.

    A site is made when it is first used, so a host that is down, or an extra that is missing, harms its users only.
    """

    def __init__(self, sites: Mapping[int, SiteConfig], limits: Limits) -> None:
        self._configured, self._limits = dict(sites), limits
        self._made: dict[int, Site] = {}
        self.threads = Threads(limits.transfer_threads)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.move_on_after(CLOSE, shield=True):
            for site in self._made.values():
                await site.aclose()
        self._made.clear()

    def reconfigure(self, sites: Mapping[int, SiteConfig], limits: Limits) -> None:
        """Take another configuration. Attempts that are under way end with the one that they began with."""
        others = _of_sites(limits) != _of_sites(self._limits)
        changed = [number for number in self._made if others or sites.get(number) != self._configured.get(number)]
        for number in changed:
            # Its connection ends by itself when nobody uses it any more.
            del self._made[number]
        self._configured, self._limits = dict(sites), limits
        self.threads.bound(limits.transfer_threads)

    def pretends(self, number: int) -> bool:
        """Whether the site is a dummy. Raises TransferError for a site that there is none."""
        return self._config(number).dummy

    def site(self, number: int) -> Site:
        """The site. Raises TransferError for one that there is none, or that cannot be had here."""
        if number not in self._made:
            self._made[number] = self._make(number, self._config(number))
        return self._made[number]

    def _config(self, number: int) -> SiteConfig:
        if number not in self._configured:
            raise TransferError(f"site {number}", "is not in the configuration")
        return self._configured[number]

    def _make(self, number: int, config: SiteConfig) -> Site:
        bounds = Bounds(self._limits.listing_entries, self._limits.listing_depth)
        if config.ssh is None:
            return FileSite(config.root or "/", bounds, self.threads)
        try:
            from sysadmd.jobs.transfers.ssh_site import SshSite
        except ImportError as error:
            raise TransferError(f"site {number}", "needs the extra `ssh`: pip install 'sysadmd[ssh]'") from error
        return SshSite(config, bounds, self._limits)


def _of_sites(limits: Limits) -> tuple[float, ...]:
    """Those that a site keeps."""
    return limits.listing_entries, limits.listing_depth, limits.ssh_connect, limits.ssh_silence
