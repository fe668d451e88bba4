"""The views over the control API of a real process: who may look, and that every look is itself in the journal."""

import asyncio
import csv
import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ruqsat.core.facts import PatientFacts, RecordStatus, Representation, SubjectFacts
from ruqsat.stores.sql import SqlStore
from tests.process.checker import entries_in
from tests.registry.documents import consent
from tests.sidecar import running_sidecar
from tests.views.ground import ago, ship_to, written
from tests.web.facts_api import FIRST, H1, OTHERS, Api
from tests.web.facts_api import PEOPLE as USUAL

IIN = "880808100203"
TODAY = datetime.now(UTC).date()
PEOPLE: dict[str, dict[str, Any]] = USUAL | {
    "dpo2": {"roles": ["privacy_officer"], "org": "h2", "purpose_of_use": "HCOMPL"},
    "parent": {"roles": ["legal_representative"], "purpose_of_use": "PWATRNY"},
    "teen": {"roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
    "child": {"roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
    "dr1": {"roles": ["physician"], "org": "h1", "purpose_of_use": "TREAT"},
}
KNOWN = (
    *FIRST, *OTHERS,
    SubjectFacts("dpo2", roles=("privacy_officer",), org="h2", organisation=H1.organisation),
    SubjectFacts("parent", roles=("legal_representative",)),
    SubjectFacts("teen", roles=("patient",), patient_id="p-teen"),
    SubjectFacts("child", roles=("patient",), patient_id="p-child"),
    SubjectFacts("dr1", roles=("physician",), org="h1", organisation=H1.organisation),
)  # fmt: skip
PATIENTS = (
    PatientFacts("p-anna", birth_date=date(1980, 3, 2), egov=True, records=(RecordStatus("o-held", "labs", ("TBOO",)),)),
    PatientFacts("p-berik", birth_date=date(1981, 3, 2)),
    PatientFacts("p-quiet", birth_date=date(1982, 3, 2)),
    PatientFacts(
        "p-teen", birth_date=TODAY - timedelta(days=17 * 365),
        representations=(Representation("q-1", "parent", "parent", verified=True),),
    ),
    PatientFacts(
        "p-child", birth_date=TODAY - timedelta(days=9 * 365),
        representations=(Representation("q-2", "parent", "parent", verified=True),),
    ),
)  # fmt: skip
LINES = [
    written(1, at=ago(50), purpose="TREAT"),
    written(2, at=ago(49), basis="emergency_override", purpose="BTG", law=["R4"], applied=["s-1"]),
    written(3, at=ago(48), resource="o-held", data_class="genomics", roles=["lab_diagnostic"], org="canary-lab"),
    written(4, at=ago(47), basis="kz273_4_9", purpose="HLEGAL", subject="canary-agent", duties=[]),
    written(5, at=ago(46), subject=IIN, org="h2", allowed=False, reason="deny.consent.none", basis=None, rule=None),
    written(6, at=ago(45), patient="p-berik", subject="dr-berik", resource="=cmd()"),
    written(7, at=ago(44), patient="p-teen", subject="dr-open"),
    written(8, at=ago(43), patient="p-teen", subject="dr-canary", data_class="genomics", shielded=True),
    written(9, at=ago(42), patient="p-berik", patients_beside=["p-anna"], subject="dr-both", resource="o-berik"),
    written(10, at=ago(41), patient="p-berik", org="h2", subject="dr-h2"),
    written(11, at=ago(60 * 24 * 40), subject="dr-old"),
]


class Views(Api):
    """The control API, called as one or another, with headers of one's own."""

    url: str
    journal: Path

    def get(self, who: str, path: str, claims: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        """Look."""
        token = self.sidecar.token(who, **(PEOPLE.get(who, {}) | (claims or {})))
        answer = self._control.get("/v1/" + path, headers={"authorization": f"Bearer {token}", **headers})
        self.answers.append(answer)
        return answer

    def post(self, who: str, path: str, body: Any, **headers: str) -> httpx.Response:
        """Change something."""
        token = self.sidecar.token(who, **PEOPLE.get(who, {}))
        answer = self._control.post("/v1/" + path, headers={"authorization": f"Bearer {token}", **headers}, json=body)
        self.answers.append(answer)
        return answer

    def rows(self, who: str, patient: str, query: str = "", **headers: str) -> list[dict[str, Any]]:
        """Return the rows of a log that may be seen."""
        answer = self.get(who, f"patients/{patient}/access-log?lang=en&{query}", **headers)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["entries"])

    def entries(self, who: str, query: str = "") -> list[dict[str, Any]]:
        """Return the entries that may be seen."""
        answer = self.get(who, f"journal?{query}")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["entries"])

    def looks(self) -> list[tuple[Any, ...]]:
        """Return who looked in whose log, as the journal on disk has it."""
        return [
            (each["subject"], each.get("patient"), each["data_class"], each["resource"], each["allowed"])
            for each in entries_in(self.journal)
            if each.get("action") == "journal_read"
        ]


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory, postgres: Any) -> Iterator[Views]:
    """A process on PostgreSQL that ships nothing itself, into whose database another's lines were shipped."""
    folder, url = tmp_path_factory.mktemp("views"), postgres.new_truth()
    seed(url)
    ship_to(url, w1=LINES)
    with running_sidecar(folder, database_url=url, journal_ship="false") as sidecar:
        api = Views(sidecar)
        api.url, api.journal = url, folder / "journal"
        yield api
        api.close()
    postgres.drop_database(url)


def seed(url: str) -> None:
    """Put everybody on record."""

    async def write() -> None:
        store = await SqlStore.open(url)
        await store.record_facts(KNOWN, PATIENTS)
        await store.aclose()

    asyncio.run(write())


def refusal(answer: httpx.Response) -> tuple[int, bytes]:
    """Return all that a caller learns."""
    return answer.status_code, answer.content


# ---- the patient ---------------------------------------------------------------------------------------------


def test_a_patient_sees_the_own_log(views: Views) -> None:
    """Who, when, what, on which ground, in words; what is beside others, too; not what is secret, and nobody's number."""
    rows = views.rows("anna", "p-anna")

    assert [row["id"] for row in rows] == ["d-9", "d-5", "d-3", "d-2", "d-1", "d-11"]
    first = rows[4]
    assert first["who"] == {
        "person": "dr-aliya",
        "roles": [{"code": "physician", "text": "physician"}],
        "organisation": "h1",
    }
    assert (first["class"]["text"], first["action"]["text"], first["purposes"][0]["text"]) == (
        "laboratory results",
        "read",
        "treatment",
    )
    assert (
        first["ground"]["text"] == "consent of the patient"
        and first["law"][0]["title"] == "Access with the owner's consent"
    )
    assert first["at"].endswith("+05:00") and first["allowed"] is True
    assert [row["id"] for row in rows if row.get("emergency")] == ["d-2"]
    assert set(rows[2]) == {"id", "at", "law", "withheld"}
    assert rows[1]["who"]["person"] is None and rows[1]["reason"]["text"] == "there is no consent"
    told = json.dumps(rows)
    for canary in (IIN, "canary", "genomics", "o-held", "o-berik", "p-berik", "p-anna", "TBOO", "HLEGAL"):
        assert canary not in told, canary


def test_nobody_sees_anybody_elses_log(views: Views) -> None:
    """A patient that has one, one of whom nothing is in it, and one whom nobody knows: one answer, to the byte."""
    for who, claims in (
        ("berik", {}), ("anna", {"patient": "p-quiet"}), ("parent", {}), ("dr1", {}), ("reg1", {}), ("mis1", {}), ("root", {}),
        ("dpo1", {}),  # the privacy office looks through what its own organisation did, not through a whole life
        ("berik", {"roles": ["patient", "privacy_officer"], "purpose_of_use": "HCOMPL", "org": "h1"}),
    ):  # fmt: skip
        patients = ("p-berik", "p-quiet", "p-nobody") if who == "anna" else ("p-anna", "p-quiet", "p-nobody")
        answers = {refusal(views.get(who, f"patients/{patient}/access-log", claims)) for patient in patients}
        assert len(answers) == 1 and answers.pop()[0] == 403, who
    assert views.get("anna", "patients/p-quiet/access-log", {"sub": "nobody"}).status_code == 403
    assert views._control.get("/v1/patients/p-anna/access-log").status_code == 401


def test_a_parent_has_no_part_in_what_an_adolescent_hands_in(views: Views) -> None:
    """Code 78(2): not read, listed or ended, nor is everything on record told to a parent; what is the parent's own is."""
    said = {"patient": "p-teen", "statement": "CANARY-alone"}
    objected = views.post("teen", "proceedings", said | {"kind": "objection", "decision": "d-1"}).json()["id"]
    asked = views.post("teen", "proceedings", said | {"kind": "information"}).json()["id"]
    told = {"identity": {"method": "seen"}, "sources": ["owner_statement"], "methods": ["m"], "storage_terms": "a year"}
    first = {"if-match": '"1"'}
    assert views.post("dpo1", f"proceedings/{asked}/answer", told, **first).status_code == 200
    own = views.post("parent", "proceedings", said | {"kind": "correction", "documents": ["paper-1"]})
    assert own.status_code == 201, own.text

    for path in (f"proceedings/{objected}", f"proceedings/{asked}", f"proceedings/{asked}/answer"):
        assert views.get("teen", path).status_code == 200, path
        assert refusal(views.get("parent", path)) == refusal(views.get("parent", "proceedings/none")), path
    assert views.get("teen", "proceedings?patient=p-teen").status_code == 200
    assert views.get("parent", "proceedings?patient=p-teen").status_code == 403
    assert views.post("parent", f"proceedings/{objected}/abandon", {}, **first).status_code == 403
    assert views.post("parent", "proceedings", said | {"kind": "information"}).status_code == 403
    assert views.get("parent", f"proceedings/{own.json()['id']}").status_code == 200
    assert views.post("parent", f"proceedings/{own.json()['id']}/abandon", {}, **first).status_code == 200
    # Of a child the parent has all of it.
    for kind in ({"kind": "information"}, {"kind": "objection", "decision": "d-1"}):
        paper = {"patient": "p-child", "channel": "office", "form": "paper", "applicant": {"kind": "patient"}}
        made = views.post("dpo1", "proceedings", said | kind | paper).json()["id"]
        assert views.get("parent", f"proceedings/{made}").status_code == 200
    assert views.get("parent", "proceedings?patient=p-child").status_code == 200


def test_a_parent_reads_nothing_of_what_an_adolescent_consented_to_alone(views: Views) -> None:
    """Code 78(2): neither the list nor the document nor who was let in, nor that a desk wrote it down; what the parent gave is."""
    made = views.post("reg1", "consents", consent(patient="p-teen"))
    assert made.status_code == 201, made.text
    alone = made.json()["consent"]
    by_parent = {"given_by": {"type": "legal_rep", "id": "parent", "kind": "parent"}}
    own = views.post("parent", "consents", consent(patient="p-teen", **by_parent)).json()["consent"]

    for path in (f"consents/{alone}", "consents?patient=p-teen", "delegations?patient=p-teen"):
        assert views.get("teen", path).status_code == 200, path
        assert refusal(views.get("parent", path)) == refusal(views.get("parent", "consents/none")), path
    assert views.get("reg1", f"consents/{alone}").status_code == 200
    assert views.get("parent", f"consents/{own}").status_code == 200
    (entry,) = [
        each
        for each in entries_in(views.journal)
        if (each.get("subject"), each.get("patient"), each.get("action")) == ("reg1", "p-teen", "create")
        and (each["kind"], each.get("allowed")) == ("decision", True)
    ]
    assert entry["shielded"] is True and "held" not in entry
    # Of a child the parent reads all of it.
    young = views.post("reg1", "consents", consent(patient="p-child")).json()["consent"]
    for path in (f"consents/{young}", "consents?patient=p-child", "delegations?patient=p-child"):
        assert views.get("parent", path).status_code == 200, path


def test_a_parent_reads_no_number_and_no_address_of_the_other_parent(views: Views) -> None:
    """Of an application, as of consents and powers: the name alone; whoever handed it in reads all of it."""
    applicant = {"kind": "legal_representative", "iin": IIN, "surname": "Ким", "reply_to": "CANARY street 1"}
    said = {"patient": "p-child", "kind": "objection", "decision": "d-1", "statement": "no", "applicant": applicant}
    theirs = views.post("dpo1", "proceedings", said | {"channel": "office", "form": "paper"}).json()["id"]
    own = views.post("parent", "proceedings", said).json()["id"]

    shown = views.get("parent", f"proceedings/{theirs}")
    name = {"surname": "Ким", "given": None, "patronymic": None}
    assert shown.json()["opened"]["applicant"] == name | {"kind": "legal_representative"}
    assert IIN not in shown.text and "CANARY" not in shown.text
    assert all(
        IIN in views.get(*each).text for each in (("parent", f"proceedings/{own}"), ("dpo1", f"proceedings/{theirs}"))
    )


def test_no_parent_lifts_what_an_adolescent_refused(views: Views) -> None:
    """Code 78(2), reading A-2: not withdrawn, not replaced, not outdone in its thread, at a desk either; the giver may."""
    refusal = {"patient": "p-teen", "effect": "deny", "operator": {"org": "h1"}}
    stands = views.post("teen", "consents", refusal).json()["consent"]
    alone = views.post("teen", "consents", {"patient": "p-teen", "effect": "deny", "kind": "dissent"}).json()["consent"]
    by_parent = {"given_by": {"type": "legal_rep", "id": "parent", "kind": "parent"}}
    permit = consent(patient="p-teen", **by_parent)
    first = {"if-match": '"1"'}

    for who, path, body, headers in (
        ("parent", f"consents/{stands}/withdraw", None, {}), ("parent", f"consents/{alone}/withdraw", None, {}),
        ("parent", "consents", permit, {}), ("parent", "consents", refusal | by_parent | {"categories": ["labs"]}, {}),
        ("parent", f"consents/{stands}/supersede", permit, first),
        ("parent", f"consents/{alone}/supersede", refusal | by_parent | {"kind": "dissent"}, first),
        ("reg1", "consents", permit, {}), ("reg1", f"consents/{stands}/supersede", permit, first),
    ):  # fmt: skip
        answer = views.post(who, path, body, **headers)
        assert (answer.status_code, answer.json()["title"]) == (409, "refusal-stands"), (who, path, answer.text)
    assert all(views.get("teen", f"consents/{each}").json()["status"] == "active" for each in (stands, alone))
    for each in (stands, alone):
        assert views.post("teen", f"consents/{each}/withdraw", None).json()["status"] == "revoked"
    assert views.post("parent", "consents", permit).status_code == 201
    # What a child is on record with, a parent lifts.
    young = views.post("child", "consents", refusal | {"patient": "p-child"}).json()["consent"]
    assert views.post("parent", f"consents/{young}/withdraw", None).json()["status"] == "revoked"


def test_what_was_let_happen_and_refused_is_taken_back(views: Views) -> None:
    """Nobody is told of a change that there was not; what was made, and what the policy denied, is not taken back."""
    made = views.post("berik", "consents", {"patient": "p-berik", "effect": "deny", "kind": "dissent"})
    path = f"consents/{made.json()['consent']}/withdraw"
    for who, path_, code in (("berik", path, 412), ("anna", path, 403)):
        before = len(entries_in(views.journal))
        assert views.post(who, path_, None, **{"if-match": '"9"'}).status_code == code
        told = [
            (each["kind"], each.get("allowed"), each.get("reason"), each.get("subject"))
            for each in entries_in(views.journal)[before:]
            if each["kind"] != "facts"
        ]
        refused = [("not_sent", True, "allow.self", "berik"), ("decision", False, "deny.refused", "berik")]
        if who == "berik":
            assert [("decision", True, "allow.self", "berik"), *refused] == told
        else:
            assert [each[:2] for each in told] == [("decision", False)]
    before = len(entries_in(views.journal))
    assert views.post("berik", path, None).status_code == 200
    assert [each["kind"] for each in entries_in(views.journal)[before:] if each["kind"] != "facts"] == [
        "decision",
        "change",
    ]


def test_an_empty_queue_of_reviews_is_told_to_the_office_alone_and_the_look_stands_in_the_journal(views: Views) -> None:
    """Whoever merely states the office's purpose is refused, with sessions to review or without."""
    for who in ("dr1", "reg1", "anna", "root", "mis1"):
        claims = {"purpose_of_use": "HCOMPL", "org": "h1"}
        assert views.get(who, "emergency-grants?state=to_review", claims).status_code == 403, who
    before = len(entries_in(views.journal))
    answer = views.get("dpo2", "emergency-grants?state=to_review")
    assert (answer.status_code, answer.json()["records"]) == (200, [])
    looked = [
        (each["subject"], each["resource"], each["data_class"], each["allowed"])
        for each in entries_in(views.journal)[before:]
        if each["kind"] == "decision"
    ]
    assert looked == [("dpo2", "to_review", "queue", True)]


def test_an_empty_log_is_an_empty_page(views: Views) -> None:
    """The own one, in a time in which nothing was."""
    answer = views.get("anna", "patients/p-anna/access-log?from=2020-01-01T00:00:00Z&to=2020-02-01T00:00:00Z")

    assert (answer.status_code, answer.json()["entries"], answer.json()["next"]) == (200, [], None)


def test_a_cursor_of_anothers_page_is_refused(views: Views) -> None:
    """And is the own one's good: page by page the rows are those of one long page."""
    whole = [row["id"] for row in views.rows("anna", "p-anna")]
    paged, cursor = [], ""
    while True:
        page = views.get("anna", f"patients/p-anna/access-log?limit=2{cursor}").json()
        paged += [row["id"] for row in page["entries"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert paged == whole
    other = views.get("berik", "patients/p-berik/access-log?limit=1").json()["next"]
    forged = views.get("anna", f"patients/p-anna/access-log?cursor={other}")
    altered = views.get("anna", f"patients/p-anna/access-log?cursor=x{other[1:]}")
    assert (forged.status_code, forged.json()["title"]) == (422, "cursor-refused")
    assert refusal(forged) == refusal(altered)


@pytest.mark.parametrize(
    "query",
    ["from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
     "from=2026-01-01", "from=20260101", "to=1767225600", "limit=201", "limit=0", "lang=de", "cursor=" + "A" * 600],
)  # fmt: skip
def test_a_question_is_bounded(views: Views, query: str) -> None:
    """In time, in length, in language; a moment without an offset is a guess."""
    answer = views.get("anna", f"patients/p-anna/access-log?{query}")

    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("query", "accepted", "language", "word"),
    [("", "ru;q=0.9, en;q=0.5", "ru", "врач"), ("", "de", "kk", "дәрігер"), ("?lang=en", "ru", "en", "physician")],
)  # fmt: skip
def test_the_page_is_one_to_print(views: Views, query: str, accepted: str, language: str, word: str) -> None:
    """In the language asked for; nothing may run in it, nobody may keep it, and it says what JSON says."""
    path = "patients/p-anna/access-log" + query
    answer = views.get("anna", path, accept="text/html", **{"accept-language": accepted})

    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-language"] == language and f'<html lang="{language}">' in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert word in answer.text and answer.text.count("<tr>") == 1 + 6
    for canary in (IIN, "canary", "genomics", "o-held", "p-berik", "<script"):
        assert canary not in answer.text, canary
    refused = views.get("berik", path, accept="text/html")
    assert refused.status_code == 403 and "html" not in refused.headers["content-type"]


# ---- the representative --------------------------------------------------------------------------------------


def test_a_representative_sees_the_wards_log_and_not_what_an_adolescent_keeps(views: Views) -> None:
    """Of a visit that the adolescent consented to alone there is no row, no word and no gap."""
    answer = views.get("parent", "patients/p-teen/access-log?lang=en&limit=1")

    assert [row["id"] for row in answer.json()["entries"]] == ["d-7"] and answer.json()["next"] is None
    assert "canary" not in answer.text
    page = views.get("parent", "patients/p-teen/access-log?lang=en", accept="text/html").text
    assert "canary" not in page and "the patient whom you represent" in page
    assert views.get("parent", "patients/p-anna/access-log").status_code == 403


# ---- the privacy office --------------------------------------------------------------------------------------


def test_the_privacy_office_looks_through_its_own_organisation(views: Views) -> None:
    """Whatever the patient, the secret ones too; of another organisation nothing, by no filter."""
    entries = views.entries("dpo1")

    assert [each["id"] for each in entries] == ["d-9", "d-8", "d-7", "d-6", "d-4", "d-2", "d-1"]  # the last 31 days
    assert {each["org"] for each in entries} == {"h1"}
    assert [each["id"] for each in views.entries("dpo2")] == ["d-10", "d-5"]
    assert views.entries("dpo2", "patient=p-teen") == [] == views.entries("dpo2", "patient=p-nobody")
    assert [each["id"] for each in views.entries("dpo2", "patient=p-berik")] == ["d-10"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("patient=p-berik", ["d-9", "d-6"]), ("patient=p-anna", ["d-9", "d-4", "d-2", "d-1"]), ("subject=dr-both", ["d-9"]),
        ("action=read&class=genomics", ["d-8"]), ("allowed=false", []), ("grant=s-1", ["d-2"]), ("rule=consent-02", []),
        ("reason=allow.consent&limit=500&subject=dr-open", ["d-7"]), ("org=h1&subject=dr-h2", []),
        ("from={old}&subject=dr-old", ["d-11"]),
    ],
)  # fmt: skip
def test_entries_are_found_by_what_they_say(views: Views, query: str, ids: list[str]) -> None:
    """Each filter narrows, and none widens."""
    old = (datetime.now(UTC) - timedelta(days=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert [each["id"] for each in views.entries("dpo1", query.replace("{old}", old))] == ids


def test_nobody_looks_through_another_organisations_journal(views: Views) -> None:
    """Asked for by name, by a token that names it, or by a token that names none; nor does anybody else look at all."""
    for who, query, claims in (
        ("dpo1", "org=h2", {}), ("dpo1", "", {"org": "h2"}), ("dpo1", "org=h2", {"org": "h2"}), ("dpo1", "", {"org": None}),
        ("dpo1", "org=h2&patient=p-berik", {}), ("dpo1", "org=h2&format=csv", {}), ("dpo1", "org=", {}),
        ("anna", "", {}), ("anna", "org=h1&patient=p-anna", {}), ("parent", "org=h1&patient=p-teen", {}), ("dr1", "", {}),
        ("reg1", "", {}), ("mis1", "", {}), ("root", "", {}), ("dpo1", "", {"purpose_of_use": "TREAT"}),
    ):  # fmt: skip
        answer = views.get(who, f"journal?{query}", claims)
        assert answer.status_code in (403, 422) and b'"d-' not in answer.content, (who, query, claims)
    assert views.get("dpo1", "journal?canary=1").status_code == 422


def test_a_cursor_of_another_question_is_refused(views: Views) -> None:
    """Of another officer, another filter, another organisation, or of a patient's page."""
    cursor = views.get("dpo1", "journal?limit=2").json()["next"]
    assert [each["id"] for each in views.entries("dpo1", f"limit=2&cursor={cursor}")] == ["d-7", "d-6"]

    mine = views.get("anna", "patients/p-anna/access-log?limit=1").json()["next"]
    for who, query in (
        ("dpo2", f"cursor={cursor}"), ("dpo1", f"patient=p-anna&cursor={cursor}"), ("dpo1", f"allowed=true&cursor={cursor}"),
        ("dpo1", f"cursor={mine}"), ("dpo1", "cursor=AAAA"),
    ):  # fmt: skip
        assert views.get(who, f"journal?{query}").json()["title"] == "cursor-refused", (who, query)


def test_an_export_is_taken_away_whole(views: Views) -> None:
    """As CSV that no spreadsheet runs, as JSON Lines, as AuditEvents; each says its type, and none may be kept by a cache."""
    ids = [each["id"] for each in views.entries("dpo1")]

    table = views.get("dpo1", "journal?format=csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["id"] for row in rows] == ids and table.headers["content-type"] == "text/csv; charset=utf-8"
    assert [row["resource"] for row in rows if row["id"] == "d-6"] == ["'=cmd()"]
    lines = views.get("dpo1", "journal?format=jsonl")
    assert [json.loads(line)["id"] for line in lines.text.splitlines()] == ids
    events = views.get("dpo1", "journal?format=fhir")
    assert events.headers["content-type"] == "application/fhir+ndjson"
    assert [json.loads(line)["id"] for line in events.text.splitlines()] == ids
    assert {json.loads(line)["resourceType"] for line in events.text.splitlines()} == {"AuditEvent"}
    for answer in (table, lines, events):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-disposition"].startswith('attachment; filename="journal.')


# ---- every look is in the journal ----------------------------------------------------------------------------


def test_every_look_is_itself_in_the_journal(views: Views) -> None:
    """Who looked in whose log, allowed or not, page or export; and so the patient sees who looked."""
    before = len(views.looks())
    views.get("anna", "patients/p-anna/access-log")
    views.get("berik", "patients/p-anna/access-log", accept="text/html")
    views.get("dpo1", "journal?patient=p-anna")
    views.get("dpo2", "journal?format=csv")
    views.get("dpo1", "journal?org=h2&patient=p-anna")

    assert views.looks()[before:] == [
        ("anna", "p-anna", "journal", "access-log", True), ("berik", "p-anna", "journal", "access-log", False),
        ("dpo1", None, "audit", "all", True), ("dpo1", "p-anna", "journal", "all", True),
        ("dpo2", None, "audit", "export-csv", True), ("dpo1", None, "audit", "all", False),
    ]  # fmt: skip


def test_what_was_decided_is_in_the_log_and_so_is_who_looked(tmp_path: Path) -> None:
    """From a request to the row, by the process's own shipping: a doctor is denied, the patient sees it, and the office's look."""
    url = f"sqlite:///{tmp_path / 'ruqsat.db'}"
    seed(url)
    with running_sidecar(tmp_path, database_url=url) as sidecar:
        api = Views(sidecar)
        assert not api.may("dr1", purpose="TREAT", record="o-held", labels=["TBOO"])
        assert not api.may("dr1", purpose="TREAT", record="o-7", labels=[])
        assert not api.may("dr1", purpose="TREAT", record="o-8", labels=["TBOO"])  # known by the request alone
        assert api.get("dpo1", "journal?patient=p-anna").status_code == 200
        deadline = time.monotonic() + 30
        while len(rows := api.rows("anna", "p-anna", "limit=200")) < 6 and time.monotonic() < deadline:
            time.sleep(0.1)
        first = [
            (row["who"]["roles"][0]["code"], row["class"]["code"]) if "who" in row else "withheld" for row in rows[::-1]
        ]
        assert first[:4] == ["withheld", ("physician", "labs"), "withheld", ("privacy_officer", "journal")]
        assert first[4:6] == [("patient", "journal")] * 2
        api.close()


def test_what_an_adolescent_keeps_is_marked_in_the_journal_when_it_is_denied_too(tmp_path: Path) -> None:
    """An attempt tells of the visit as much as a reading does; what nobody said of a visit is not marked."""
    url = f"sqlite:///{tmp_path / 'ruqsat.db'}"
    seed(url)
    with running_sidecar(tmp_path, database_url=url) as sidecar:
        api = Views(sidecar)
        for record, is_kept in (("o-kept", True), ("o-open", False)):
            about = {"patient": "p-teen", "class": "labs", "labels": [], "self_consented": is_kept}
            question = {
                "subject": {"type": "user", "id": "dr1"}, "action": {"name": "read"}, "context": {"purpose": "TREAT"},
                "resource": {"type": "Observation", "id": record, "properties": about},
            }  # fmt: skip
            assert api._json.post("/access/v1/evaluation", json=question).json()["decision"] is False
        api.close()
        found = {
            each["resource"]: each.get("shielded", False)
            for each in entries_in(tmp_path / "journal")
            if "resource" in each
        }
    assert found == {"o-kept": True, "o-open": False}


def test_the_api_tells_of_itself(views: Views) -> None:
    """Both routes are described, with their parameters."""
    paths = views._control.get("/openapi.json").json()["paths"]

    log, journal = (paths[path]["get"] for path in ("/v1/patients/{id_}/access-log", "/v1/journal"))
    assert {"from", "to", "lang", "cursor", "limit"} <= {each["name"] for each in log["parameters"]}
    assert {"patient", "class", "grant", "format", "from"} <= {each["name"] for each in journal["parameters"]}
