"""Delegations, powers, requests and sessions over the control API of a real process: what is written decides the next request."""

import json
import secrets
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.process.checker import entries_in
from tests.registry.corpus import changed
from tests.registry.record_corpus import RECORD_FAILS, RECORD_REFUSED, RecordFails, RecordRefused
from tests.registry.record_documents import CHECK, PATHS, REVIEW, family_consent, whole
from tests.sidecar import Sidecar, running_sidecar
from tests.web.test_consents import KEY, etag, problem

PEOPLE: dict[str, dict[str, Any]] = {
    "reg_saltanat": {"roles": ["registrar"], "org": "h1", "purpose_of_use": "PATADMIN"},
    "reg_zarina": {"roles": ["registrar"], "org": "h2", "purpose_of_use": "PATADMIN"},
    "reg_aibek": {"roles": ["registrar"], "org": "h1", "purpose_of_use": "PATADMIN"},
    "admin_timur": {"roles": ["sysadmin"], "org": "h1", "purpose_of_use": "HSYSADMIN"},
    "rec_marzhan": {"roles": ["records_officer"], "org": "h1", "purpose_of_use": "HLEGAL"},
    "dpo_assel": {"roles": ["privacy_officer"], "org": "h1", "purpose_of_use": "HCOMPL"},
    "dpo_marat": {"roles": ["privacy_officer"], "org": "h1", "purpose_of_use": "HCOMPL"},
    "dpo_aigerim": {"roles": ["privacy_officer"], "org": "h1", "purpose_of_use": "HCOMPL"},
    "mis_h1": {"roles": ["system_mis"], "org": "h1", "purpose_of_use": "PATADMIN"},
    "ed_bolat": {"roles": ["emergency_clinician"], "org": "h1", "purpose_of_use": "BTG"},
    "dr_aida": {"roles": ["physician"], "org": "h1", "purpose_of_use": "BTG"},
    "dr_paused": {"roles": ["physician"], "org": "h1", "purpose_of_use": "BTG"},
    "dana": {"roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
    "kamal": {"roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
    "saule": {"roles": ["legal_representative"], "purpose_of_use": "PWATRNY"},
    "arman": {"roles": ["delegate"], "purpose_of_use": "FAMRQT"},
}
WRITERS = {"delegation": "dana", "representation": "reg_saltanat", "request": "rec_marzhan", "grant": "ed_bolat"}
ENDS = {"delegation": "revoke", "representation": "end", "request": "close", "grant": "close"}


class Api:
    """The control API of a process, called as one person or another."""

    def __init__(self, sidecar: Sidecar, folder: Path) -> None:
        self.sidecar, self.folder = sidecar, folder
        self.client, self._json = (
            httpx.Client(base_url=f"http://127.0.0.1:{sidecar.ports[name]}", trust_env=False, timeout=20)
            for name in ("control", "json")
        )
        self.answers: list[httpx.Response] = []

    def call(self, who: str, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request; whoever breaks the glass has just proved who it is."""
        claims = PEOPLE[who] | options.pop("claims", {"amr": ["pwd", "mfa"], "auth_time": int(time.time())})
        headers = {"authorization": f"Bearer {self.sidecar.token(who, **claims)}"} | options.pop("headers", {})
        answer = self.client.request(method, "/v1/" + path, headers=headers, **options)
        self.answers.append(answer)
        return answer

    def write(self, kind: str, document: Any = None, who: str | None = None, **headers: str) -> httpx.Response:
        """Write a record down, by default the whole one by whom it is for."""
        document = current(kind) if document is None else document
        return self.call(who or WRITERS[kind], "POST", PATHS[kind], json=document, headers=headers)

    def act(self, who: str, kind: str, id_: str, event: str, body: Any = None, **headers: str) -> httpx.Response:
        """Let an event happen to a record."""
        options: dict[str, Any] = {} if body is None else {"json": body}
        return self.call(who, "POST", f"{PATHS[kind]}/{id_}/{event}", headers=headers, **options)

    def may(self, who: str, what: str, patient: str, purpose: str, **context: Any) -> bool:
        """Ask whether somebody may read a class of a patient's data."""
        question = {
            "subject": {"type": "user", "id": who}, "action": {"name": "read"},
            "resource": {"type": "Record", "id": "x1", "properties": {"patient": patient, "class": what, "labels": []}},
            "context": {"purpose": purpose, **context},
        }  # fmt: skip
        return bool(self._json.post("/access/v1/evaluation", json=question).json()["decision"])

    def name(self, *delegations: str) -> str:
        """Record a consent of Dana's that names these delegations, and return its id."""
        answer = self.call("reg_saltanat", "POST", "consents", json=family_consent(*delegations))
        assert answer.json()["status"] == "active", answer.text
        return str(answer.json()["consent"])

    def delegate(self, id_: str = "g-new", **changes: Any) -> httpx.Response:
        """Write down a delegation that a consent names."""
        return self.write("delegation", whole("delegation", id=id_, consent=self.name(id_), **changes))

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self._json.close()


def current(kind: str) -> dict[str, Any]:
    """Return a whole record whose dates hold today."""
    document, today = whole(kind), datetime.now(UTC)
    if kind == "representation":
        papers = document["representative"]["authority"]
        papers["issued_on"] = (today - timedelta(days=30)).date().isoformat()
        papers["valid_to"] = (today + timedelta(days=300)).date().isoformat()
    return document


def court(id_: str, **changes: Any) -> dict[str, Any]:
    """Return what a caller says of a request of a court."""
    said = {"ref": id_, "authority": "court", "case_no": "2-1140/26", "patient": "p-dana", "categories": ["labs"]}
    return {"legal_request": said | {"verified": True} | changes}


def serving(folder: Path, **settings: str) -> Iterator[Api]:
    """Run a process with the demo world and a record key."""
    with running_sidecar(folder, **({"record_key": KEY} | settings)) as sidecar:
        api = Api(sidecar, folder)
        try:
            yield api
        finally:
            api.close()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A process of this test's own."""
    yield from serving(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One process for what does not look at decisions; a consent there names the delegation of the whole document."""
    for each in serving(tmp_path_factory.mktemp("shared")):
        each.consent = each.name("g-new", "g-arman")  # type: ignore[attr-defined]
        yield each


@pytest.fixture
def on_postgres(tmp_path: Path, truth: str) -> Iterator[Api]:
    """A process whose store is PostgreSQL."""
    yield from serving(tmp_path, database_url=truth)


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest) -> Api:
    """A process on each kind of store in turn."""
    return request.getfixturevalue("api" if request.param == "sqlite" else "on_postgres")  # type: ignore[no-any-return]


# ---- what decisions see --------------------------------------------------------------------------------------


def test_a_delegation_opens_with_its_answer_and_its_revocation_closes_with_its_own(either: Api) -> None:
    """Named by the consent and given by the patient: allowed from the answer on; revoked: denied from the answer on."""
    api = either
    assert not api.may("arman", "vitals", "p-dana", "FAMRQT")
    made = api.delegate()
    assert (made.status_code, made.json()["status"], made.json()["id"]) == (201, "active", "g-new")
    assert api.may("arman", "vitals", "p-dana", "FAMRQT", consistency_token=made.json()["token"])
    assert api.may("arman", "labs", "p-dana", "FAMRQT")  # the older delegation stands beside it

    over = api.act("dana", "delegation", "g-new", "revoke")
    assert (over.status_code, over.json()["status"]) == (200, "revoked")
    assert not api.may("arman", "vitals", "p-dana", "FAMRQT")
    again = api.act("dana", "delegation", "g-new", "revoke")
    assert again.json()["version"] == over.json()["version"]


def test_a_delegate_renounces_and_does_not_revoke_anothers(api: Api) -> None:
    """The own one, full record or not; the reason of the end is told."""
    api.delegate()
    over = api.act("arman", "delegation", "g-new", "revoke")
    assert (over.json()["status"], api.may("arman", "vitals", "p-dana", "FAMRQT")) == ("renounced", False)
    assert api.may("arman", "labs", "p-dana", "FAMRQT")
    assert api.act("arman", "delegation", "g-arman", "revoke").status_code == 200  # on record for decisions alone
    assert not api.may("arman", "labs", "p-dana", "FAMRQT")


def test_a_delegation_that_no_consent_names_is_void(api: Api) -> None:
    """It is kept invalid, under an id of its own, and opens nothing; what has ended does not come back under its id."""
    void = api.write("delegation", whole("delegation", id="g-unnamed", consent=api.name("g-other")))
    assert (void.status_code, void.json()["status"]) == (201, "invalid") and void.json()["id"] != "g-unnamed"
    assert [(each["path"], each["code"]) for each in void.json()["items"]] == [("/consent", "not_named")]
    assert not api.may("arman", "vitals", "p-dana", "FAMRQT")

    api.delegate("g-once")
    api.act("dana", "delegation", "g-once", "revoke")
    again = api.write("delegation", whole("delegation", id="g-once", consent=api.name("g-once")))
    assert again.json()["status"] == "invalid" and "taken" in [each["code"] for each in again.json()["items"]]
    assert not api.may("arman", "vitals", "p-dana", "FAMRQT")


def test_an_id_that_was_rejected_is_told_to_be_taken(api: Api) -> None:
    """The consent names another id: what was rejected stays on record under its own, and the finding says so."""
    draft = api.delegate(delegate=whole("delegation")["delegate"] | {"subject": None})
    rejected = api.act("reg_saltanat", "delegation", "g-new", "verify", CHECK | {"ok": False}, **etag(draft))
    assert rejected.json()["status"] == "rejected"
    again = whole("delegation", id="g-new", consent=api.name("g-new"))
    strict = api.write("delegation", again, prefer="handling=strict")
    assert problem(strict) == (422, "record-incomplete")
    assert [(each["path"], each["code"]) for each in strict.json()["errors"]] == [("/id", "taken")]
    kept = api.write("delegation", again)
    assert (kept.status_code, kept.json()["status"]) == (201, "invalid") and kept.json()["id"] != "g-new"


def test_a_representative_reads_the_own_data_and_anothers_name(api: Api) -> None:
    """A power's holder is told apart by name and kind, not by number, address or paper; the patient reads all."""
    own, other = (
        api.write("representation"),
        api.write("representation", current("representation") | {"subject": "arman"}),
    )
    for made in (own, other):
        api.act("reg_saltanat", "representation", made.json()["id"], "verify", CHECK, **etag(made))
    mine, theirs = (api.call("saule", "GET", f"representations/{each.json()['id']}").json() for each in (own, other))
    assert {"iin", "address", "authority"} <= set(mine["document"]["representative"]) and mine["verification"]
    assert set(theirs["document"]["representative"]) == {"surname", "given", "patronymic"}
    assert "verification" not in theirs and theirs["kind"] == "poa"
    whole_record = api.call("dana", "GET", f"representations/{other.json()['id']}").json()
    assert "iin" in whole_record["document"]["representative"]


def test_a_delegate_known_by_a_number_waits_for_the_desk(api: Api) -> None:
    """A draft until the desk says who it is; the desk of another organisation, and the patient, cannot."""
    delegate = whole("delegation")["delegate"] | {"subject": None}
    draft = api.delegate(delegate=delegate)
    check = CHECK | {"subject": "arman"}
    assert (draft.json()["status"], api.may("arman", "vitals", "p-dana", "FAMRQT")) == ("draft", False)
    for who in ("dana", "reg_zarina", "arman"):
        answer = api.act(who, "delegation", "g-new", "verify", check, **etag(draft))
        assert problem(answer) == (403, "not_permitted"), who
    owner = api.act("reg_saltanat", "delegation", "g-new", "verify", check | {"subject": "dana"}, **etag(draft))
    assert problem(owner) == (422, "verification-incomplete")
    done = api.act("reg_saltanat", "delegation", "g-new", "verify", check, **etag(draft))
    assert (done.json()["status"], api.may("arman", "vitals", "p-dana", "FAMRQT")) == ("active", True)


def test_a_power_opens_once_verified_and_closes_with_its_end(either: Api) -> None:
    """Written down by the desk: nothing; verified: allowed; ended by the giver of the attorney: denied from the answer on."""
    api = either
    made = api.write("representation")
    id_ = made.json()["id"]
    assert (made.status_code, made.json()["status"]) == (201, "recorded")
    assert not api.may("saule", "labs", "p-dana", "PWATRNY")
    assert problem(api.act("saule", "representation", id_, "verify", CHECK, **etag(made))) == (403, "not_permitted")
    assert problem(api.act("reg_saltanat", "representation", id_, "verify", CHECK)) == (428, "version-required")

    done = api.act("reg_saltanat", "representation", id_, "verify", CHECK, **etag(made))
    assert (done.json()["status"], api.may("saule", "labs", "p-dana", "PWATRNY")) == ("verified", True)
    assert problem(api.act("reg_saltanat", "representation", id_, "verify", CHECK, **etag(made))) == (
        412, "version-conflict",
    )  # fmt: skip
    assert api.call("saule", "GET", f"representations/{id_}").status_code == 200

    over = api.act("dana", "representation", id_, "end")
    assert (over.json()["status"], api.may("saule", "labs", "p-dana", "PWATRNY")) == ("ended", False)


def test_nobody_writes_down_or_verifies_what_lets_the_caller_act(api: Api) -> None:
    """A registrar who is named in a power or a delegation leaves it to another of the desk, from first to last."""
    mine = current("representation") | {"subject": "reg_saltanat"}
    assert problem(api.write("representation", mine)) == (403, "not-yours")
    entry = {"roles": ["registrar"], "org": "h1", "active": True}
    assert api.call("admin_timur", "PUT", "subjects/reg_aibek", json=entry).status_code == 201
    made = api.write("representation", mine, who="reg_aibek")
    id_ = made.json()["id"]
    assert problem(api.act("reg_saltanat", "representation", id_, "verify", CHECK, **etag(made))) == (403, "not-yours")

    delegate = whole("delegation")["delegate"] | {"subject": None}
    draft = api.delegate(delegate=delegate)
    itself = CHECK | {"subject": "reg_saltanat"}
    assert problem(api.act("reg_saltanat", "delegation", "g-new", "verify", itself, **etag(draft))) == (
        403,
        "not-yours",
    )
    named = whole("delegation", id="g-2", consent=api.name("g-2"))
    named["delegate"]["subject"] = "reg_saltanat"
    assert problem(api.write("delegation", named, who="reg_saltanat")) == (403, "not-yours")
    assert api.write("delegation", named).json()["status"] == "active"  # the patient may let a registrar in
    assert api.act("reg_aibek", "representation", id_, "verify", CHECK, **etag(made)).json()["status"] == "verified"


def test_a_representative_delegates_nothing_and_ends_the_own_power(api: Api) -> None:
    """Only the owner shares (order §12); the holder may lay the power down."""
    made = api.write("representation")
    api.act("reg_saltanat", "representation", made.json()["id"], "verify", CHECK, **etag(made))
    assert problem(api.write("delegation", who="saule")) == (403, "not_permitted")
    over = api.act("saule", "representation", made.json()["id"], "end")
    assert (over.json()["status"], api.may("saule", "labs", "p-dana", "PWATRNY")) == ("ended", False)


def test_a_request_on_record_bears_out_what_is_said_of_it(either: Api) -> None:
    """Received: nothing; verified: the decision may refer to it, within its scope; closed: no more."""
    api = either
    made = api.write("request")
    id_ = made.json()["id"]

    def may(what: str = "labs", **changes: Any) -> bool:
        return api.may("rec_marzhan", what, "p-dana", "HLEGAL", **court(id_, **changes))

    assert (made.json()["status"], may()) == ("received", False)
    done = api.act("rec_marzhan", "request", id_, "verify", CHECK, **etag(made))
    assert (done.json()["status"], may()) == ("verified", True)
    assert not may("vitals", categories=["vitals"])
    assert not may(authority="prosecutor")
    assert not may(defer_notice="secrecy")
    assert (api.act("rec_marzhan", "request", id_, "close").json()["status"], may()) == ("closed", False)


def test_a_session_opens_at_once_and_closes_at_once(either: Api) -> None:
    """Opened: the refusal of the patient is overridden for its clinician alone; closed or revoked: denied from the answer on."""
    api = either

    def may(session: str, who: str = "ed_bolat") -> bool:
        return api.may(who, "medications", "p-marat", "BTG", btg_session=session)

    assert not may("s-bolat")  # its term is over
    made = api.write("grant")
    id_ = made.json()["id"]
    assert (made.status_code, made.json()["status"]) == (201, "open")
    assert may(id_) and not may(id_, "dr_aida")
    assert not api.may("ed_bolat", "genomics", "p-marat", "BTG", btg_session=id_)
    over = api.act("ed_bolat", "grant", id_, "close")
    assert (over.json()["status"], may(id_)) == ("closed", False)

    other = api.write("grant").json()["id"]
    assert may(other)
    assert problem(api.act("dr_aida", "grant", other, "close")) == (403, "not_permitted")
    assert problem(api.act("ed_bolat", "grant", other, "revoke")) == (403, "not-yours")
    assert problem(api.act("dpo_assel", "grant", other, "close")) == (403, "not-yours")
    assert (api.act("dpo_assel", "grant", other, "revoke").json()["status"], may(other)) == ("revoked", False)


def test_a_session_is_reviewed_by_somebody_else_once_it_is_over(api: Api) -> None:
    """The privacy office, with the version that it read; due within 72 hours; the own one never."""
    made = api.write("grant")
    id_ = made.json()["id"]
    seen = api.call("dpo_assel", "GET", f"emergency-grants/{id_}").json()
    began, due = (datetime.fromisoformat(seen[name]) for name in ("start", "review_due"))
    assert due - began == timedelta(hours=72)
    assert problem(api.act("dpo_assel", "grant", id_, "review", REVIEW, **etag(made))) == (409, "still-open")
    over = api.act("ed_bolat", "grant", id_, "close")
    assert problem(api.act("ed_bolat", "grant", id_, "review", REVIEW, **etag(over))) == (403, "not-yours")
    assert problem(api.act("dpo_assel", "grant", id_, "review", REVIEW)) == (428, "version-required")
    unclear = api.act("dpo_assel", "grant", id_, "review", REVIEW | {"verdict": "unclear"}, **etag(over))
    assert problem(api.act("dpo_assel", "grant", id_, "review", REVIEW, **etag(unclear))) == (403, "not-yours")
    done = api.act("dpo_aigerim", "grant", id_, "review", REVIEW, **etag(unclear))
    assert [each.json()["status"] for each in (unclear, done)] == ["unclear", "justified"]
    late = api.act("dpo_aigerim", "grant", id_, "review", REVIEW, **etag(done))
    assert problem(late) == (409, "wrong-status")

    # Who is both a physician and the privacy officer opens one and may not touch it from the office.
    claims = {"roles": ["physician"], "purpose_of_use": "BTG", "amr": ["mfa"], "auth_time": int(time.time())}
    own = api.call("dpo_aigerim", "POST", "emergency-grants", json=whole("grant"), claims=claims)
    assert own.status_code == 201
    for event, body in (("revoke", None), ("review", REVIEW)):
        answer = api.act("dpo_aigerim", "grant", own.json()["id"], event, body, **etag(own))
        assert problem(answer) == (403, "not_permitted")


def test_a_session_needs_a_fresh_proof_by_several_factors(api: Api) -> None:
    """None, an old one, one of a single factor, or one from the future: challenged, and nothing is opened."""
    now = int(time.time())
    for claims in (
        {}, {"amr": ["pwd"], "auth_time": now}, {"amr": ["mfa"], "auth_time": now - 310}, {"amr": ["mfa"]},
        {"amr": ["mfa"], "auth_time": now + 600}, {"amr": "mfa", "auth_time": now}, {"amr": ["mfa"], "auth_time": True},
        {"amr": ["mfa"], "auth_time": float("1e300")},
    ):  # fmt: skip
        answer = api.call("ed_bolat", "POST", "emergency-grants", json=whole("grant"), claims=claims)
        assert problem(answer) == (401, "step-up-required"), claims
        assert "insufficient_user_authentication" in answer.headers["www-authenticate"]
    assert api.call("dpo_assel", "GET", "emergency-grants", params={"patient": "p-marat"}).json()["records"] == []
    kept = [entry for entry in entries_in(api.folder / "journal") if entry.get("subject") == "ed_bolat"]
    assert {(entry["kind"], entry["reason"]) for entry in kept} == {("refusal", "deny.btg.mfa")}, "nobody is told of it"


def test_who_may_not_break_the_glass_opens_nothing(shared: Api) -> None:
    """A patient, a desk, an officer, whose right is suspended, or a clinician who states treatment."""
    for who in ("dana", "reg_saltanat", "rec_marzhan", "dpo_assel", "dr_paused", "arman", "saule"):
        assert problem(shared.write("grant", who=who)) == (403, "not_permitted"), who
    answer = shared.call(
        "ed_bolat", "POST", "emergency-grants", json=whole("grant"),
        claims={"purpose_of_use": "TREAT", "amr": ["mfa"], "auth_time": int(time.time())},
    )  # fmt: skip
    assert problem(answer) == (403, "not_permitted")


@pytest.mark.parametrize(
    ("kind", "id_", "strangers", "entitled"),
    [
        ("delegation", "g-arman", ("rec_marzhan", "dr_aida", "kamal"), "reg_zarina"),
        ("representation", "q-dias", ("rec_marzhan", "dana", "arman"), "reg_saltanat"),
        ("representation", "q-dias", ("rec_marzhan", "dana", "arman"), "saule"),
        ("request", "rq-court", ("reg_saltanat", "dana", "dpo_assel"), "rec_marzhan"),
    ],
)  # fmt: skip
def test_what_no_organisation_keeps_is_ended_by_any_office_whose_duty_it_is(
    api: Api, kind: str, id_: str, strangers: tuple[str, ...], entitled: str
) -> None:
    """On record for decisions alone, imported say: it closes with the answer; for others it reads like nothing at all."""

    def opens() -> bool:
        if kind == "request":
            return api.may("rec_marzhan", "labs", "p-dana", "HLEGAL", **court(id_))
        who, patient, purpose = (
            ("arman", "p-dana", "FAMRQT") if kind == "delegation" else ("saule", "p-dias", "PWATRNY")
        )
        return api.may(who, "labs", patient, purpose)

    assert opens()
    for who in strangers:
        assert problem(api.act(who, kind, id_, ENDS[kind])) == (403, "not_permitted"), who
    assert opens()
    over = api.act(entitled, kind, id_, ENDS[kind])
    assert (over.status_code, opens()) == (200, False), over.text


# ---- whose is it ---------------------------------------------------------------------------------------------

STRANGERS = {
    "delegation": ("kamal", "saule", "reg_zarina", "dr_aida", "rec_marzhan"),
    "representation": ("kamal", "arman", "reg_zarina", "dr_aida", "rec_marzhan"),
    "request": ("dana", "kamal", "saule", "arman", "reg_saltanat", "dr_aida"),
    "grant": ("kamal", "saule", "arman", "reg_saltanat", "rec_marzhan", "dr_aida"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", STRANGERS)
def test_a_stranger_learns_nothing_and_changes_nothing(api: Api, kind: str) -> None:
    """Reading, listing, verifying, ending, reviewing: the same answer for what exists and what does not."""
    made = api.delegate() if kind == "delegation" else api.write(kind)
    id_, patient = made.json()["id"], made.json()["patient"]
    for who in STRANGERS[kind]:
        tries = [
            [
                api.call(who, "GET", f"{PATHS[kind]}/{name}"),
                api.act(who, kind, name, ENDS[kind]),
                *([] if kind == "grant" else [api.act(who, kind, name, "verify", CHECK, **etag(made))]),
                *([api.act(who, kind, name, "review", REVIEW, **etag(made))] if kind == "grant" else []),
            ]
            for name in (id_, "no-such")
        ]
        for real, unknown in zip(*tries, strict=True):
            assert problem(real) == (403, "not_permitted"), (who, real.request.url)
            assert real.content == unknown.content
        listed = api.call(who, "GET", PATHS[kind], params={"patient": patient})
        if who == "reg_zarina":
            assert listed.json()["records"] == []  # those of its own organisation, which are none
        else:
            assert problem(listed) == (403, "not_permitted"), who
    keeper = {"request": "rec_marzhan", "grant": "ed_bolat"}.get(kind, "dana")
    assert api.call(keeper, "GET", f"{PATHS[kind]}/{id_}").json()["version"] == 1


def test_a_patient_sees_who_broke_the_glass_and_not_what_the_clinician_wrote(api: Api) -> None:
    """The privacy office and the clinician read the reason; the patient who, when, why by code."""
    emergency = {"patient": "p-dana", "org": "h1", "form_of_care": "urgent", "start": "2026-11-01T09:00:00Z"}
    assert api.call("mis_h1", "PUT", "episodes/e-new", json=emergency).is_success
    id_ = api.call(
        "ed_bolat", "POST", "emergency-grants", json=whole("grant", patient="p-dana"),
    ).json()["id"]  # fmt: skip
    seen = api.call("dana", "GET", f"emergency-grants/{id_}")
    assert (seen.json()["subject"], seen.json()["reason_code"]) == ("ed_bolat", "unconscious")
    assert "CANARY" not in seen.text
    listed = api.call("dana", "GET", "emergency-grants", params={"patient": "p-dana"})
    assert [each["id"] for each in listed.json()["records"]] == [id_] and "CANARY" not in listed.text
    for who in ("dpo_assel", "ed_bolat"):
        assert "CANARY-reason" in api.call(who, "GET", f"emergency-grants/{id_}").text, who


def test_a_token_that_claims_another_office_opens_nothing_of_it(api: Api) -> None:
    """The directory says whose records office it is."""
    made = api.write("request", who="rec_marzhan")
    claims = {"org": "h2"}
    for method, path, body in (
        ("GET", f"/{made.json()['id']}", None), ("POST", f"/{made.json()['id']}/close", None), ("POST", "", whole("request")),
        ("GET", "?patient=p-dana", None),
    ):  # fmt: skip
        answer = api.call("rec_marzhan", method, "statutory-requests" + path, claims=claims, json=body)
        assert problem(answer) == (403, "not_permitted")


def test_nobody_gets_in_without_a_token(shared: Api) -> None:
    """Each route answers 401 before it reads anything."""
    for kind, path in PATHS.items():
        events = [ENDS[kind], *(["review", "revoke"] if kind == "grant" else ["verify"])]
        for method, rest in (
            ("POST", ""),
            ("GET", "?patient=p-dana"),
            ("GET", "/x"),
            *(("POST", f"/x/{e}") for e in events),
        ):
            answer = shared.client.request(method, f"/v1/{path}{rest}", content=b"{")
            assert problem(answer) == (401, "unauthenticated"), (path, rest)


# ---- the form of calls and answers ---------------------------------------------------------------------------


def sent(shared: Api, kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return a changed document whose consent, if it names one, is the one on record there."""
    document = whole(kind) | ({"consent": shared.consent} if kind == "delegation" else {})  # type: ignore[attr-defined]
    return changed(changes, document)


@pytest.mark.parametrize("case", RECORD_FAILS, ids=lambda case: f"{case.kind} {case.path} {case.code}")
def test_each_failing_item_gets_its_problem_document(shared: Api, case: RecordFails) -> None:
    """Strictly: 422 with place, item and code; otherwise kept, invalid, with the same list; no value comes back."""
    document = sent(shared, case.kind, case.changes)
    strict = shared.write(case.kind, document, prefer="handling=strict")
    assert problem(strict) == (422, "record-incomplete")
    found = [(each["path"], each["item"], each["code"]) for each in strict.json()["errors"]]
    assert (case.path, case.item, case.code) in found
    assert all(each["law"] and each["do"] for each in strict.json()["errors"])
    kept = shared.write(case.kind, document)
    assert (kept.status_code, kept.json()["status"]) == (201, "invalid")
    assert [(each["path"], each["item"], each["code"]) for each in kept.json()["items"]] == found
    for answer in (strict, kept):
        assert "CANARY" not in answer.text and "880808" not in answer.text


@pytest.mark.parametrize("case", RECORD_REFUSED, ids=lambda case: f"{case.kind} {case.path} {case.field}")
def test_what_has_no_shape_gets_its_problem_document(shared: Api, case: RecordRefused) -> None:
    """422, the place of each finding, and nothing of what was sent."""
    answer = shared.write(case.kind, sent(shared, case.kind, case.changes))
    assert problem(answer)[0] == 422
    assert case.path in [each["path"] for each in answer.json()["errors"]]
    assert "CANARY" not in answer.text and "880808" not in answer.text


def test_the_same_key_and_content_make_one_record(api: Api) -> None:
    """Ten at once and one later: one record, one answer; with other content, or of another kind, it is another call."""
    key = {"idempotency-key": secrets.token_hex(16)}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: api.write("grant", **key), range(10)))
    answers.append(api.write("grant", **key))
    assert {answer.status_code for answer in answers} == {201}
    assert len({json.dumps({**answer.json(), "token": ""}) for answer in answers}) == 1
    assert len(api.call("dpo_assel", "GET", "emergency-grants", params={"patient": "p-marat"}).json()["records"]) == 1
    other = api.write("grant", whole("grant", reason_code="life_threat"), **key)
    assert problem(other) == (409, "idempotency-key-reused")
    # The same person, another kind.
    assert api.write("representation", **key).status_code == 201
    of_the_desk = whole("delegation", consent=api.name("g-new"))
    assert api.write("delegation", of_the_desk, who="reg_saltanat", **key).status_code == 201


def test_lists_come_in_pages(api: Api) -> None:
    """Each record once, without a name; an office sees its own organisation's, the privacy office all."""
    ids = [api.write("request").json()["id"] for _ in range(5)]
    for who in ("rec_marzhan", "dpo_assel"):
        seen, cursor = [], ""
        for _ in range(3):
            asked = {"patient": "p-dana", "limit": 2, "cursor": cursor}
            answer = api.call(who, "GET", "statutory-requests", params=asked)
            assert "CANARY" not in answer.text
            seen += [each["id"] for each in answer.json()["records"]]
            cursor = answer.json().get("next")
        assert (seen, cursor) == (ids, None)


def test_names_stay_under_the_seal(api: Api) -> None:
    """No personal field is in a log, a metric, a decision, the feed, the journal or the database's files; its keepers read all."""
    ids = {}
    for kind in PATHS:
        made = api.delegate() if kind == "delegation" else api.write(kind)
        ids[kind] = made.json()["id"]
        api.write(kind, whole(kind, patient="p-nobody"))
        api.write(kind, whole(kind), who="kamal")
        api.write(kind, {"CANARY": "CANARY"})
        if kind not in ("delegation", "grant"):
            api.act(WRITERS[kind], kind, ids[kind], "verify", CHECK, **etag(made))
    over = api.act("ed_bolat", "grant", ids["grant"], "close")
    api.act("dpo_assel", "grant", ids["grant"], "review", REVIEW, **etag(over))
    told = [answer.text for answer in api.answers]
    told += [api.client.get(path).text for path in ("/metrics", "/status", "/health/ready")]
    for kind, id_ in ids.items():
        keeper = {"request": "rec_marzhan", "grant": "dpo_assel"}.get(kind, "dana")
        assert "CANARY" in api.call(keeper, "GET", f"{PATHS[kind]}/{id_}").text, kind

    kept = [path for path in api.folder.rglob("*") if path.is_file()]
    assert any(path.name == "ruqsat.db" for path in kept) and any("journal" in str(path) for path in kept)
    for text in (*told, *(path.read_bytes().decode("latin-1") for path in kept)):
        for trace in ("CANARY", "880808100", "301240000011", "010101700016"):
            assert trace not in text


def test_every_call_is_in_the_journal_as_a_decision(api: Api) -> None:
    """Who did what, to which record, by which rule; a refused call too."""
    id_ = api.write("grant").json()["id"]
    api.call("kamal", "GET", f"emergency-grants/{id_}")
    api.act("dpo_assel", "grant", id_, "revoke")
    kept = [
        entry
        for entry in entries_in(api.folder / "journal")
        if entry.get("listener") == "control" and entry["kind"] != "change"
    ]
    assert [
        (entry["subject"], entry["action"], entry["resource"], entry["allowed"], entry["rule"]) for entry in kept
    ] == [
        ("ed_bolat", "create", id_, True, "operator-09"),
        ("kamal", "read", id_, False, "entitlement-01"),
        ("dpo_assel", "update", id_, True, "operator-11"),
    ]


def test_records_outlive_a_kill_and_are_ended_without_the_key(tmp_path: Path) -> None:
    """What was answered is there after a restart; under another key a record is unreadable, and ends all the same."""
    for first in serving(tmp_path):
        id_ = first.write("grant").json()["id"]
        first.sidecar.kill()
    for second in serving(tmp_path, record_key=b64encode(bytes(32)).decode()):
        assert second.may("ed_bolat", "medications", "p-marat", "BTG", btg_session=id_)
        assert problem(second.call("dpo_assel", "GET", f"emergency-grants/{id_}")) == (503, "record-unreadable")
        assert second.act("dpo_assel", "grant", id_, "revoke").json()["status"] == "revoked"
        assert not second.may("ed_bolat", "medications", "p-marat", "BTG", btg_session=id_)


@pytest.mark.slow
def test_the_description_of_the_api_is_whole(shared: Api) -> None:
    """OpenAPI names every route, and each reference in it leads somewhere."""
    described = shared.client.get("/openapi.json").json()
    text = json.dumps(described)
    references = {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}
    for kind, path in PATHS.items():
        expected = {f"/v1/{path}", f"/v1/{path}/{{id_}}", f"/v1/{path}/{{id_}}/{ENDS[kind]}"}
        assert expected <= set(described["paths"])
    assert references <= set(described["components"]["schemas"])
    assert {"Delegate", "Official", "Acknowledgement"} <= set(described["components"]["schemas"])
