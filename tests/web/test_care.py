"""Patients, episodes, relationships and record labels over the control API of a real process."""

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.sidecar import running_sidecar
from tests.web.facts_api import PEOPLE, STATUS, Api, ago, encounter, episode, serving, tie
from tests.web.test_consents import problem

FORBIDDEN = (403, "not_permitted")


def with_patients(folder: Path, url: str | None = None) -> Iterator[Api]:
    """Run a process that knows two patients."""
    with serving(folder, url) as api:
        for patient in ("p-anna", "p-berik"):
            api.put("reg1", f"patients/{patient}", STATUS)
        yield api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A process of this test's own."""
    yield from with_patients(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One process for what refuses to change anything."""
    yield from with_patients(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def on_postgres(tmp_path: Path, truth: str) -> Iterator[Api]:
    """A process whose store is PostgreSQL."""
    yield from with_patients(tmp_path, truth)


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest) -> Api:
    """A process on each kind of store in turn."""
    return request.getfixturevalue("api" if request.param == "sqlite" else "on_postgres")  # type: ignore[no-any-return]


def position(api: Api) -> int:
    """Return how far the feed is, as the process tells it."""
    return int(api._control.get("/status").json()["applied"])


# ---- patients ------------------------------------------------------------------------------------------------


def test_a_patient_is_written_down_by_the_desk_and_reads_the_own_facts(api: Api) -> None:
    """New: 201; again: 200 and nothing changed; the patient reads the own facts, and nobody else's."""
    assert api.call("reg1", "PUT", "patients/p-new", STATUS).status_code == 201
    assert api.call("reg1", "PUT", "patients/p-new", STATUS).status_code == 200
    mine = api.call("anna", "GET", "patients/p-anna")
    assert mine.json() | {"token": ""} == STATUS | {"id": "p-anna", "token": "", "grounds": []}
    for path in ("p-berik", "p-unknown", "p-berik/episodes", "p-unknown/relationships", "p-berik/records"):
        assert problem(api.call("anna", "GET", f"patients/{path}")) == FORBIDDEN, path
    assert problem(api.call("reg1", "GET", "patients/p-unknown")) == (404, "unknown-patient")


@pytest.mark.parametrize("who", ["anna", "mis1", "ed1", "root", "dpo1"])
def test_nobody_but_the_desk_writes_status_facts(shared: Api, who: str) -> None:
    """Neither the patient, nor a system, nor a clinician, nor an administrator."""
    assert problem(shared.call(who, "PUT", "patients/p-anna", STATUS)) == FORBIDDEN


def test_a_consent_to_change_demographic_data_is_none_to_change_what_decisions_rest_on(tmp_path: Path) -> None:
    """A system that may write the patient's address for care says nothing of who is dead or unable."""
    with running_sidecar(tmp_path) as sidecar:
        demo = Api(sidecar)
        try:
            claims = {"roles": ["system_mis"], "org": "h1", "purpose_of_use": "TREAT"}
            assert demo.may("mis_h1", "p-dana", "TREAT", "Patient/p-dana", action="update", data_class="demographics")
            answer = demo.call("mis_h1", "PUT", "patients/p-dana", STATUS | {"unable": True}, **claims)
            assert problem(answer) == FORBIDDEN
        finally:
            demo.close()


def test_writing_status_facts_touches_nothing_else(api: Api) -> None:
    """The episode that was open stays open; what is said of the patient is decided by at once."""
    api.put("mis1", "episodes/e1", episode())
    assert api.may()
    api.put("reg1", "patients/p-anna", STATUS | {"deceased_at": ago(1), "document_ref": "act-1"})
    assert len(api.call("mis1", "GET", "patients/p-anna/episodes").json()["episodes"]) == 1
    assert not api.may("anna", purpose="PATRQT")
    api.put("reg1", "patients/p-anna", STATUS | {"document_ref": "act-2"})
    assert api.may("anna", purpose="PATRQT")


@pytest.mark.slow
def test_inability_opens_nothing_without_a_document_and_an_open_episode_at_the_desks_organisation(either: Api) -> None:
    """Refused with its place, or as not permitted, and nothing changes; stated, it is kept who did, when, on which ground."""
    api, unable = either, STATUS | {"unable": True}
    api.put("mis1", "relationships/t1", tie())
    for who, body, found in [
        ("reg1", unable, (422, "malformed-document")), ("reg1", unable | {"document_ref": "d-1"}, FORBIDDEN),
        ("anna", unable | {"document_ref": "d-1"}, FORBIDDEN),
    ]:  # fmt: skip
        assert problem(api.call(who, "PUT", "patients/p-anna", body)) == found, (who, body)
    api.put("mis2", "episodes/e2", episode(org="h2"))  # open, and not at the desk's organisation
    assert problem(api.call("reg1", "PUT", "patients/p-anna", unable | {"document_ref": "d-1"})) == FORBIDDEN
    assert not api.may("ed1", purpose="TREAT")

    api.put("mis1", "episodes/e1", episode(form_of_care="planned"))
    api.put("reg1", "patients/p-anna", unable | {"document_ref": "d-1"})
    assert api.may("ed1", purpose="TREAT")
    api.put("reg1", "patients/p-anna", unable)  # said as it stands: nothing to state
    api.call("mis1", "POST", "episodes/e1/close", {"patient": "p-anna", "org": "h1"})
    api.put("reg1", "patients/p-anna", STATUS | {"document_ref": "d-2"})  # the will is back: that waits for no episode
    assert not api.may("ed1", purpose="TREAT")
    for who in ("anna", "dpo1", "reg1"):
        grounds = api.call(who, "GET", "patients/p-anna").json()["grounds"]
        assert [(each["fact"], each["value"], each["document_ref"], each["org"], each["by"]) for each in grounds] == [
            ("unable", True, "d-1", "h1", "reg1"), ("unable", False, "d-2", "h1", "reg1"),
        ], who  # fmt: skip
    assert api.call("reg2", "GET", "patients/p-anna").json()["grounds"] == []  # another organisation's desk


def test_death_and_incapacity_are_stated_on_a_document_where_the_patient_is_cared_for(api: Api) -> None:
    """A desk that has nothing to do with the patient takes nobody's account away, and gives no guardian power."""
    for change in ({"deceased_at": ago(5)}, {"incapacitated": True}):
        body = STATUS | change | {"document_ref": "act-9"}
        assert problem(api.call("reg1", "PUT", "patients/p-anna", body)) == FORBIDDEN, change
        assert api.may("anna", purpose="PATRQT")
        assert problem(api.call("reg1", "PUT", "patients/p-new", body)) == FORBIDDEN, change
    assert problem(api.call("reg1", "GET", "patients/p-new")) == (404, "unknown-patient")
    api.put("mis1", "relationships/t1", tie())
    api.put("reg1", "patients/p-anna", STATUS | {"deceased_at": ago(5), "incapacitated": True, "document_ref": "act-9"})
    seen = api.call("dpo1", "GET", "patients/p-anna").json()
    assert [each["fact"] for each in seen["grounds"]] == ["deceased_at", "incapacitated"]
    assert not api.may("anna", purpose="PATRQT")


# ---- representatives -----------------------------------------------------------------------------------------


def test_a_parent_sees_the_care_of_a_child_and_not_of_an_adolescent(tmp_path: Path) -> None:
    """From sixteen on a visit may be the adolescent's own affair, and the lists do not say which (Code 78(2))."""
    with running_sidecar(tmp_path) as sidecar:
        demo, claims = Api(sidecar), {"roles": ["legal_representative"], "purpose_of_use": "PWATRNY"}
        try:
            for patient in ("p-child", "p-teen"):
                report = episode(patient=patient, form_of_care="planned")
                assert demo.call("mis_h1", "PUT", "episodes/e-1", report, **PEOPLE["mis1"]).is_success
                record = {"org": "h1", "type": "Observation", "class": "labs", "labels": ["SEX"]}
                assert demo.call("mis_h1", "PUT", f"records/{patient}/r-1", record, **PEOPLE["mis1"]).is_success
            for name in ("episodes", "relationships", "records"):
                child, teen = (
                    demo.call("saule", "GET", f"patients/{p}/{name}", **claims) for p in ("p-child", "p-teen")
                )
                assert child.is_success, name
                assert problem(teen) == FORBIDDEN, name
            one = [demo.call("saule", "GET", f"records/{p}/r-1", **claims).status_code for p in ("p-child", "p-teen")]
            assert one == [200, 403]
        finally:
            demo.close()


# ---- episodes ------------------------------------------------------------------------------------------------


def test_an_episode_opens_with_its_answer_and_its_close_shuts_with_its_own(either: Api) -> None:
    """No episode: denied; open: allowed, by the organisation's own staff alone; closed: denied from the answer on."""
    api = either
    assert not api.may()
    made = api.call("mis1", "PUT", "episodes/e1", episode())
    assert (made.status_code, made.json()["result"]) == (200, "written")
    assert api.may(consistency_token=made.json()["token"])
    assert not api.may("ed2")
    over = api.call("mis1", "POST", "episodes/e1/close", {"patient": "p-anna", "org": "h1"})
    assert (over.json()["result"], api.may()) == ("written", False)


def test_no_system_opens_an_episode_of_another_organisation(api: Api) -> None:
    """Whatever the token, the address or the body says; nor does it close one, nor see it."""
    for who, body, claims in [
        ("mis1", episode(org="h2"), {}), ("mis2", episode(), {}), ("mis1", episode(org="h2"), {"org": "h2"}),
        ("mis1", encounter(serviceProvider={"reference": "Organization/h2"}), {}),
        ("reg1", episode(), {}), ("ed1", episode(), {}), ("anna", episode(), {}), ("root", episode(), {}),
        ("mis1", episode(), {"purpose_of_use": "TREAT"}),
    ]:  # fmt: skip
        assert problem(api.call(who, "PUT", "episodes/e1", body, **claims)) == FORBIDDEN, (who, body, claims)
    assert not api.may("ed1") and not api.may("ed2")

    api.put("mis1", "episodes/e1", episode())
    assert problem(api.call("mis2", "POST", "episodes/e1/close", {"patient": "p-anna", "org": "h1"})) == FORBIDDEN
    other = api.call("mis2", "POST", "episodes/e1/close", {"patient": "p-anna", "org": "h2"})
    assert problem(other) == (404, "unknown-report")
    assert api.may()
    assert api.call("mis2", "GET", "patients/p-anna/episodes").json()["episodes"] == []


def test_two_organisations_never_meet_in_one_id(api: Api) -> None:
    """The same id of another organisation is another episode."""
    api.put("mis1", "episodes/e1", episode())
    api.put("mis2", "episodes/e1", episode(org="h2"))
    api.call("mis2", "POST", "episodes/e1/close", {"patient": "p-anna", "org": "h2"})
    assert api.may("ed1") and not api.may("ed2")


@pytest.mark.slow
def test_a_repeat_is_harmless_and_a_late_one_does_not_reopen(either: Api) -> None:
    """The same again changes nothing, not even the feed; a report of before its end finds it closed."""
    api, first = either, episode()
    api.put("mis1", "episodes/e1", first)
    before = position(api)
    assert api.put("mis1", "episodes/e1", first).json()["result"] == "unchanged"
    assert position(api) == before
    api.put("mis1", "episodes/e1", first | {"end": ago(1)})
    for late in (first, first | {"end": ago(-60)}, encounter(period={"start": first["start"]})):
        assert api.put("mis1", "episodes/e1", late).json()["result"] == "unchanged"
        assert not api.may()
    api.call("mis1", "POST", "episodes/e1/close", {"patient": "p-anna", "org": "h1"})
    (kept,) = api.call("mis1", "GET", "patients/p-anna/episodes").json()["episodes"]
    assert kept["end"] < ago(0.5)


def test_an_end_that_is_known_is_never_moved_later(api: Api) -> None:
    """A term may be shortened while it runs, and stays short."""
    api.put("mis1", "episodes/e1", episode(end=ago(-30)))
    api.put("mis1", "episodes/e1", episode(end=ago(-90)))
    api.put("mis1", "episodes/e1", episode())
    (kept,) = api.call("mis1", "GET", "patients/p-anna/episodes").json()["episodes"]
    assert kept["end"] < ago(-31)


def test_a_planned_visit_opens_no_emergency_access(api: Api) -> None:
    """Neither by its own form nor as an Encounter of a hospital stay or a visit."""
    api.put("mis1", "episodes/e1", episode(form_of_care="planned"))
    for code in ("IMP", "AMB"):
        system = encounter()["class"]["system"]
        api.put("mis1", f"episodes/{code}", encounter(id=code, **{"class": {"system": system, "code": code}}))
    assert not api.may()
    assert {
        each["form_of_care"] for each in api.call("anna", "GET", "patients/p-anna/episodes").json()["episodes"]
    } == {"planned"}


@pytest.mark.slow
def test_an_encounter_of_either_release_opens_and_closes(either: Api) -> None:
    """R4 and R5: in progress opens; finished and completed close; entered in error was never there."""
    api = either
    code = encounter()["class"]
    newer = {k: v for k, v in encounter(id="e2").items() if k != "period"} | {"class": [{"coding": [code]}]}
    for opened, closed in [
        (encounter(), encounter(status="finished", period={"start": ago(10), "end": ago(0)})),
        (newer | {"actualPeriod": {"start": ago(9)}},
         newer | {"status": "completed", "actualPeriod": {"start": ago(9), "end": ago(-5)}}),
        (encounter(id="e3"), encounter(id="e3", status="entered-in-error")),
    ]:  # fmt: skip
        api.put("mis1", f"episodes/{opened['id']}", opened)
        assert api.may(), opened
        api.put("mis1", f"episodes/{opened['id']}", closed)
        assert not api.may(), closed


# ---- many at once --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_of_many_each_has_its_own_result(either: Api) -> None:
    """Written, unchanged, refused: another's, unknown, malformed; what is refused stops no other."""
    api = either
    items: list[Any] = [
        episode(id="b1"), episode(id="b1"), episode(id="b2", patient="p-berik"), episode(id="b3", org="h2"),
        episode(id="b4", patient="p-unknown"), episode(id="b5", form_of_care="EMER"), encounter(id="b6"), "CANARY",
        episode(id="b7", end=ago(20)),
    ]  # fmt: skip
    items[1] = items[0]
    told = api.call("mis1", "POST", "episodes/bulk", {"items": items}).json()
    assert [each["result"] for each in told["items"]] == [
        "written", "unchanged", "written", "not_permitted", "unknown-patient", "malformed-document", "written",
        "malformed-document", "reversed",
    ]  # fmt: skip
    assert (told["written"], told["unchanged"], told["refused"]) == (3, 1, 5)
    assert told["items"][5]["errors"][0]["path"] == "/items/5/form_of_care"
    assert api.may(consistency_token=told["token"]) and api.may(patient="p-berik") and not api.may("ed2")


def test_a_thousand_reports_are_one_change_of_each_patient(api: Api) -> None:
    """One entry of the feed a patient, however many reports; again: none."""
    items = [tie(id=f"t{n}", patient="p-anna" if n % 2 else "p-berik") for n in range(1000)]
    before = position(api)
    assert api.call("mis1", "POST", "relationships/bulk", {"items": items}).json()["written"] == 1000
    after = position(api)
    assert after - before == 2
    assert api.call("mis1", "POST", "relationships/bulk", {"items": items}).json()["unchanged"] == 1000
    assert position(api) == after


@pytest.mark.parametrize("body", [b"", b"[]", b'{"items": []}', b'{"items": 1}', b'{"items": [1], "x": 2}', b"{",
                                  b'{"items": [' + b"1," * 1000 + b"1]}"])  # fmt: skip
def test_what_is_no_list_of_items_is_refused_whole(shared: Api, body: bytes) -> None:
    """Empty, too many, something else."""
    assert shared.call("mis1", "POST", "episodes/bulk", body).status_code in (400, 422)


@pytest.mark.slow
def test_two_reports_at_once_for_one_patient_both_stay(either: Api) -> None:
    """Ten systems' reports, status facts among them, sent at once: none is lost."""
    with ThreadPoolExecutor(10) as pool:
        reports = [pool.submit(either.insist, "mis1", f"episodes/e{n}", episode()) for n in range(10)]
        reports += [pool.submit(either.insist, "mis1", f"relationships/t{n}", tie()) for n in range(10)]
        reports += [pool.submit(either.insist, "reg1", "patients/p-anna", STATUS | {"egov": False})]
        for each in reports:
            each.result()
    for name in ("episodes", "relationships"):
        assert len(either.call("mis1", "GET", f"patients/p-anna/{name}").json()[name]) == 10
    assert either.call("reg1", "GET", "patients/p-anna").json()["egov"] is False


# ---- relationships, records ----------------------------------------------------------------------------------


def test_a_tie_is_there_until_it_is_closed_and_stays_its_organisations(api: Api) -> None:
    """Reported, repeated, closed; another organisation's system neither writes nor closes nor sees it."""
    api.put("mis1", "relationships/t1", tie(subject="ed1"))
    assert problem(api.call("mis2", "PUT", "relationships/t1", tie())) == FORBIDDEN
    assert problem(api.call("mis2", "POST", "relationships/t1/close", {"patient": "p-anna", "org": "h1"})) == FORBIDDEN
    (seen,) = api.call("anna", "GET", "patients/p-anna/relationships").json()["relationships"]
    assert (seen["id"], seen["subject"], seen["org"], seen["end"]) == ("t1", "ed1", "h1", None)
    api.call("mis1", "POST", "relationships/t1/close", {"patient": "p-anna", "org": "h1"})
    api.put("mis1", "relationships/t1", tie(subject="ed1"))
    (seen,) = api.call("dpo1", "GET", "patients/p-anna/relationships").json()["relationships"]
    assert seen["end"] is not None


def test_labels_are_in_force_at_once_and_a_hold_is_kept_from_the_patient(api: Api) -> None:
    """Held back: the patient neither reads the record nor learns that it is there; lifted: both."""
    path, said = "records/p-anna/x1", {"org": "h1", "type": "Observation", "class": "labs", "labels": []}
    api.put("mis1", path, said)
    assert api.may("anna", purpose="PATRQT")
    api.put("mis1", path, said | {"labels": ["TBOO"]})
    assert not api.may("anna", purpose="PATRQT")
    assert api.call("anna", "GET", "patients/p-anna/records").json()["records"] == []
    assert problem(api.call("anna", "GET", path)) == FORBIDDEN == problem(api.call("anna", "GET", path + "-no"))
    assert len(api.call("dpo1", "GET", "patients/p-anna/records").json()["records"]) == 1
    api.put("mis1", path, said)
    assert api.may("anna", purpose="PATRQT") and api.call("anna", "GET", path).json()["class"] == "labs"


def test_a_record_is_described_by_its_own_organisation_alone(api: Api) -> None:
    """Another's system cannot take the labels off, and learns nothing of the record."""
    said = {"org": "h1", "type": "Observation", "class": "labs", "labels": ["HIV"]}
    api.put("mis1", "records/p-anna/x1", said)
    for body in (said | {"labels": []}, said | {"labels": [], "org": "h2"}):
        assert problem(api.call("mis2", "PUT", "records/p-anna/x1", body)) == FORBIDDEN
    assert problem(api.call("mis2", "GET", "records/p-anna/x1")) == FORBIDDEN
    assert api.call("mis1", "GET", "records/p-anna/x1").json()["labels"] == ["HIV"]


def test_records_of_two_types_may_have_one_id(api: Api) -> None:
    """FHIR's ids are one of a kind within a type: labels of the one are not those of the other."""
    said = {"org": "h1", "type": "Condition", "class": "labs", "labels": ["HIV"]}
    api.put("mis1", "records/p-anna/x1", said)
    api.put("mis1", "records/p-anna/x1", said | {"type": "Observation", "labels": []})
    told = {
        kind: api.call("mis1", "GET", f"records/p-anna/x1?type={kind}").json() for kind in ("Observation", "Condition")
    }
    assert {kind: each["labels"] for kind, each in told.items()} == {"Observation": [], "Condition": ["HIV"]}
    assert api.call("mis1", "GET", "records/p-anna/x1").status_code == 409
    assert problem(api.call("mis1", "GET", "records/p-anna/x1?type=Specimen")) == FORBIDDEN


# ---- what cannot be read -------------------------------------------------------------------------------------

CANARY = f"CANARY{secrets.token_hex(4)}"
_CODE = encounter()["class"]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("patients/p-anna", {}, "/birth_date"),
    ("patients/p-anna", {k: v for k, v in STATUS.items() if k != "deceased_at"}, "/deceased_at"),
    ("patients/p-anna", STATUS | {"birth_date": CANARY}, "/birth_date"),
    ("patients/p-anna", STATUS | {"birth_date": "2300-01-01"}, "/birth_date"),
    ("patients/p-anna", STATUS | {"deceased_at": "2026-01-01"}, "/deceased_at"),
    ("patients/p-anna", STATUS | {"deceased_at": "2026-01-01T00:00:00"}, "/deceased_at"),
    ("patients/p-anna", STATUS | {"deceased_at": "1870-01-01T00:00:00Z"}, ""),
    ("patients/p-anna", STATUS | {"egov": "yes"}, "/egov"),
    ("patients/p-anna", STATUS | {"unable": 1}, "/unable"),
    ("patients/p-anna", STATUS | {CANARY: 1}, ""),
    ("patients/p-anna", STATUS | {"consents": []}, ""),
    ("patients/880808100001", STATUS, "/path/id_"),
    ("patients/p|anna", STATUS, "/path/id_"),
    ("episodes/e1", episode(patient="880808100001"), "/patient"),
    ("episodes/e1", episode(patient=" p-anna"), "/patient"),
    ("episodes/e1", episode(patient=None), "/patient"),
    ("episodes/e1", episode(org=""), "/org"),
    ("episodes/e1", episode(form_of_care=CANARY), "/form_of_care"),
    ("episodes/e1", episode(form_of_care=None), "/form_of_care"),
    ("episodes/e1", episode(start=None), "/start"),
    ("episodes/e1", episode(start="yesterday"), "/start"),
    ("episodes/e1", episode(start=1_700_000_000), "/start"),
    ("episodes/e1", episode(end="2026-13-01T00:00:00Z"), "/end"),
    ("episodes/e1", episode(care_consent="true"), "/care_consent"),
    ("episodes/e1", episode(blocked=True), ""),
    ("episodes/e1", encounter(id="e2"), "/id"),
    ("episodes/e1", encounter(id=None), "/id"),
    ("episodes/e1", encounter(status=CANARY), "/status"),
    ("episodes/e1", encounter(status="planned"), "/status"),
    ("episodes/e1", encounter(status="unknown"), "/status"),
    ("episodes/e1", encounter(**{"class": None}), "/class"),
    ("episodes/e1", encounter(**{"class": _CODE | {"code": "FLD"}}), "/class/code"),
    ("episodes/e1", encounter(**{"class": _CODE | {"code": CANARY}}), "/class/code"),
    ("episodes/e1", encounter(**{"class": _CODE | {"code": "emer"}}), "/class/code"),
    ("episodes/e1", encounter(**{"class": {"code": "EMER"}}), "/class/code"),
    ("episodes/e1", encounter(**{"class": {"system": "urn:own", "code": "EMER"}}), "/class/code"),
    ("patients/p-anna", STATUS | {"birth_date": "86400"}, "/birth_date"),
    ("patients/p-anna", STATUS | {"birth_date": "1700006400"}, "/birth_date"),
    ("patients/p-anna", STATUS | {"birth_date": "1880-03-02T00:00:00"}, "/birth_date"),
    ("episodes/e1", encounter(**{"class": []}), "/class"),
    ("episodes/e1", encounter(**{"class": [{"coding": [_CODE, _CODE | {"code": "AMB"}]}]}), "/class"),
    ("episodes/e1", encounter(subject=None), "/subject"),
    ("episodes/e1", encounter(subject={"reference": "p-anna"}), "/subject/reference"),
    ("episodes/e1", encounter(subject={"reference": "https://other.test/Patient/p-anna"}), "/subject/reference"),
    ("episodes/e1", encounter(subject={"reference": "Patient/p-anna/_history/1"}), "/subject/reference"),
    ("episodes/e1", encounter(subject={"reference": "Patient/880808100001"}), "/subject/reference"),
    ("episodes/e1", encounter(subject={"display": CANARY}), "/subject/reference"),
    ("episodes/e1", encounter(serviceProvider={"reference": "#h1"}), "/serviceProvider/reference"),
    ("episodes/e1", encounter(period=None), "/period"),
    ("episodes/e1", encounter(period={}), "/period/start"),
    ("episodes/e1", encounter(period={"start": "2026-01"}), "/period/start"),
    ("episodes/e1", encounter(period={"start": ago(5), "end": ago(1)}), "/period/end"),
    ("episodes/e1", encounter(status="finished"), "/period/end"),
    ("episodes/e1", encounter(actualPeriod={"start": ago(99)}), "/actualPeriod"),
    ("episodes/e1", encounter(modifierExtension=[{"url": CANARY}]), "/modifierExtension"),
    ("episodes/e1", {"resourceType": CANARY}, "/resourceType"),
    ("relationships/t1", tie(kind=CANARY), "/kind"),
    ("relationships/t1", tie(subject="880808100001"), "/subject"),
    ("relationships/t1", tie(org=None), "/org"),
    ("records/p-anna/x1", {"org": "h1", "type": "Record", "class": CANARY, "labels": []}, "/class"),
    ("records/p-anna/x1", {"org": "h1", "type": "Observation", "class": "labs", "labels": [CANARY]}, "/labels/0"),
    ("records/p-anna/x1", {"org": "h1", "type": "Observation", "class": "labs"}, "/labels"),
    ("records/p-anna/x1", {"org": "h1", "class": "labs", "labels": []}, "/type"),
    ("records/p-anna/x1", {"org": "h1", "type": "Observation", "class": "labs", "labels": [], "conf": "X"}, "/conf"),
    ("records/p-anna/x1", {"org": "h1", "type": "Observation", "class": "labs", "labels": [], "blocked": False}, ""),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_cannot_be_read_is_refused_with_its_place_and_nothing_of_it_is_said(shared: Api, number: int) -> None:
    """422 with the path; the value comes back nowhere; nothing is written."""
    path, body, place = REFUSED[number]
    who = "reg1" if path.startswith("patients") else "mis1"
    answer = shared.call(who, "PUT", path, body)
    assert answer.status_code == 422, answer.text
    assert any(each["path"].startswith(place) for each in answer.json()["errors"]), answer.text
    assert CANARY not in answer.text and "880808100001" not in answer.text
    assert shared.call("mis1", "GET", "patients/p-anna/episodes").json()["episodes"] == []


@pytest.mark.parametrize("path", ["patients/p-anna", "episodes/e1", "records/p-anna/x1"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 5000, b"{" + b" " * 300_000])
def test_what_is_no_document_is_refused(shared: Api, path: str, body: bytes) -> None:
    """Empty, cut off, no text, too deep, too large."""
    assert shared.call("reg1" if "patients" in path else "mis1", "PUT", path, body).status_code in (400, 413, 422)


@pytest.mark.parametrize(("path", "said", "again"), [
    ("patients/p-anna", STATUS, b'"unable": true}'),
    ("episodes/e1", encounter(), b'"status": "in-progress"}'),
])  # fmt: skip
def test_what_says_a_thing_twice_is_refused(shared: Api, path: str, said: dict[str, Any], again: bytes) -> None:
    """Whoever looked at the first would let pass what the second says; nothing is written."""
    body = json.dumps(said).encode()[:-1] + b", " + again
    answer = shared.call("mis1" if "episodes" in path else "reg1", "PUT", path, body)
    assert (answer.status_code, answer.json()["title"]) == (400, "malformed-json") and "twice" in answer.json()[
        "detail"
    ]
    assert shared.call("mis1", "GET", "patients/p-anna/episodes").json()["episodes"] == []


def test_without_a_token_nothing_is_said(shared: Api) -> None:
    """A call without a token is 401, before anything of it is read."""
    for method, path in [("PUT", "patients/p-anna"), ("GET", "patients/p-anna/records"), ("POST", "episodes/bulk")]:
        assert shared._control.request(method, "/v1/" + path).status_code == 401
