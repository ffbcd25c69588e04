"""Progress and cancellation: how long work tells its caller where it is, and how it is told to stop."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by long work with the fraction done (0 to 1) and a word on what it is at.

    To cancel the work, the callable raises (the command line raises KeyboardInterrupt); the work leaves nothing
    half-written behind.
    """

    def __call__(self, fraction: float, message: str = "") -> None: ...


def silent(fraction: float, message: str = "") -> None:
    """Ignore progress."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """Return a progress that fills only the share from ``start`` to ``stop`` of another."""

    def report(fraction: float, message: str = "") -> None:
        progress(start + (stop - start) * min(max(fraction, 0.0), 1.0), message)

    return report
