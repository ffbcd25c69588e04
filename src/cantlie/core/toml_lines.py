"""Where a key stands in a TOML text: its line, so that a wrong value can be shown to the user."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]


def line_numbers(text: str) -> Mapping[KeyPath, int]:
    """Return the line (from 1) of every table, key and array element of a TOML text that is syntactically right.

    Parameters
    ----------
    text
        A TOML 1.0 text that ``tomllib`` accepts; for others the result is whatever was found up to the error.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    with contextlib.suppress(IndexError, ValueError):  # a text that is cut short: what was found so far still holds
        scanner.document()
    return scanner.lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """Return the line of a key path, or of the nearest table or key above it that is written down (else 1)."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Scanner:
    """Walks over the text once, character by character, and notes the line of every key path."""

    def __init__(self, text: str) -> None:
        self.text = text + "\n\0"
        self.position = 0
        self.lines: dict[KeyPath, int] = {}
        self.counts: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self._blank()
            character = self.text[self.position]
            if character == "\0":
                return
            if character == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        is_array = self.text.startswith("[[", self.position)
        line = self._line()
        self.position += 2 if is_array else 1
        keys = self._keys()
        self.position = self.text.index("\n", self.position)
        path: KeyPath = ()
        for depth, key in enumerate(keys):
            path = (*path, key)
            last = depth == len(keys) - 1
            if last and is_array:
                index = self.counts.get(path, -1) + 1
                self.counts[path] = index
                self.lines.setdefault(path, line)
                path = (*path, index)
            elif path in self.counts:
                path = (*path, self.counts[path])
        self.lines.setdefault(path, line)
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self.position = self.text.index("=", self.position) + 1
        self._value(path)

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._spaces()
            character = self.text[self.position]
            if character in "\"'":
                keys.append(self._string())
            else:
                start = self.position
                while self.text[self.position].isalnum() or self.text[self.position] in "-_":
                    self.position += 1
                keys.append(self.text[start : self.position])
            self._spaces()
            if self.text[self.position] != ".":
                return keys
            self.position += 1

    def _value(self, path: KeyPath) -> None:
        self._spaces()
        character = self.text[self.position]
        if character in "\"'":
            self._string()
        elif character == "[":
            self._array(path)
        elif character == "{":
            self._inline_table(path)
        else:
            while self.text[self.position] not in ",]}#\n\0":
                self.position += 1

    def _array(self, path: KeyPath) -> None:
        self.position += 1
        index = 0
        while True:
            self._blank()
            if self.text[self.position] in "]\0":
                self.position += 1
                return
            if self.text[self.position] == ",":
                self.position += 1
                continue
            self.lines.setdefault((*path, index), self._line())
            start = self.position
            self._value((*path, index))
            if self.position == start:
                raise IndexError  # no value stands here
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.position += 1
        while True:
            self._blank()
            if self.text[self.position] in "}\0":
                self.position += 1
                return
            if self.text[self.position] == ",":
                self.position += 1
                continue
            self._pair(path)

    def _string(self) -> str:
        quote = self.text[self.position]
        mark = quote * 3 if self.text.startswith(quote * 3, self.position) else quote
        self.position += len(mark)
        start = self.position
        while not self.text.startswith(mark, self.position):
            self.position += 2 if quote == '"' and self.text[self.position] == "\\" else 1
            if self.position >= len(self.text):
                raise IndexError
        content = self.text[start : self.position]
        self.position += len(mark)
        while len(mark) == 3 and self.text[self.position] == quote:  # up to two quotes may stand before the end mark
            self.position += 1
        return content

    def _spaces(self) -> None:
        while self.text[self.position] in " \t":
            self.position += 1

    def _blank(self) -> None:
        while True:
            if self.text[self.position] in " \t\n":
                self.position += 1
            elif self.text[self.position] == "#":
                self.position = self.text.index("\n", self.position)
            else:
                return

    def _line(self) -> int:
        return self.text.count("\n", 0, self.position) + 1
