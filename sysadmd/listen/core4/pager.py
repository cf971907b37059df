"""Pages, as core4 counts them: from 0, and from the end with negative numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sysadmd.errors import BadRequest

PER_PAGE = 10
PER_PAGE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `page` is the number that it has, not the one that was asked for."""

    rows: Sequence[Any]
    total: int
    page: int
    per_page: int

    @property
    def page_count(self) -> int:
        """Pages that there are."""
        return -(-self.total // self.per_page)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The page that somebody asks for. Raises BadRequest for a size that no page has."""

    page: int = 0
    per_page: int = PER_PAGE

    def __post_init__(self) -> None:
        if not 1 <= self.per_page <= PER_PAGE_MAX:
            raise BadRequest(f"expected 1 to {PER_PAGE_MAX}", path="per_page", rule="range")

    def number(self, total: int) -> int:
        """The page's number from the beginning; one before the first is the first."""
        count = -(-total // self.per_page)
        return self.page if self.page >= 0 else max(count + self.page, 0)

    def span(self, total: int) -> tuple[int, int]:
        """The first row and the number of rows; none after the last page."""
        start = self.number(total) * self.per_page
        return start, max(0, min(self.per_page, total - start))

    def of(self, rows: Sequence[Any]) -> Page:
        """The page of rows that are all there."""
        start, length = self.span(len(rows))
        return Page(rows[start : start + length], len(rows), self.number(len(rows)), self.per_page)

    def holding(self, rows: Sequence[Any], total: int) -> Page:
        """The page whose rows are these."""
        return Page(rows, total, self.number(total), self.per_page)
