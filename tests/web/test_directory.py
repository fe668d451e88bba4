"""The directory and the blocks over the control API of a real process, and a day that begins with an empty database."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.web.facts_api import FIRST, STATUS, Api, ago, encounter, episode, serving
from tests.web.test_consents import problem

FORBIDDEN = (403, "not_permitted")
HOSPITAL = {"category": "provider_medical", "undertaking": True, "active": True}
ED = {"roles": ["emergency_clinician"], "org": "h1", "active": True}
BLOCK = {
    "patient": "p-anna", "record": "x1", "class": "labs", "ground": "violation_reported", "document_ref": "act-17",
}  # fmt: skip


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A process with a patient in an open emergency at h1."""
    with serving(tmp_path) as api:
        yield begun(api)


@pytest.fixture
def on_postgres(tmp_path: Path, truth: str) -> Iterator[Api]:
    """The same on PostgreSQL."""
    with serving(tmp_path, truth) as api:
        yield begun(api)


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest) -> Api:
    """A process on each kind of store in turn."""
    return request.getfixturevalue("api" if request.param == "sqlite" else "on_postgres")  # type: ignore[no-any-return]


def begun(api: Api) -> Api:
    """Write a patient in an open emergency down."""
    api.put("reg1", "patients/p-anna", STATUS)
    api.put("mis1", "episodes/e1", episode())
    return api


# ---- the day -------------------------------------------------------------------------------------------------


def test_a_day_that_begins_with_one_administrator(tmp_path: Path) -> None:
    """All by the API: staff, a patient, an emergency by Encounter; allowed; it is over; denied; who left is denied."""
    with serving(tmp_path, known=FIRST) as api:
        assert problem(api.call("mis1", "PUT", "episodes/e1", encounter())) == FORBIDDEN  # nobody knows it yet
        for name, roles in [("mis1", ["system_mis"]), ("reg1", ["registrar"]), ("ed1", ["emergency_clinician"])]:
            assert (
                api.call("root", "PUT", f"subjects/{name}", {"roles": roles, "org": "h1", "active": True}).status_code
                == 201
            )
        early = api.call("mis1", "PUT", "episodes/e1", encounter())
        assert problem(early) == (404, "unknown-patient")
        assert api.call("reg1", "PUT", "patients/p-anna", STATUS).status_code == 201
        assert not api.may()

        opened = api.put("mis1", "episodes/e1", encounter())
        assert api.may(consistency_token=opened.json()["token"])
        over = encounter(status="finished", period={"start": encounter()["period"]["start"], "end": ago(0)})
        api.put("mis1", "episodes/e1", over)
        assert not api.may()

        api.put("mis1", "episodes/e2", encounter(id="e2"))
        assert api.may()
        assert api.call("root", "POST", "subjects/ed1/deactivate").status_code == 200
        assert not api.may()


# ---- the directory -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_who_is_taken_out_of_activity_is_denied_at_once(either: Api) -> None:
    """A person, a role, the employer; and back again."""
    api = either
    assert api.may()
    for gone in (ED | {"active": False}, ED | {"roles": ["registrar"]}, ED | {"org": "h2"}):
        answer = api.put("root", "subjects/ed1", gone)
        assert not api.may(consistency_token=answer.json()["token"]), gone
        api.put("root", "subjects/ed1", ED)
        assert api.may()
    api.call("root", "POST", "subjects/ed1/deactivate")
    assert not api.may()


@pytest.mark.slow
def test_what_becomes_of_an_organisation_becomes_of_its_people_at_once(either: Api) -> None:
    """Of another function, or out of activity: nobody there is allowed any more; back again: as before."""
    api = either
    api.put(
        "root", "subjects/root2", {"roles": ["sysadmin"], "org": "h2", "active": True}
    )  # whose right does not hang on h1
    claims: dict[str, Any] = {"roles": ["sysadmin"], "org": "h2", "purpose_of_use": "HSYSADMIN"}
    for gone in (HOSPITAL | {"category": "provider_pharma"}, HOSPITAL | {"active": False}):
        assert api.may()
        assert api.call("root2", "PUT", "organisations/h1", gone, **claims).is_success
        assert not api.may(), gone
        assert api.call("root2", "PUT", "organisations/h1", HOSPITAL, **claims).is_success
    assert api.may()
    assert api.call("root", "POST", "organisations/h1/deactivate").status_code == 200
    assert not api.may()
    assert problem(api.call("mis1", "PUT", "episodes/e2", episode())) == FORBIDDEN


def test_nobody_keeps_the_own_entry_and_nobody_else_any(api: Api) -> None:
    """An administrator gives a role to others, not to itself; others to nobody; unknown entries read the same."""
    assert problem(api.call("root", "PUT", "subjects/root", {"roles": ["physician"], "org": "h1"})) == FORBIDDEN
    for who in ("mis1", "reg1", "dpo1", "ed1", "anna"):
        for path in ("subjects/ed1", "subjects/nobody", "subjects/anna", "organisations/h1"):
            assert problem(api.call(who, "GET", path)) == FORBIDDEN, (who, path)
            body = HOSPITAL if "organisations" in path else ED
            assert problem(api.call(who, "PUT", path, body)) == FORBIDDEN, (who, path)
            assert problem(api.call(who, "POST", path + "/deactivate")) == FORBIDDEN, (who, path)
    assert problem(api.call("root", "GET", "subjects/nobody")) == (404, "unknown-entry")
    assert api.call("root", "GET", "subjects/anna").json()["patient_id"] == "p-anna"


def test_an_entry_stays_of_its_kind(api: Api) -> None:
    """A person does not become an organisation, nor the other way round."""
    assert problem(api.call("root", "PUT", "subjects/h1", ED)) == (409, "another-kind")
    assert problem(api.call("root", "PUT", "organisations/ed1", HOSPITAL)) == (409, "another-kind")
    assert problem(api.call("root", "POST", "organisations/ed1/deactivate")) == (409, "another-kind")
    assert problem(api.call("root", "POST", "subjects/h1/deactivate")) == (409, "another-kind")
    assert problem(api.call("root", "POST", "subjects/nobody/deactivate")) == (404, "unknown-entry")
    assert api.may()


@pytest.mark.slow
def test_staff_and_their_organisation_changed_at_once_agree_in_the_end(either: Api) -> None:
    """Whoever comes while the organisation changes takes what it is at the end."""
    api = either
    for round_ in range(5):
        body = HOSPITAL | {"category": "provider_pharma" if round_ % 2 == 0 else "provider_medical"}
        names = [f"new{round_}-{n}" for n in range(6)]
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(api.insist, "root", f"subjects/{name}", ED | {"org": "h3"}) for name in names[:3]]
            calls.append(pool.submit(api.insist, "root", "organisations/h3", body))
            calls += [pool.submit(api.insist, "root", f"subjects/{name}", ED | {"org": "h3"}) for name in names[3:]]
            for call in calls:
                call.result()
        api.put("mis1", "episodes/e9", episode())
        api.put("root", "subjects/mis3", {"roles": ["system_mis"], "org": "h3", "active": True})
        claims = {"roles": ["system_mis"], "org": "h3", "purpose_of_use": "PATADMIN"}
        api.call("mis3", "PUT", "episodes/e9", episode(org="h3"), **claims)
        allowed = {api.may(name) for name in names}
        assert len(allowed) == 1, (round_, allowed)


CANARY = f"CANARY{secrets.token_hex(4)}"
REFUSED: list[tuple[str, Any, str]] = [
    ("subjects/new", {}, "/roles"),
    ("subjects/new", ED | {"roles": [CANARY]}, "/roles/0"),
    ("subjects/new", ED | {"roles": "physician"}, "/roles"),
    ("subjects/new", ED | {"active": "no"}, "/active"),
    ("subjects/new", ED | {"patient_id": "880808100001"}, "/patient_id"),
    ("subjects/new", ED | {"supervised_by": f"{CANARY} with spaces"}, "/supervised_by"),
    ("subjects/new", ED | {"btg_suspended": False}, ""),
    ("subjects/new", ED | {"organisation": HOSPITAL}, ""),
    ("subjects/880808100001", ED, "/path/id_"),
    ("subjects/new", {"roles": ["physician"], "org": "h1"}, "/active"),  # silence revives nobody
    ("organisations/new", {}, "/category"),
    ("organisations/new", {"category": "provider_medical", "undertaking": True}, "/active"),
    ("organisations/new", HOSPITAL | {"category": CANARY}, "/category"),
    ("organisations/new", {"category": "provider_medical"}, "/undertaking"),
    ("organisations/new", HOSPITAL | {"undertaking": 1}, "/undertaking"),
]


def test_what_cannot_be_read_is_refused_with_its_place_and_nothing_of_it_is_said(api: Api) -> None:
    """422 with the path, nothing echoed, nothing written."""
    for path, body, place in REFUSED:
        answer = api.call("root", "PUT", path, body)
        assert answer.status_code == 422, (path, body, answer.text)
        assert any(each["path"].startswith(place) for each in answer.json()["errors"]), answer.text
        assert CANARY not in answer.text and "880808100001" not in answer.text
    assert problem(api.call("root", "GET", "subjects/new")) == (404, "unknown-entry")


# ---- blocks --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_block_shuts_at_once_and_its_end_opens_at_once(either: Api) -> None:
    """Lifted: allowed; blocked anew and destroyed, by another than blocked it (as proceedings have it): denied for good."""
    api = either
    assert api.may()
    made = api.call("dpo1", "POST", "blocks", BLOCK)
    assert (made.status_code, made.json()["status"], api.may()) == (200, "blocked", False)
    id_ = made.json()["id"]
    assert api.call("dpo1", "POST", "blocks", BLOCK).json()["version"] == 1
    assert api.may(record="x2")

    lift = {"ground": "not_confirmed", "document_ref": "act-18"}
    over = api.call("dpo1", "POST", f"blocks/{id_}/lift", lift)
    assert (over.json()["status"], api.may()) == ("lifted", True)
    assert api.call("dpo1", "POST", "blocks", BLOCK | {"document_ref": "act-19"}).json()["status"] == "blocked"
    end = {"demand_ref": "demand-1", "method": "overwritten"}
    alone = api.call("dpo1", "POST", f"blocks/{id_}/destroy", end)
    assert problem(alone) == (403, "second-person-needed")
    assert api.call("dpo1", "GET", f"blocks/{id_}").json()["status"] == "blocked"
    gone = api.call("dpo1b", "POST", f"blocks/{id_}/destroy", end)
    assert (gone.json()["status"], api.may()) == ("destroyed", False)
    for again in (
        api.call("dpo1", "POST", f"blocks/{id_}/lift", lift), api.call("dpo1", "POST", "blocks", BLOCK),
    ):  # fmt: skip
        assert problem(again) == FORBIDDEN
    assert not api.may()

    told = api.call("dpo1", "GET", f"blocks/{id_}").json()
    assert [(each["event"], each["by"]) for each in told["grounds"]] == [
        ("block", "dpo1"), ("lift", "dpo1"), ("block", "dpo1"), ("destroy", "dpo1b"),
    ]  # fmt: skip
    assert [each["document_ref"] for each in told["grounds"][:3]] == ["act-17", "act-18", "act-19"]
    assert api.call("dpo1", "GET", "blocks?patient=p-anna").json()["blocks"][0]["id"] == id_


def test_no_report_of_a_system_lifts_a_block(api: Api) -> None:
    """Labels may be written; the block stays."""
    said = {"org": "h1", "type": "Observation", "class": "labs", "labels": []}
    api.put("mis1", "records/p-anna/x1", said)
    api.call("dpo1", "POST", "blocks", BLOCK)
    api.put("mis1", "records/p-anna/x1", said | {"labels": ["INFDIS"]})
    assert not api.may()
    assert api.call("mis1", "GET", "records/p-anna/x1").json()["blocked"] is True


@pytest.mark.slow
def test_blocks_are_the_privacy_offices_and_unknown_ones_read_like_forbidden_ones(api: Api) -> None:
    """Nobody else blocks, lifts, destroys or reads one; the privacy office learns nothing of what is not there."""
    id_ = api.call("dpo1", "POST", "blocks", BLOCK).json()["id"]
    lift = {"ground": "not_confirmed", "document_ref": "act-18"}
    for who in ("mis1", "reg1", "ed1", "anna", "berik", "root"):
        for known in (id_, "b-none"):
            for method, path, body in [
                ("POST", "blocks", BLOCK), ("POST", f"blocks/{known}/lift", lift), ("GET", f"blocks/{known}", None),
                ("POST", f"blocks/{known}/destroy", {"demand_ref": "d", "method": "m"}),
                ("GET", "blocks?patient=p-anna", None),
            ]:  # fmt: skip
                assert problem(api.call(who, method, path, body)) == FORBIDDEN, (who, method, path)
    assert problem(api.call("dpo1", "GET", "blocks/b-none")) == FORBIDDEN
    assert problem(api.call("dpo1", "POST", "blocks/b-none/lift", lift)) == FORBIDDEN
    assert problem(api.call("dpo1", "POST", "blocks", BLOCK | {"patient": "p-no"})) == (404, "unknown-patient")
    assert not api.may()


def test_a_block_without_its_ground_is_refused(api: Api) -> None:
    """422, nothing echoed, nothing blocked."""
    for changes in [
        {"ground": CANARY}, {"ground": None}, {"document_ref": ""}, {"document_ref": f"{CANARY} free text"},
        {"record": "880808100001"}, {"patient": None}, {CANARY: 1}, {"blocked": True},
    ]:  # fmt: skip
        answer = api.call("dpo1", "POST", "blocks", BLOCK | changes)
        assert answer.status_code == 422 and CANARY not in answer.text and "880808" not in answer.text, changes
    assert api.may()
