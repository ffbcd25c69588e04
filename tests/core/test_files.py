"""Atomic files: whole or not at all, and one clear sentence when they cannot be written or read."""

import json

import numpy as np
import pytest

from cantlie.core.errors import CantlieError, InputError, OutputError
from cantlie.core.files import atomic_path, read_text, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / "f" / "a.txt", "x")


def test_json_takes_numpy_and_writes_null_for_nan(tmp_path):
    write_json(tmp_path / "a.json", {"a": np.float32(1.5), "b": np.arange(2), "c": float("nan"), "d": "µ"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1.5, "b": [0, 1], "c": None, "d": "µ"}


def test_a_file_that_is_not_text_is_refused_by_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"curve is not a UTF-8 text file.*a\.csv"):
        read_text(tmp_path / "a.csv", "curve")
    with pytest.raises(InputError, match=r"cannot be read.*b\.csv"):
        read_text(tmp_path / "b.csv", "curve")


def test_an_error_says_what_where_and_what_to_do():
    error = CantlieError("it broke.", where="here", remedy="mend it.")
    assert str(error) == "it broke (here); mend it."
    assert error.exit_code == 2
