"""A run folder: its stages, what they took, and how the same command resumes where it was stopped."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from cantlie.core.errors import OutputError
from cantlie.core.files import write_json
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.provenance import RESEARCH_USE_ONLY, environment, sha256_of_bytes
from cantlie.workflow import archive

T = TypeVar("T")


def key_of(*inputs: Any) -> str:
    """Return a key that changes when any of the JSON-like inputs does."""
    return sha256_of_bytes(json.dumps(inputs, sort_keys=True, default=str).encode())


class RunFolder:
    """The folder of one run.

    ``run.json`` is written when the run starts, after each stage and when it ends, so that it always tells the truth
    about what the folder holds.

    Parameters
    ----------
    path
        Where everything goes.
    command
        The command and its settings, as JSON-like values, for the provenance.
    weights
        Expected share of the time of each stage, in order, for the progress.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        command: dict[str, Any],
        weights: dict[str, float],
        progress: Progress = silent,
    ) -> None:
        self.path = path
        self._weights = weights
        self._progress = progress
        self._done = 0.0
        self._stages: list[dict[str, Any]] = []
        self._run: dict[str, Any] = {
            "status": "running",
            "notice": RESEARCH_USE_ONLY,
            "command": command,
            "provenance": environment(),
            "stages": self._stages,
            "warnings": [],
            "citations": [],
        }
        if path.exists() and not path.is_dir():
            raise OutputError(
                "the output is a file, not a folder", where=str(path), remedy="choose another folder with --out"
            )
        self._write()

    def stage(self, name: str, key: str, work: Callable[[Progress], T], *, keep: bool = True) -> T:
        """Do a stage, or take its result from the folder when the same inputs made it before.

        Parameters
        ----------
        key
            Key of all that the result depends on (`key_of`).
        work
            Does the stage; gets the progress of its share.
        keep
            Whether the result is kept for resuming; stages that only write files are done again.
        """
        total = sum(self._weights.values())
        share = self._weights.get(name, 0.0) / total if total else 0.0
        progress = part(self._progress, self._done, min(self._done + share, 1.0))
        progress(0.0, name)
        kept = self.path / ".stages" / f"{name.replace(' ', '-')}.npz"
        start = time.perf_counter()
        kept_result: T | None = archive.load(kept, key) if keep else None
        resumed = kept_result is not None
        result = work(progress) if kept_result is None else kept_result
        if keep and not resumed:
            archive.save(kept, key, result)
        self._done += share
        progress(1.0, name)
        seconds = round(time.perf_counter() - start, 3)
        self._stages.append({"name": name, "seconds": seconds, "resumed": resumed, "key": key})
        self._write()
        return result

    def skip(self, *names: str) -> None:
        """Count the share of stages that turned out needless as done."""
        self._done += sum(self._weights.get(name, 0.0) for name in names) / sum(self._weights.values())

    def note(self, notes: Iterable[Note]) -> None:
        """Put notes into run.json, each once."""
        for note in notes:
            entry = {"level": note.level, "where": note.where, "message": note.message}
            if entry not in self._run["warnings"]:
                self._run["warnings"].append(entry)

    def cite(self, citations: Iterable[str]) -> None:
        """Put citations into run.json, each once."""
        self._run["citations"] += [c for c in dict.fromkeys(citations) if c not in self._run["citations"]]

    def add_provenance(self, **entries: Any) -> None:
        """Put hashes of inputs and settings into the provenance."""
        self._run["provenance"].update(entries)

    @property
    def record(self) -> dict[str, Any]:
        """What run.json holds now."""
        return self._run

    def __enter__(self) -> Self:
        """Start the run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write how the run ended: done, interrupted by the user, or failed."""
        self.finish("done" if kind is None else "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed")

    def finish(self, status: str = "done") -> None:
        """Write how the run ended: ``done``, ``failed`` or ``interrupted``."""
        self._run["status"] = status
        self._write()

    def clear(self, *names: str) -> None:
        """Remove files and folders of an earlier run, so that nothing stale stands beside new results."""
        for name in names:
            target = self.path / name
            try:
                if target.is_dir():
                    shutil.rmtree(target)
                else:
                    target.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(f"cannot remove an earlier result: {error.strerror}", where=str(target)) from error

    def _write(self) -> None:
        self._run["seconds"] = round(sum(stage["seconds"] for stage in self._stages), 3)
        write_json(self.path / "run.json", self._run)
