"""A path that names a patient speaks of that patient's data."""

import pytest

from ruqsat.core.policy_set import PolicySet
from ruqsat.core.routes import RouteTable, parse_routes

ROUTES = """
[[route]]
id = "read-record"
methods = ["GET"]
path = "/patients/{patient}/{class}/{id}"
action = "read"
type = "Record"

[[route]]
id = "terminology"
methods = ["GET"]
path = "/open/{class}"
action = "search"
type = "Record"

[[route]]
id = "labs-of-everybody"
methods = ["GET"]
path = "/records/all/labs"
action = "export"
type = "Record"
class = "labs"

[[route]]
id = "labs-of-a-patient"
methods = ["GET", "HEAD", "DELETE"]
path = "/records/{patient}/labs"
action = "search"
type = "Record"
class = "labs"
query = ["format"]

[[route]]
id = "a-class-of-everybody"
methods = ["GET"]
path = "/files/all/{class}"
action = "export"
type = "Record"

[[route]]
id = "a-file-of-a-patient"
methods = ["GET"]
path = "/files/{patient}/{id}"
action = "read"
type = "Record"
class = "labs"
"""


@pytest.fixture
def table(policy_set: PolicySet) -> RouteTable:
    """Routes with and without a patient in their path."""
    table, findings = parse_routes(ROUTES, "routes.toml", policy_set.vocabulary)
    assert table is not None, findings
    return table


@pytest.mark.parametrize("data_class", ["public", "directory"])
def test_patients_record_cannot_be_called_public_by_its_path(table: RouteTable, data_class: str) -> None:
    """Whoever writes the path must not be able to turn a patient's record into one that concerns nobody."""
    assert table.match("GET", ("patients", "p-dana", data_class, "o3"), ()) is None


@pytest.mark.parametrize("data_class", ["public", "directory", "labs"])
def test_path_without_a_patient_can_name_any_class(table: RouteTable, data_class: str) -> None:
    """Where no patient is named, the classes that concern nobody are at home."""
    mapped = table.match("GET", ("open", data_class), ())

    assert mapped is not None
    assert mapped.data_class == data_class


def test_patients_record_can_be_named_by_its_class(table: RouteTable) -> None:
    """Every class of a patient's data still stands in the path."""
    mapped = table.match("GET", ("patients", "p-dana", "labs", "o1"), ())

    assert mapped is not None
    assert (mapped.patient, mapped.data_class, mapped.resource_id) == ("p-dana", "labs", "o1")


@pytest.mark.parametrize(
    ("method", "query"), [("GET", (("format", "csv"),)), ("HEAD", ()), ("DELETE", ()), ("HEAD", (("format", "csv"),))]
)
def test_a_literal_cannot_be_taken_for_a_patient(
    table: RouteTable, method: str, query: tuple[tuple[str, str], ...]
) -> None:
    """What the route of a literal path does not describe means nothing, though a route with a placeholder would take it."""
    path = ("records", "all", "labs")
    of_all = table.match("GET", path, ())

    assert of_all is not None
    assert (of_all.action, of_all.patient) == ("export", None)
    assert table.match(method, path, query) is None


def test_a_literal_cannot_be_taken_for_a_patient_by_what_stands_beside_it(table: RouteTable) -> None:
    """Where the route of the literal wants a class and finds none, no other route takes the literal for an id."""
    patients, everybodys = (
        table.match("GET", ("files", "p-dana", "o1"), ()),
        table.match("GET", ("files", "all", "labs"), ()),
    )

    assert patients is not None and patients.patient == "p-dana"
    assert everybodys is not None and everybodys.action == "export"
    assert table.match("GET", ("files", "all", "o1"), ()) is None


def test_beside_a_literal_every_patient_can_be_named(table: RouteTable) -> None:
    """The other names of that place are patients, by each method and query that their route describes."""
    for method, query in (("GET", (("format", "csv"),)), ("HEAD", ()), ("DELETE", ())):
        mapped = table.match(method, ("records", "p-dana", "labs"), query)

        assert mapped is not None
        assert (mapped.action, mapped.patient) == ("search", "p-dana")
