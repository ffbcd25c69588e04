"""Arrays on a GPU, lent from a store: to allocate and free them takes longer than most of what is computed in them."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import DTypeLike, NDArray

from cantlie.core.errors import DoseError

_MOST_FREE_BYTES = 3 << 30

_free: dict[tuple[tuple[int, ...], str], list[Any]] = {}
_free_bytes = 0
_lock = threading.Lock()


class CudaArrays:
    """Arrays lent until they are given back together, when this is closed or forgotten.

    Everything runs on the default stream, so that whoever gets an array next uses it after those before.
    """

    def __init__(self) -> None:
        self._lent: list[Any] = []

    def __enter__(self) -> CudaArrays:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def of(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> Any:
        """Return an array of a shape and type, whatever stands in it.

        Raises
        ------
        DoseError
            If there is no room for it on the GPU.
        """
        global _free_bytes
        key = (tuple(int(n) for n in shape), np.dtype(dtype).str)
        with _lock:
            waiting = _free.get(key)
            array = waiting.pop() if waiting else None
            if array is not None:
                _free_bytes -= _size(array)
        if array is None:
            array = _allocated(*key)
        self._lent.append(array)
        return array

    def copy(self, values: NDArray[Any]) -> Any:
        """Return an array with values of this machine."""
        array = self.of(values.shape, values.dtype)
        array.copy_to_device(np.ascontiguousarray(values))
        return array

    def close(self) -> None:
        """Give all back."""
        global _free_bytes
        lent, self._lent = self._lent, []
        with _lock:
            for array in lent:
                if _free_bytes + _size(array) > _MOST_FREE_BYTES:
                    _free.clear()
                    _free_bytes = 0
                _free.setdefault((tuple(array.shape), np.dtype(array.dtype).str), []).append(array)
                _free_bytes += _size(array)


def free_bytes() -> int:
    """Return how much memory of the GPU is free."""
    return int(cuda.current_context().get_memory_info()[0])


def _size(array: Any) -> int:
    return int(np.prod(array.shape)) * int(np.dtype(array.dtype).itemsize)


def _allocated(shape: tuple[int, ...], dtype: str) -> Any:
    global _free_bytes
    try:
        return cuda.device_array(shape, np.dtype(dtype))
    except Exception:  # no room: whatever a driver raises; once more, without what nobody uses
        with _lock:
            _free.clear()
            _free_bytes = 0
    try:
        return cuda.device_array(shape, np.dtype(dtype))
    except Exception as error:
        raise DoseError(
            f"the memory of the GPU is full ({np.prod(shape) * np.dtype(dtype).itemsize / 1e6:.0f} MB more are needed)",
            where="--device",
            remedy="use --device cpu, or end what else runs on the GPU",
        ) from error
