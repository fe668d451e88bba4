"""What the documents show is what happens."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["compiled-enforcer.md"])
def test_an_example_in_a_document_prints_what_the_document_says(name: str) -> None:
    """Each example is run; one that shows nothing is no example."""
    failed, tried = doctest.testfile(str(DOCS / name), module_relative=False)

    assert (failed, tried > 5) == (0, True)
