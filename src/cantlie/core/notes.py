"""Notes: warnings and facts that travel with a result into the report, instead of being lost in the console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["info", "warning"]


@dataclass(frozen=True, slots=True)
class Note:
    """One remark about a result: what a careful reader must know beside the number."""

    message: str
    where: str = ""
    level: Level = "warning"

    def sentence(self) -> str:
        """Return the note as one line."""
        return f"{self.where}: {self.message}" if self.where else self.message
