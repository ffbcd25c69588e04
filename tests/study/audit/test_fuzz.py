"""Whatever stands in a claims file or a table: an audit or one clear sentence, never another exception."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import ProtocolError
from cantlie.study.audit.audit import audit
from cantlie.study.audit.from_table import claims_from_table
from cantlie.study.audit.load import builtin_ids, load_claims, read_claims, read_csv_table

CELLS = st.sampled_from(
    [
        "",
        "1",
        "12 (40.0)",
        "40.0% (12)",
        "3/4 (75%)",
        "1.5±0.2",
        "7 (6-12)",
        "p",
        "A (n=30)",
        "<.05",
        "1e9",
        "yes",
        "-3",
        "%",
    ]
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=5), min_size=1, max_size=6)


@settings(deadline=None, max_examples=150)
@given(ROWS, st.sampled_from([",", " | "]), st.booleans())
def test_random_tables(rows: list[list[str]], divider: str, indent: bool) -> None:
    text = "\n".join(("  " if indent and i % 2 else "") + divider.join(row) for i, row in enumerate(rows)) + "\n"
    with contextlib.suppress(ProtocolError):
        audit(read_csv_table(text.encode(), place="table.csv"))
    with contextlib.suppress(ProtocolError):
        claims_from_table(text)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(builtin_ids()), st.data())
def test_papers_with_one_line_changed(study: str, data: st.DataObject) -> None:
    from importlib import resources

    path = resources.files("cantlie.study").joinpath("data", "claims", f"{study}.toml")
    lines = path.read_text(encoding="utf-8").splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    change = data.draw(
        st.sampled_from(["", "[[", "x = 1", lines[index][:-1], lines[index].replace("1", "x", 1), "n = 0"])
    )
    lines[index] = change
    with contextlib.suppress(ProtocolError):
        audit(read_claims("\n".join(lines).encode(), place="changed.toml"))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_random_bytes(content: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        read_claims(content, place="bytes")


def test_the_papers_are_unchanged_themselves() -> None:
    assert all(load_claims(study).claims.id == study for study in builtin_ids())
