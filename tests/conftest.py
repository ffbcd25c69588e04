"""What all tests share: no network, no home folder, the oracles where they are."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Return the folder of the larger oracles, or skip with the reason."""
    folder = Path(os.environ.get("CANTLIE_ORACLES", REPOSITORY.parent / "shared" / "oracles"))
    if not folder.is_dir():
        pytest.skip(f"the larger oracles are not at {folder}; set CANTLIE_ORACLES to their folder")
    return folder
