"""What all tests share: no network, no home folder, the oracles where they are."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, so each has one; set before anything imports numba
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(config, items):
    """Begin with what takes longest where workers share the files, so that none is left with a long one at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: "workflow" not in item.path.parts)


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Return the folder of the larger oracles, or skip with the reason."""
    folder = Path(os.environ.get("CANTLIE_ORACLES", REPOSITORY.parent / "shared" / "oracles"))
    if not folder.is_dir():
        pytest.skip(f"the larger oracles are not at {folder}; set CANTLIE_ORACLES to their folder")
    return folder
