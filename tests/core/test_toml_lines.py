"""The line of every key of a TOML text."""

import tomllib

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cantlie.core.toml_lines import line_numbers, line_of
from cantlie.protocol.loading import list_protocols, protocol_text

TEXT = '''# [not.a.table]
title = "a [b] # c"   # comment = 1
"quoted key".inner = """
x = 1
[no]
"""

[section]
literal = 'C:\\'
numbers = [
  1, # one
  [2, 3],
  { deep = true, other = { deeper = 1 } },
]
when = 1979-05-27 07:32:00

[[items]]
name = "first"
[items.sub]
value = 1
[[items]]
name = "second"
[items.sub]
value = 2
[[items.parts]]
a = 1
[[items.parts]]
a = 2
'''


def test_lines_of_all_kinds_of_keys():
    lines = line_numbers(TEXT)
    assert lines[("title",)] == 2
    assert lines[("quoted key", "inner")] == 3
    assert lines[("section",)] == 8
    assert lines[("section", "literal")] == 9
    assert lines[("section", "numbers", 0)] == 11
    assert lines[("section", "numbers", 1, 1)] == 12
    assert lines[("section", "numbers", 2, "other", "deeper")] == 13
    assert lines[("section", "when")] == 15
    assert lines[("items", 0, "sub", "value")] == 20
    assert lines[("items", 1, "name")] == 22
    assert lines[("items", 1, "parts", 1, "a")] == 28
    assert line_of(lines, ("items", 1, "missing")) == 21
    assert line_of(lines, ("unknown",)) == 1


def _leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path


def test_every_leaf_of_every_built_in_protocol_has_a_line_that_names_it():
    for name in list_protocols():
        text = protocol_text(name)
        lines = line_numbers(text)
        rows = text.split("\n")
        for path in _leaves(tomllib.loads(text)):
            assert path in lines
            keys = [part for part in path if isinstance(part, str)]
            if isinstance(path[-1], str):
                assert keys[-1] in rows[lines[path] - 1]


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="ab.[]{}=\"'#,\n\\ 1-", max_size=60))
@example("a = [}")
@example("a = {]")
@example("a = [1, }, 2]")
@example("[a")
@example("a = '''")
def test_no_text_stops_the_scanner(text):
    lines = line_numbers(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    for path in _leaves(values):
        assert path in lines
