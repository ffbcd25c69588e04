"""Keep a tree of frozen dataclasses and arrays in one file that is safe to open again.

A run resumes from such files. They hold plain JSON and NumPy arrays and can build nothing but Cantlie's own
dataclasses, so that a run folder from elsewhere cannot execute code, as a pickle could.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from cantlie.core.errors import CantlieError
from cantlie.core.files import atomic_path

_PLAIN = (str, int, float, bool, type(None))


def save(path: Path, key: str, value: Any) -> None:
    """Write a value with the key of the inputs that made it.

    Raises
    ------
    TypeError
        If the tree holds anything but dataclasses of Cantlie, arrays, tuples, lists, dicts and plain values.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = json.dumps({"key": key, "value": _encode(value, arrays)})
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, tree=np.frombuffer(tree.encode(), dtype=np.uint8), **arrays)  # type: ignore[arg-type]


def load(path: Path, key: str) -> Any:
    """Return the value of a file if it was made from the inputs with this key, else None.

    A missing, damaged or outdated file counts as not there: the stage is done again.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            tree = json.loads(bytes(arrays["tree"]))
            return _decode(tree["value"], arrays) if tree["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, ImportError, CantlieError):
        return None


def _encode(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, arrays) for item in value]}
    if isinstance(value, list):
        return [_encode(item, arrays) for item in value]
    if isinstance(value, dict):
        return {"dict": [[_encode(k, arrays), _encode(v, arrays)] for k, v in value.items()]}
    cls = type(value)
    if dataclasses.is_dataclass(value) and cls.__module__.startswith("cantlie."):
        fields = {f.name: _encode(getattr(value, f.name), arrays) for f in dataclasses.fields(value) if f.init}
        return {"type": f"{cls.__module__}:{cls.__qualname__}", "fields": fields}
    raise TypeError(f"{cls.__module__}.{cls.__qualname__} cannot be kept in a run folder")


def _decode(node: Any, arrays: Any) -> Any:
    if isinstance(node, list):
        return [_decode(item, arrays) for item in node]
    if not isinstance(node, dict):
        return node
    if "array" in node:
        return arrays[node["array"]]
    if "tuple" in node:
        return tuple(_decode(item, arrays) for item in node["tuple"])
    if "dict" in node:
        return {_decode(k, arrays): _decode(v, arrays) for k, v in node["dict"]}
    module, _, name = node["type"].partition(":")
    if not module.startswith("cantlie."):
        raise ValueError(f"{module} is not part of Cantlie")
    cls = getattr(importlib.import_module(module), name)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ValueError(f"{name} is not a dataclass")
    return cls(**{field: _decode(value, arrays) for field, value in node["fields"].items()})
