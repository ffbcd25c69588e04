"""CPU and GPU: the same kernels give the same dose; without a GPU the GPU path runs in numba's simulator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.errors import DoseError
from cantlie.dose.device import Gpu, chosen, computing_on, device_name, gpu

sys.path.insert(0, str(Path(__file__).parent))
import cuda_example


def simulated(tmp_path, *examples):
    """Return the doses of examples, computed by the CUDA kernels in numba's simulator in a process of its own."""
    script = Path(cuda_example.__file__)
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, str(script), str(tmp_path), *examples]
    subprocess.run(command, env=environment, check=True, timeout=600)
    return [np.load(tmp_path / f"{name}.npy") for name in examples]


def agrees(on_gpu, name):
    on_cpu = cuda_example.dose(name, "cpu")
    assert on_cpu.max() > 0.01  # Gy: not nothing
    assert on_gpu.shape == on_cpu.shape
    assert np.abs(on_gpu - on_cpu).max() < 1e-3 * on_cpu.max()


def test_cuda_kernels_in_the_simulator_give_the_dose_of_the_cpu(tmp_path):
    names = ("fine", "refined")
    for dose, name in zip(simulated(tmp_path, *names), names, strict=True):
        agrees(dose, name)


@pytest.mark.slow
def test_larger_grids_and_turned_beams_in_the_simulator(tmp_path):
    names = ("oblique", "two fields", "influence")
    for dose, name in zip(simulated(tmp_path, *names), names, strict=True):
        agrees(dose, name)


@pytest.mark.skipif(not gpu().name or gpu().simulated, reason="no GPU")
@pytest.mark.parametrize("name", cuda_example.EXAMPLES)
def test_a_real_gpu_gives_the_dose_of_the_cpu(name):
    agrees(cuda_example.dose(name, "cuda"), name)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("cantlie.dose.device.gpu", lambda: Gpu(problem="no CUDA driver was found"))


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(no_gpu):
    assert chosen("auto") == chosen() == "cpu"
    assert device_name() == "cpu"
    with pytest.raises(DoseError, match="no CUDA driver was found"):
        chosen("cuda")
    with pytest.raises(DoseError, match="GPU"), computing_on("cuda"):
        pass


def test_with_a_gpu_auto_is_cuda_and_the_cpu_can_be_asked_for(monkeypatch):
    monkeypatch.setattr("cantlie.dose.device.gpu", lambda: Gpu("Some GPU"))
    assert chosen() == "cuda"
    assert device_name() == "cuda (Some GPU)"
    with computing_on("cpu"):
        assert chosen() == "cpu"
        assert chosen("cuda") == "cuda"
    assert chosen() == "cuda"


def test_auto_never_takes_the_simulator(monkeypatch):
    monkeypatch.setattr("cantlie.dose.device.gpu", lambda: Gpu("simulator", simulated=True))
    assert chosen() == "cpu"
    assert chosen("cuda") == "cuda"
