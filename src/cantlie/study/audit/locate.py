"""Which line of a TOML file a value stands on, so that a message can name it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_\-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_\-]+))*)\s*=""")


@dataclass(slots=True)
class LineMap:
    """The lines of headers and keys, by path: ``("table", 2, "rows")``."""

    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)

    def line_of(self, path: tuple[str | int, ...]) -> int:
        """Return the line of a path or of the nearest part of it that stands in the file; 0 if none does."""
        for size in range(len(path), 0, -1):
            if path[:size] in self.lines:
                return self.lines[path[:size]]
        return 0


def map_lines(text: str) -> LineMap:
    """Find the line of every header and key of a TOML text (values inside arrays get the line of their key)."""
    found = LineMap()
    counts: dict[str, int] = {}
    prefix: tuple[str | int, ...] = ()
    closing = ""
    depth = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if closing:
            if closing in line:
                closing = ""
            continue
        header = None if depth else _HEADER.match(line)
        if header:
            name = header.group(2).strip().strip("\"'")
            parts: tuple[str | int, ...] = tuple(piece.strip().strip("\"'") for piece in name.split("."))
            if header.group(1) == "[[":
                index = counts.get(name, -1) + 1
                counts[name] = index
                prefix = (*parts, index)
                found.lines.setdefault(parts, number)
            elif len(parts) > 1 and str(parts[0]) in counts:
                prefix = (parts[0], counts[str(parts[0])], *parts[1:])
            else:
                prefix = parts
            found.lines[prefix] = number
            continue
        key = None if depth else _KEY.match(line)
        if key:
            pieces = tuple(piece.strip().strip("\"'") for piece in re.split(r"\s*\.\s*", key.group(1)))
            found.lines.setdefault((*prefix, *pieces), number)
        rest = line[key.end() :] if key else line
        for mark in ("'''", '"""'):
            if rest.count(mark) % 2:
                closing = mark
        if not closing:
            bare = re.sub(r'"[^"]*"|\'[^\']*\'|#.*', "", rest)
            depth = max(0, depth + bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}"))
    return found
