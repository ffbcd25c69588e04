"""Commands and code in the documents are those that Cantlie has."""

import ast
import importlib
import re
import shlex
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import typer

from cantlie.cli.main import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "changelog.d").glob("*.md"))]
GROUP: Any = typer.main.get_command(app)
NOT_A_VALUE = re.compile(r"[|…]|\.\.\.$")


def commands(text: str) -> list[list[str]]:
    """Return the words of each command that stands as code, in a line of its own or within a sentence."""
    found = re.findall(r"`((?:\.venv/bin/)?cantlie [^`\n]+)`", text)
    for block in re.findall(r"```[a-z]*\n(.*?)```", text, flags=re.DOTALL):
        joined = re.sub(r"\\\n\s*", "", block)
        found += re.findall(r"^\s*((?:\.venv/bin/)?cantlie .+)$", joined, flags=re.MULTILINE)
    lines = [part for line in found for part in re.split(r"\s+&&\s+|\s{3,}|\s+#\s", line) if "cantlie " in part]
    return [shlex.split(re.split(r"\s>\s", line)[0].split("cantlie ", 1)[1]) for line in lines]


def words_of(kind: Any) -> set[str]:
    """Return the words that an option of a type takes; none where it takes any text."""
    if get_origin(kind) is Literal:
        return set(get_args(kind))
    return set().union(*(words_of(part) for part in get_args(kind)))


def wrong(words: list[str]) -> str:
    """Return what is wrong with a command: no such command, option or value; empty where nothing is."""
    command: Any = GROUP
    while hasattr(command, "commands"):
        if not words or words[0].isupper() or words[0].startswith("-"):
            return ""
        name, words = words[0], words[1:]
        names = name.split("|")
        if not set(names) <= set(command.commands):
            return f"no command {name}"
        command = command.commands[names[0]]
    options = {name: one for one in command.params for name in (*one.opts, *one.secondary_opts) if name[:1] == "-"}
    for place, word in enumerate(words):
        if not word.startswith("--") or word == "--help":
            continue
        if word not in options:
            return f"no option {word}"
        value = words[place + 1] if place + 1 < len(words) else ""
        choices = words_of(get_type_hints(command.callback)[options[word].name])
        if choices and value and not value.isupper() and not NOT_A_VALUE.search(value):
            strange = set(value.split("|")) - set(choices)
            if strange:
                return f"{word} does not take {sorted(strange)}"
    return ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_exist_with_their_options(path):
    faults = {" ".join(words): wrong(words) for words in commands(path.read_text(encoding="utf-8"))}
    assert {line: fault for line, fault in faults.items() if fault} == {}


def test_the_architecture_names_every_command():
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"^cantlie ([\w-]+)", text, flags=re.MULTILINE)
    assert sorted(named) == sorted(GROUP.commands)


def test_a_wrong_command_is_found():
    assert wrong(shlex.split("plan CASE --protocol yin2014-boost --delivery vmat")) == ""
    assert wrong(["fly"]) == "no command fly"
    assert wrong(shlex.split("plan CASE --wings 2")) == "no option --wings"
    assert wrong(shlex.split("dose CASE --plan RP.dcm --device abacus")) != ""
    assert commands("`cantlie doctor` and\n```\ncantlie plan A \\\n  --arcs 2 > x.txt   # two\n```") == [
        ["doctor"],
        ["plan", "A", "--arcs", "2"],
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_imports_what_is_there(path):
    text = path.read_text(encoding="utf-8")
    for line in re.findall(r"^\s*(from cantlie[\w.]* import [\w, ]+)", text, flags=re.MULTILINE):
        node = ast.parse(line.strip()).body[0]
        assert isinstance(node, ast.ImportFrom)
        module = importlib.import_module(str(node.module))
        assert [name.name for name in node.names if not hasattr(module, name.name)] == [], line
