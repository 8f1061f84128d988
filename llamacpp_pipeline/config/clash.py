"""Values that are right by themselves and wrong together, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Clash:
    """Values that are right by themselves and wrong together."""

    path: tuple[str | int, ...]
    message: str
