"""What `/metrics` answers: the figures of one program and of its process, in the text format of Prometheus (0.0.4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector


class Exposition(ABC):
    """A registry of its own, with the figures of the process and those that `collect` reads when they are asked for.

    `collect` is called when it is registered, too, so what it reads has to be there before.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)

    @abstractmethod
    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
