"""What the documents show is what happens."""

import doctest
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ruqsat.cli.main import app

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["compiled-enforcer.md"])
def test_an_example_in_a_document_prints_what_the_document_says(name: str) -> None:
    """Each example is run; one that shows nothing is no example."""
    failed, tried = doctest.testfile(str(DOCS / name), module_relative=False)

    assert (failed, tried > 5) == (0, True)


def test_the_map_of_the_law_is_the_one_that_the_program_writes() -> None:
    """docs/law.md: `ruqsat policy trace-law . --markdown`."""
    written = CliRunner().invoke(app, ["policy", "trace-law", str(DOCS.parent), "--markdown"])

    assert (written.exit_code, written.stdout) == (0, (DOCS / "law.md").read_text())
