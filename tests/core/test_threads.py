"""Shared work: every item once, in order; within other work; with errors and contexts as if alone."""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextvars import ContextVar

import pytest

from cantlie.core import threads as module
from cantlie.core.threads import shared_out, threads


@pytest.fixture
def four(monkeypatch):
    monkeypatch.setattr(module, "threads", lambda: 4)


def test_results_come_in_the_order_of_the_items(four):
    def slow_first(n):
        time.sleep(0.01 if n == 0 else 0.0)
        return n * n

    assert shared_out(slow_first, range(20)) == [n * n for n in range(20)]
    assert shared_out(slow_first, []) == []


def test_several_threads_work_at_the_same_time(four):
    together = threading.Barrier(4, timeout=20)
    assert sorted(shared_out(lambda _: together.wait(), range(4))) == [0, 1, 2, 3]


def test_work_within_work_ends(four):
    def outer(n):
        return sum(shared_out(lambda m: sum(shared_out(lambda k: n * m * k, range(3))), range(5)))

    assert shared_out(outer, range(30)) == [n * 10 * 3 for n in range(30)]


def test_the_first_error_is_raised_and_later_work_goes_on(four):
    def work(n):
        if n == 3:
            raise ValueError("three")
        return n

    with pytest.raises(ValueError, match="three"):
        shared_out(work, range(1000))
    assert shared_out(work, [1, 2]) == [1, 2]


def test_helpers_see_the_context_of_the_one_who_asks(four):
    device = ContextVar("device", default="cpu")
    token = device.set("cuda")
    try:
        assert set(shared_out(lambda _: (time.sleep(0.002), device.get())[1], range(16))) == {"cuda"}
    finally:
        device.reset(token)


def test_nothing_is_held_on_to_by_helpers_that_were_not_needed(four):
    class Result:
        pass

    gate = threading.Event()
    busy = threading.Thread(target=shared_out, args=(lambda _: gate.wait(20), range(4)))
    busy.start()
    results = shared_out(lambda _: Result(), range(8))
    held = weakref.ref(results[0])
    del results
    found = held()
    gate.set()
    busy.join()
    assert found is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_helpers_of_its_own(four):
    shared_out(time.sleep, [0.0] * 8)
    child = os.fork()
    if child == 0:
        found = shared_out(lambda n: n + 1, range(8))
        os._exit(0 if found == list(range(1, 9)) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_number_of_threads_can_be_lowered(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert 1 <= threads() <= 32
