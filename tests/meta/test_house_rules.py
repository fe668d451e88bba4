"""Rules of the house that a machine can hold: sentences, documented settings and commands."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ruqsat.settings import Settings
from tests.conftest import LONGEST, ROOT

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(tree: ast.Module, methods: bool) -> Iterator[Definition]:
    """Public functions and classes of a module, and perhaps public methods of its classes."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef) and methods:
                yield from (n for n in node.body if isinstance(n, Definition) and not n.name.startswith("_"))


def silent(path: Path, methods: bool = True) -> list[str]:
    """What in a file lacks its sentence."""
    tree = ast.parse(path.read_text())
    found = [node.name for node in definitions(tree, methods) if not ast.get_docstring(node)]
    return found if ast.get_docstring(tree) or not tree.body else ["(module)", *found]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["src", "tests", "examples", "bench", "fuzz"])
def test_everything_public_has_its_sentence(folder: str) -> None:
    """Modules, public functions, classes and methods, and every test, say what they promise."""
    files = sorted((ROOT / folder).rglob("*.py"))

    assert files
    assert {str(path.relative_to(ROOT)): names for path in files if (names := silent(path, folder == "src"))} == {}


def test_the_check_of_sentences_can_fail(tmp_path: Path) -> None:
    """A function without a sentence is found."""
    mute = tmp_path / "mute.py"
    mute.write_text('"""Module."""\n\ndef speak():\n    return 1\n\nclass A:\n    """A."""\n    def b(self): ...\n')

    assert silent(mute) == ["speak", "b"]


def test_every_setting_is_documented() -> None:
    """The operations page names every setting."""
    page = (ROOT / "docs" / "operations.md").read_text()

    for name in Settings.model_fields:
        upper = name.upper()
        assert f"`RUQSAT_{upper}`" in page or f"`…_{upper.partition('_')[2]}`" in page, name


def test_every_rule_file_is_listed_in_the_policy_guide() -> None:
    """Whoever edits rules finds each layer in the guide."""
    guide = (ROOT / "policies" / "README.md").read_text()

    for path in (ROOT / "policies").glob("*.csv"):
        layer = path.stem.removesuffix("-limits")
        assert layer in guide, path.name


def test_every_make_target_has_its_help() -> None:
    """`make help` lists every target that is meant for people."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    phony = next(line for line in lines if line.startswith(".PHONY:")).split()[1:]

    for target in phony:
        assert any(line.startswith(f"{target}:") and "## " in line for line in lines), target


def test_the_files_that_begin_first_are_there() -> None:
    """A file that was renamed would quietly begin last."""
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []
