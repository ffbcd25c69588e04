"""The CUDA kernels compile for a GPU with the very arguments that the engine gives them; no GPU is needed for that."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cantlie.dose.device import gpu

sys.path.insert(0, str(Path(__file__).parent))
import cuda_example

HOPPER = (9, 0)


class FakeArray(np.ndarray):
    """An array of this machine that is used like one of a GPU."""

    def copy_to_device(self, values):
        """Take values."""
        self[...] = values

    def copy_to_host(self):
        """Return the values; of the bounds of a beam, the whole grid."""
        return np.array(self)


def launches(monkeypatch, *examples):
    """Return the kernels that examples launch, with their arguments; nothing is computed."""
    from cantlie.dose import cuda_arrays, cuda_dose, cuda_kernels

    found = []

    def launch(kernel, _count, *arguments):
        if kernel is cuda_kernels.bounds_kernel:
            active, bounds = arguments
            bounds[:] = [0, active.shape[0] - 1, 0, active.shape[1] - 1, 0, active.shape[2] - 1, active.size]
        found.append((kernel, arguments))

    monkeypatch.setattr(cuda_dose, "launch", launch)
    monkeypatch.setattr(cuda_dose, "launch_block", lambda kernel, *arguments: launch(kernel, 1, *arguments))
    monkeypatch.setattr(cuda_dose, "free_bytes", lambda: 1 << 30)
    monkeypatch.setattr(
        cuda_arrays, "_allocated", lambda shape, dtype: np.zeros(shape, dtype=np.dtype(dtype)).view(FakeArray)
    )
    monkeypatch.setattr(cuda_arrays, "_free", {})
    monkeypatch.setattr("cantlie.dose.collapsed_cone.chosen", lambda _: "cuda")
    for name in examples:
        cuda_example.dose(name, "cuda")
    return found


@pytest.fixture(scope="module")
def compiled():
    """Return the instructions of every kernel, once for each set of types that it is given."""
    if gpu().simulated:
        pytest.skip("numba's simulator compiles nothing")
    from numba import cuda, typeof

    if "numba_cuda" not in cuda.__file__:
        pytest.skip("numba-cuda is not installed (the extra cuda)")
    with pytest.MonkeyPatch.context() as patch:
        # The CPU's functions that kernels call are compiled for the GPU of this machine: say which, if there is none.
        device = SimpleNamespace(compute_capability=HOPPER)
        found = launches(patch, "fine", "refined")
        patch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)
        result = {}
        for kernel, arguments in found:
            types = tuple(typeof(np.asarray(a) if isinstance(a, np.ndarray) else a) for a in arguments)
            name = kernel.py_func.__name__
            if (name, types) not in result:
                fast = bool(kernel.targetoptions.get("fastmath"))
                result[name, types], _ = cuda.compile_ptx(kernel.py_func, types, cc=HOPPER, fastmath=fast)
        return result


def test_every_kernel_that_is_launched_compiles(compiled):
    assert len({name for name, _ in compiled}) >= 15
    for (name, _), text in compiled.items():
        assert ".entry" in text, name
        assert "__local_depot" not in text, name  # no array of a thread's own, in slow memory


def test_kernels_are_compiled_once_for_all_examples(compiled):
    names = [name for name, _ in compiled]
    repeated = {name for name in names if names.count(name) > 1}
    assert not repeated


def test_sweeps_are_in_single_precision_and_flush_denormals(compiled):
    text = {name: text for (name, _), text in compiled.items()}
    assert len(re.findall(r"fma\.rn\.ftz\.f32", text["sweep_kernel"])) > 10
    for name in ("sweep_kernel", "sum_kernel", "means_kernel", "block_kernel"):
        assert ".f64" not in text[name], name


def test_the_host_waits_for_the_gpu_once_a_field_and_once_for_the_dose(monkeypatch):
    if gpu().name:
        pytest.skip("there is a GPU: nothing need be pretended")
    waits = []

    def waiting(array):
        waits.append(array.size)
        return np.array(array)

    monkeypatch.setattr(FakeArray, "copy_to_host", waiting)
    found = launches(monkeypatch, "two fields")
    assert [size for size in waits if size <= 7] == [7, 7]
    assert len(waits) == 3
    assert len(found) < 2 * 45
