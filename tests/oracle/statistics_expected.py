"""Expected numbers of an oracle case, of which every one must be compared: what is left over fails the test."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

REMARKS = ("note", "_note", "notes")


class Expected:
    """A view into a case's expected values that remembers which of them were compared."""

    def __init__(self, values: Any, rel: float, path: str = "", open_: set[str] | None = None) -> None:
        self.values, self.rel, self.path = values, rel, path
        self.open: set[str] = set(_leaves(values, path)) if open_ is None else open_

    def __getitem__(self, key: Any) -> "Expected":
        return Expected(self.values[key], self.rel, f"{self.path}/{key}", self.open)

    def __contains__(self, key: Any) -> bool:
        return key in self.values

    def part(self, key: Any, default: Any) -> Any:
        """Return a part, or what is given where the case has none."""
        return Expected(self.values[key], self.rel, f"{self.path}/{key}", self.open) if key in self else default

    def __iter__(self) -> Iterable[Any]:
        return iter(self.values if isinstance(self.values, dict) else range(len(self.values)))

    def done(self) -> None:
        """Count everything below as compared."""
        self.open -= {leaf for leaf in self.open if leaf == self.path or leaf.startswith(self.path + "/")}

    def is_(self, actual: Any, *, rel: float | None = None, floor: float = 1e-15) -> None:
        """Compare a value or a list of values; None stands for what is undefined or infinite."""
        rel = self.rel if rel is None else rel
        if isinstance(self.values, list):
            actual = list(actual)
            assert len(actual) == len(self.values), f"{self.path}: {len(actual)} values for {len(self.values)}"
            pairs = list(zip(actual, self.values, strict=True))
        else:
            pairs = [(actual.item() if isinstance(actual, np.ndarray) else actual, self.values)]
        for position, (got, wanted) in enumerate(pairs):
            place = f"{self.path}[{position}]"
            if isinstance(wanted, list):
                self[position].is_(got, rel=rel, floor=floor)
            elif wanted is None:
                assert got is None or not math.isfinite(got), f"{place}: {got} where R has none"
            elif isinstance(wanted, str | bool):
                assert got == wanted, f"{place}: {got!r}, not {wanted!r}"
            else:
                assert got is not None and abs(float(got) - wanted) <= max(rel * abs(wanted), floor), (
                    f"{place}: {got!r}, not {wanted!r}"
                )
        self.done()

    def all_compared(self) -> None:
        """Fail if a value was left out; remarks do not count."""
        left = sorted(leaf for leaf in self.open if not leaf.rsplit("/", 1)[-1].endswith(REMARKS))
        assert not left, f"{len(left)} expected values were not compared: {left[:12]}"


def _leaves(values: Any, path: str) -> Iterable[str]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from _leaves(value, f"{path}/{key}")
    elif isinstance(values, list) and any(isinstance(value, dict | list) for value in values):
        for position, value in enumerate(values):
            yield from _leaves(value, f"{path}/{position}")
    else:
        yield path


def same_digits(actual: float, printed: float) -> bool:
    """Say whether a number agrees with one rounded to two significant digits (0 for anything below 1e-15)."""
    if printed == 0:
        return actual < 2e-15
    digits = 1 - int(np.floor(np.log10(abs(printed))))
    return abs(actual - printed) <= 0.5000001 * 10.0**-digits
