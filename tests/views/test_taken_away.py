"""What leaves the journal: rows that no spreadsheet runs, members of JSON Lines, AuditEvents of FHIR."""

import csv
import io
from typing import Any

import pytest

from ruqsat.core.audit_event import PROFILE, audit_event
from ruqsat.core.instant import parse_instant
from ruqsat.core.journal_export import COLUMNS, csv_head, csv_row, told_entry
from ruqsat.core.journal_filter import Found, Spot
from ruqsat.core.journaled import Journaled
from tests.views.ground import AT, entry, written

SYSTEM = "urn:kz:dsm54"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
DENIED = {"allowed": False, "basis": None, "rule": None, "duties": []}


def found(**said: Any) -> Found:
    """Return a physician's reading, changed, where a writer put it."""
    return Found(Spot(parse_instant(AT), "w1", 1, 1), entry(**said), written(**said))


def event(**said: Any) -> dict[str, Any]:
    """Return its AuditEvent."""
    return audit_event(found(**said), SYSTEM)


def agent(told: dict[str, Any], code: str) -> dict[str, Any]:
    """Return the one agent of a type."""
    (one,) = [each for each in told["agent"] if each["type"]["coding"][0]["code"] == code]
    return dict(one)


# ---- CSV and JSON Lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "  @"])
@pytest.mark.parametrize("name", ["subject", "resource", "org", "rule", "point"])
def test_no_cell_is_a_formula(start: str, name: str) -> None:
    """CWE-1236: whatever a caller wrote into an id, a spreadsheet shows it as a text."""
    (row,) = csv.reader(io.StringIO(csv_row(found(**{name: start + "cmd|' /C calc'!A0"}))))

    assert not any(cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in row)
    assert row[COLUMNS.index(name)] == "'" + start + "cmd|' /C calc'!A0"


@pytest.mark.parametrize("separator", [";", "\t", ",", "|"])
@pytest.mark.parametrize("sign", ["=", " =", "+", "@", "\n=", "\r\n-"])
def test_no_cell_is_a_formula_by_other_separators_either(separator: str, sign: str) -> None:
    """Where the comma stands in decimals, a spreadsheet parts the row at semicolons, and heeds no quotes within a cell."""
    text = csv_row(found(resource=f"o1{separator}{sign}HYPERLINK(1)"))
    cells = [cell.strip() for line in text.splitlines() for cell in line.split(separator)]

    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))], cells
    assert "HYPERLINK(1)" in text


def test_a_row_keeps_its_columns_whatever_is_in_it() -> None:
    """Quotes, commas and line ends stay inside their cell."""
    rows = list(
        csv.DictReader(io.StringIO(csv_head() + csv_row(found(resource='a",\n"b')) + csv_row(found(law=["R3", "R5"]))))
    )

    assert [row["resource"] for row in rows] == ['a",\n"b', "o1"]
    assert (rows[1]["law"], rows[1]["allowed"], rows[1]["degraded"], rows[1]["patients_beside"]) == (
        "R3 R5",
        "true",
        "",
        "",
    )


def test_an_entry_tells_all_that_its_line_says() -> None:
    """And its place, by which the line is found and verified; what is not said is left out, a denial is told."""
    told = told_entry(found(**DENIED))

    assert told["allowed"] is False and "basis" not in told and "degraded" not in told
    assert (told["writer"], told["segment"], told["number"], told["hash"]) == ("w1", 1, 1, f"{1:064x}")
    line = {name for name in Journaled.__struct_fields__ if name not in ("number", "segment", "writer")}
    assert line == set(COLUMNS) | {"untold", "shielded", "held", "held_parts", "traceparent"}


def test_what_became_of_a_right_is_told() -> None:
    """An entry of a break-glass session says what time or a review brought, in either form."""
    said = found(kind="break_glass", event="suspended", allowed=None, reason=None, id="")

    assert told_entry(said)["event"] == "suspended" and "allowed" not in told_entry(said)
    assert csv_row(said).split(",")[COLUMNS.index("event")] == '"suspended"'


def test_an_erased_entry_is_told_as_erased() -> None:
    """An entry whose personal part was erased says so in every form in which it is taken away."""
    blank = dict.fromkeys(("subject", "patient", "resource", "applied")) | {"personal": [{"erased": "---"}]}

    assert told_entry(found(**blank))["erased"] is True
    assert csv_row(found(**blank)).split(",")[COLUMNS.index("erased")] == '"true"'
    told = event(**blank)
    assert agent(told, "IRCP")["who"] == {"extension": [{"url": ABSENT, "valueCode": "masked"}]}
    assert told["entity"][0]["what"]["extension"][0]["valueCode"] == "masked"


# ---- FHIR R4 AuditEvent, IHE BALP 1.1.4 ----------------------------------------------------------------------


def test_a_decision_by_consent_has_what_the_profile_demands() -> None:
    """AuthZconsent: type, subtype, action, outcome, the four agents, the patient, the consent, and no other entity."""
    told = event()

    assert told["meta"] == {"profile": [PROFILE]} and told["id"] == "d-1" and told["recorded"] == AT
    assert (told["type"]["code"], told["action"], told["outcome"]) == ("110113", "E", "0")
    assert told["subtype"] == [
        {"system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType", "code": "AuthZ-Consent"}
    ]
    client, user, org, authorizer = (agent(told, code) for code in ("110150", "IRCP", "PROV", "authserver"))
    assert [each["requestor"] for each in (client, user, org, authorizer)] == [False, True, False, False]
    assert set(client) == {"type", "who", "requestor", "network"} and set(org) == set(authorizer) == {
        "type",
        "who",
        "requestor",
    }
    assert user["who"]["identifier"] == {"system": "urn:kz:dsm54/subject", "value": "dr-aliya"}
    assert user["role"][0]["coding"][0]["code"] == "physician"
    assert told["purposeOfEvent"][0]["coding"][0]["code"] == user["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
    assert authorizer["who"] == told["source"]["observer"]  # the invariant val-audit-source
    patient, consent = told["entity"]
    assert (patient["type"]["code"], patient["role"]["code"], patient["what"]["type"]) == ("1", "1", "Patient")
    assert (consent["type"]["code"], consent["what"]["identifier"]["value"]) == ("Consent", "c-1")


@pytest.mark.parametrize(
    ("said", "outcome", "claims"),
    [
        (DENIED | {"reason": "deny.consent.revoked"}, "8", True),
        (DENIED | {"reason": "deny.consent.none", "applied": []}, "8", False),  # no document, no AuthZconsent
        (DENIED | {"reason": "deny.role.action", "applied": []}, "8", False),
        (DENIED | {"reason": "deny.store.unavailable", "applied": []}, "12", False),
        ({"basis": "emergency_override", "applied": ["s-1"]}, "0", False),
        ({"basis": "kz273_4_3", "applied": ["rq-1"]}, "0", False),
        ({"patient": None}, "0", False),
    ],
)  # fmt: skip
def test_a_profile_is_claimed_only_where_it_is_kept(said: dict[str, Any], outcome: str, claims: bool) -> None:
    """Without a consent or a patient the same form goes under AuthZ-Role, or claims nothing."""
    told = event(**said)

    assert told["outcome"] == outcome
    assert ("meta" in told) == claims
    documents = list(told["entity"][1:])
    assert all(
        (each["type"]["code"] == "Consent") == (told["subtype"][0]["code"] == "AuthZ-Consent") for each in documents
    )


def test_an_event_names_no_record_and_nothing_clinical() -> None:
    """The class stands in a detail, the record's id nowhere; an id that FHIR would not take is left out."""
    told = event(resource="lab-canary", id="not an id")

    assert "lab-canary" not in repr(told) and "id" not in told
    assert {each["type"]: each["valueString"] for each in told["entity"][0]["detail"]}["data_class"] == "labs"
