"""Where dose is computed: on the CPU, or on a GPU through CUDA."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from cantlie.core.errors import DoseError

Device = Literal["auto", "cpu", "cuda"]

_EXTRA = "install the extra: pip install 'cantlie[cuda]'"
_wanted: ContextVar[Device] = ContextVar("device", default="auto")


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU of this machine.

    Parameters
    ----------
    name
        What it calls itself; empty if there is none that works.
    problem
        Why there is none, in a few words; empty if it works.
    simulated
        Whether it is numba's simulator (``NUMBA_ENABLE_CUDASIM=1``): right, but thousands of times slower than a CPU.
    """

    name: str = ""
    problem: str = ""
    simulated: bool = False


@lru_cache(maxsize=1)
def gpu() -> Gpu:
    """Return the GPU of this machine; whether it works is tried out once with a kernel."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        return Gpu("numba's CUDA simulator", simulated=True)
    try:  # much quicker than to load numba's CUDA target, and it decides nearly always
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return Gpu(problem="no CUDA driver was found")
    try:
        from numba import cuda

        if "numba_cuda" not in str(cuda.__file__):  # numba's own, older CUDA target does not compile our kernels
            return Gpu(problem=f"numba-cuda is not installed; {_EXTRA}")
        if not cuda.is_available():
            return Gpu(problem="the CUDA driver finds no GPU")
        from cantlie.dose.cuda_kernels import fill_kernel, launch

        probe = cuda.device_array(32, dtype="float32")
        launch(fill_kernel, 32, probe, 3.0)
        if not (probe.copy_to_host() == 3.0).all():
            return Gpu(problem="a first kernel gave a wrong result")
        name = cuda.get_current_device().name
        return Gpu(name.decode() if isinstance(name, bytes) else str(name))
    except Exception as error:  # whatever a driver, a toolkit or a compiler may raise means: not usable
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Gpu(problem=f"the GPU cannot be used ({text[:120]})")


def device_name(device: Device | None = None) -> str:
    """Return where dose is computed, for the record: ``cpu``, or ``cuda`` with the name of the GPU."""
    return f"cuda ({gpu().name})" if chosen(device) == "cuda" else "cpu"


def check_device(device: Device) -> None:
    """Accept a device that the engine can compute on.

    Raises
    ------
    DoseError
        For ``cuda`` where no GPU can be used.
    """
    if device == "cuda" and gpu().problem:
        raise DoseError(
            f"dose cannot be computed on a GPU here: {gpu().problem}",
            where="--device cuda",
            remedy="use --device auto or cpu",
        )


@contextmanager
def computing_on(device: Device) -> Iterator[None]:
    """Let all dose inside be computed on a device, unless a call says otherwise.

    Raises
    ------
    DoseError
        For ``cuda`` where no GPU can be used.
    """
    check_device(device)
    token = _wanted.set(device)
    try:
        yield
    finally:
        _wanted.reset(token)


def chosen(device: Device | None = None) -> Literal["cpu", "cuda"]:
    """Return where to compute: ``auto`` takes a real GPU if there is one; None asks :func:`computing_on`.

    Raises
    ------
    DoseError
        For ``cuda`` where no GPU can be used.
    """
    wanted = _wanted.get() if device is None else device
    check_device(wanted)
    if wanted == "auto":
        return "cuda" if gpu().name and not gpu().simulated else "cpu"
    return wanted
