"""A kept stage comes back as it was, and nothing else comes out of the file."""

import json

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.workflow import archive


def test_a_tree_of_dataclasses_comes_back_as_it_was(tmp_path):
    volume = Volume(
        Grid((2, 3, 4), (1.0, 2.0, 3.0), (0.0, -1.0, 5.0)), np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    )
    value = {"dose": (volume, Note("a", "b")), "names": ["x", None, True, 1.5], 3: np.float32(2.0)}
    archive.save(tmp_path / "s.npz", "key", value)
    back = archive.load(tmp_path / "s.npz", "key")
    assert back["dose"][0].grid == volume.grid
    np.testing.assert_array_equal(back["dose"][0].values, volume.values)
    assert back["dose"][0].values.dtype == np.float32
    assert back["dose"][1] == Note("a", "b")
    assert back["names"] == ["x", None, True, 1.5]
    assert back[3] == 2.0


def test_other_inputs_or_a_damaged_file_count_as_not_there(tmp_path):
    path = tmp_path / "s.npz"
    archive.save(path, "key", (1, 2))
    assert archive.load(path, "another key") is None
    path.write_bytes(path.read_bytes()[:-40])
    assert archive.load(path, "key") is None
    assert archive.load(tmp_path / "missing.npz", "key") is None


@pytest.mark.parametrize("name", ["os:system", "cantlie.workflow.archive:save", "cantlie.core.files:os.system"])
def test_a_crafted_file_builds_nothing_but_dataclasses(tmp_path, name):
    tree = {"key": "key", "value": {"type": name, "fields": {}}}
    np.savez(tmp_path / "s.npz", tree=np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8))
    assert archive.load(tmp_path / "s.npz", "key") is None


def test_what_cannot_be_kept_is_refused(tmp_path):
    with pytest.raises(TypeError, match="cannot be kept"):
        archive.save(tmp_path / "s.npz", "key", {"f": object()})
    assert not list(tmp_path.iterdir())
