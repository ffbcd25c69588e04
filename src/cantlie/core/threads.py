"""Threads: work shared out to the cores of this machine, by compiled functions that let go of Python's lock.

All work of a process goes through one set of helpers. Whoever shares out work takes part in it, and while it waits for
what helpers have begun it helps others; so work within work (the beams of a plan, the directions of a beam) keeps all
cores busy, and never more, and nobody waits for a helper that waits itself.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

_MOST = 32
_PATIENCE_S = 5e-4
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def threads() -> int:
    """Return how many threads share the work: the cores that this process may use, or fewer by OMP_NUM_THREADS."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wished = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(allowed, _MOST, int(wished) if wished.isdecimal() else _MOST))


def shared_out(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Return the results of a function for some items, in their order, with all cores at work.

    Every item is computed as if alone, so that results do not depend on the number of threads. The first error that
    occurs is raised, once nothing runs any more.
    """
    todo = list(items)
    helpers = min(threads(), len(todo)) - 1
    if helpers < 1:
        return [work(item) for item in todo]
    results: list[_Result | None] = [None] * len(todo)
    errors: list[BaseException] = []
    following = itertools.count()

    def take() -> None:
        while not errors and (place := next(following)) < len(todo):
            try:
                results[place] = work(todo[place])
            except BaseException as error:
                errors.append(error)

    asked = [_helpers.ask(take) for _ in range(helpers)]
    take()
    for task in asked:
        if not task.cancel():  # what has not begun has nothing left to do
            _helpers.help_until(task)
    if errors:
        raise errors[0]
    return cast(list[_Result], results)


def spans(size: int, least: int = 1) -> list[slice]:
    """Return slices that make up a range of a size, each of at least so many items: the same on every machine."""
    count = min(max(size // least, 1), _MOST)
    return [slice(size * n // count, size * (n + 1) // count) for n in range(count)]


class _Task:
    """Something to be done once, or not at all if it is cancelled before; then it holds on to nothing."""

    def __init__(self, work: Callable[[], None]) -> None:
        context = copy_context()
        self._work: Callable[[], Any] | None = lambda: context.run(work)
        self.done: Future[None] = Future()

    def run(self) -> None:
        if self.done.set_running_or_notify_cancel() and self._work is not None:
            self._work()
            self._work = None
            self.done.set_result(None)

    def cancel(self) -> bool:
        if not self.done.cancel():
            return False
        self._work = None
        return True


class _Helpers:
    """Threads that wait for something to do, started when first asked."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin without any: threads do not live on in a process that was forked."""
        self._tasks: SimpleQueue[_Task] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0

    def ask(self, work: Callable[[], None]) -> _Task:
        """Let some helper run a function that raises nothing, with the context of the one who asks."""
        task = _Task(work)
        self._tasks.put(task)
        with self._lock:
            if self._started < threads() - 1:
                self._started += 1
                threading.Thread(target=self._serve, name=f"cantlie-{self._started}", daemon=True).start()
        return task

    def help_until(self, task: _Task) -> None:
        """Do what others have asked for until a task has run."""
        while not task.done.done():
            try:
                self._tasks.get_nowait().run()
            except Empty:
                wait([task.done], _PATIENCE_S)

    def _serve(self) -> None:
        tasks = self._tasks
        while True:
            tasks.get().run()


_helpers = _Helpers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.forget)
