"""What the documents show is what happens."""

import doctest
import inspect
import json
import re
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from ruqsat.cli.main import app
from ruqsat.stores.policy_folder import load_texts
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import Database

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["compiled-enforcer.md", "enforcement-python.md"])
def test_an_example_in_a_document_prints_what_the_document_says(name: str) -> None:
    """Each example is run; one that shows nothing is no example."""
    failed, tried = doctest.testfile(str(DOCS / name), module_relative=False)

    assert (failed, tried > 5) == (0, True)


PROMISED = re.findall(
    r"^\| `([A-Z]+) (/\S+)` \| (public|decide|defer|deny) \|", (DOCS / "routes.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize(("method", "target", "answer"), PROMISED)
def test_a_request_of_the_routes_page_is_read_as_the_page_says(method: str, target: str, answer: str) -> None:
    """docs/routes.md: `ruqsat policy read`, which exits 1 where the request is refused."""
    told = CliRunner().invoke(app, ["policy", "read", method, target, "--folder", str(DOCS.parent), "--json"])

    assert len(PROMISED) > 20
    assert (json.loads(told.stdout)["answer"], told.exit_code) == (answer, int(answer == "deny"))


def test_the_route_that_the_page_adds_is_sound(tmp_path: Path) -> None:
    """Its example, added to the pack, describes a request; without it the request means nothing."""
    texts = load_texts(DOCS.parent)
    example = (DOCS / "routes.md").read_text().split("```toml\n")[1].split("```")[0]
    texts["policies/routes.toml"] += example.encode()
    for name, data in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    asked = ["policy", "read", "GET", "/lab/p1/reports/r1?format=pdf"]

    with_route = CliRunner().invoke(app, [*asked, "--folder", str(tmp_path)])
    without = CliRunner().invoke(app, [*asked, "--folder", str(DOCS.parent)])

    assert (with_route.exit_code, without.exit_code) == (0, 1)
    assert "labs" in with_route.stdout
    assert "unmapped.route" in without.stdout


def test_the_operations_page_tells_how_many_connections_a_sidecar_holds() -> None:
    """A server's limit of connections is planned by that number: it is the sum of all seats."""
    seats: list[int] = []

    class Counting:
        """A database that counts the seats it is asked for."""

        def writer(self) -> None:
            seats.append(1)

        prober = background = writer

        def readers(self, wanted: int) -> None:
            seats.append(wanted)

    usual = inspect.signature(SqlStore.open).parameters["readers"].default
    SqlStore(cast(Database, Counting()), readers=usual, read_timeout=1, write_timeout=1).background()

    assert sum(seats) == 11
    assert "holds at most eleven connections" in (DOCS / "operations.md").read_text()


def test_the_map_of_the_law_is_the_one_that_the_program_writes() -> None:
    """docs/law.md: `ruqsat policy trace-law . --markdown`."""
    written = CliRunner().invoke(app, ["policy", "trace-law", str(DOCS.parent), "--markdown"])

    assert (written.exit_code, written.stdout) == (0, (DOCS / "law.md").read_text())
