"""One scan of a file of measured beam data: what its header says, line by line, and its rows of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from cantlie.core.errors import InputError


@dataclass(slots=True)
class Scan:
    """A scan while its file is read.

    Parameters
    ----------
    file, line
        The file and the line on which the scan begins.
    header
        Text and line of each key.
    points
        Rows of numbers.
    """

    file: str
    line: int
    header: dict[str, tuple[str, int]] = field(default_factory=dict)
    points: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def where(self) -> str:
        """Where the scan begins, for messages."""
        return f"{self.file}, line {self.line}"

    def text(self, key: str, default: str = "") -> str:
        """Return what the header says of a key."""
        return self.header.get(key, (default, self.line))[0]

    def positive(self, key: str, shown: str) -> float:
        """Return a number above 0 of the header; ``shown`` is what messages call it.

        Raises
        ------
        InputError
            If it is missing or no such number; names the line.
        """
        if key not in self.header:
            raise InputError(f"the {shown} is missing", where=self.where)
        text, line = self.header[key]
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not value > 0:
            raise InputError(f"{shown} is {text!r}, not a positive number", where=f"{self.file}, line {line}")
        return value
