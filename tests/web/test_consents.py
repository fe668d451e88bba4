"""The registry of consents over the control API of a real process: what is recorded decides the very next request."""

import json
import secrets
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.process.checker import entries_in
from tests.registry.corpus import BY_REPRESENTATIVE, FAILS, REFUSED, Fails, Refused, changed
from tests.registry.documents import CHECKED, REPRESENTATIVE, consent, verified
from tests.sidecar import Sidecar, running_sidecar

KEY = b64encode(bytes(range(32))).decode()
LATER = {"signature.at": "2026-05-01T04:00:00Z"}
PEOPLE: dict[str, dict[str, Any]] = {
    "reg_saltanat": {"roles": ["registrar"], "org": "h1", "purpose_of_use": "PATADMIN"},
    "reg_zarina": {"roles": ["registrar"], "org": "h2", "purpose_of_use": "PATADMIN"},
    "reg_aibek": {"roles": ["registrar"], "org": "h1", "purpose_of_use": "PATADMIN"},
    "dpo_assel": {"roles": ["privacy_officer"], "org": "h1", "purpose_of_use": "HCOMPL"},
    "dana": {},
    "dr_aida": {},
    "saule": {"roles": ["legal_representative"], "purpose_of_use": "PWATRNY"},
    "arman": {"roles": ["delegate"], "purpose_of_use": "FAMRQT"},
    "kamal": {"roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
}


class Api:
    """The control API of a process, called as one person or another."""

    def __init__(self, sidecar: Sidecar, folder: Path) -> None:
        self.sidecar, self.folder = sidecar, folder
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{sidecar.ports['control']}", trust_env=False, timeout=20)
        self._json = httpx.Client(base_url=f"http://127.0.0.1:{sidecar.ports['json']}", trust_env=False, timeout=20)
        self.answers: list[httpx.Response] = []

    def call(self, who: str, method: str, path: str = "", **options: Any) -> httpx.Response:
        """Send one request about consents."""
        headers = {"authorization": f"Bearer {self.sidecar.token(who, **PEOPLE[who])}"} | options.pop("headers", {})
        answer = self.client.request(method, "/v1/consents" + path, headers=headers, **options)
        self.answers.append(answer)
        return answer

    def record(self, who: str = "reg_saltanat", document: Any = None, **headers: str) -> httpx.Response:
        """Record a document; by default the whole, verified consent, by the desk of h1."""
        return self.call(who, "POST", json=verified() if document is None else document, headers=headers)

    def may_read(self, token: str | None = None, patient: str = "p-dana") -> bool:
        """Ask whether dr_aida may read the patient's laboratory results."""
        context = {"purpose": "TREAT"} | ({} if token is None else {"consistency_token": token})
        question = {
            "subject": {"type": "user", "id": "dr_aida"},
            "action": {"name": "read"},
            "resource": {
                "type": "Record",
                "id": "x1",
                "properties": {"patient": patient, "class": "labs", "labels": []},
            },
            "context": context,
        }
        return bool(self._json.post("/access/v1/evaluation", json=question).json()["decision"])

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self._json.close()


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
    """A process of this test's own, from which the demo world's consent of Dana to h1 is withdrawn."""
    for each in serving(tmp_path):
        assert each.call("dana", "POST", "/c-dana-h1/withdraw").status_code == 200
        assert not each.may_read()
        yield each


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One process for what does not look at decisions."""
    yield from serving(tmp_path_factory.mktemp("shared"))


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of a problem document."""
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["type"]) == (answer.status_code, f"urn:ruqsat:problem:{body['title']}")
    return answer.status_code, body["title"]


def etag(answer: httpx.Response) -> dict[str, str]:
    """Return the header that says which version was read."""
    return {"if-match": answer.headers["etag"]}


def test_a_consent_opens_with_its_answer_and_its_withdrawal_closes_with_its_own(api: Api) -> None:
    """Recorded and verified by the desk: allowed from the answer on; withdrawn by the patient: denied from the answer on."""
    recorded = api.record()
    assert (recorded.status_code, recorded.json()["status"]) == (201, "active")
    assert api.may_read() and api.may_read(recorded.json()["token"])

    withdrawn = api.call("dana", "POST", f"/{recorded.json()['consent']}/withdraw")
    assert (withdrawn.status_code, withdrawn.json()["status"]) == (200, "revoked")
    assert not api.may_read() and not api.may_read(withdrawn.json()["token"])
    again = api.call("dana", "POST", f"/{recorded.json()['consent']}/withdraw")
    assert (again.status_code, again.json()["version"]) == (200, withdrawn.json()["version"])


def test_what_the_patient_hands_in_opens_once_the_desk_has_verified_it(api: Api) -> None:
    """A draft opens nothing; the patient cannot verify it; the desk can, at the version that it read."""
    draft = api.record("dana", consent())
    path = f"/{draft.json()['consent']}/verify"
    assert (draft.json()["status"], api.may_read()) == ("draft", False)
    assert problem(api.record("dana", verified())) == (403, "not-yours-to-verify")
    check = {"signature": CHECKED}
    assert problem(api.call("dana", "POST", path, json=check, headers=etag(draft))) == (403, "not_permitted")
    assert problem(api.call("reg_saltanat", "POST", path, json=check)) == (428, "version-required")
    assert not api.may_read()

    done = api.call("reg_saltanat", "POST", path, json=check, headers=etag(draft))
    assert (done.status_code, done.json()["status"], api.may_read()) == (200, "active", True)
    late = api.call("reg_saltanat", "POST", path, json=check, headers=etag(draft))
    assert problem(late) == (412, "version-conflict")
    wrong = api.call("reg_saltanat", "POST", path, json=check, headers=etag(done))
    assert problem(wrong) == (409, "wrong-status")
    assert wrong.json()["allowed"] == ["enter-in-error", "supersede", "withdraw"]


def test_a_signature_that_does_not_hold_rejects_the_consent(api: Api) -> None:
    """One finding against it ends it: nothing opens, then or later."""
    draft = api.record("dana", consent())
    check = {"signature": CHECKED | {"ok": False}}
    done = api.call("reg_saltanat", "POST", f"/{draft.json()['consent']}/verify", json=check, headers=etag(draft))

    assert (done.json()["status"], api.may_read()) == ("rejected", False)


def test_a_refusal_binds_on_receipt_and_only_the_patient_lifts_it(api: Api) -> None:
    """Patient and effect are enough; the desk cannot withdraw it, nor call it an error; the patient can."""
    assert api.record().status_code == 201
    assert api.may_read()
    refusal = api.record("dana", {"patient": "p-dana", "effect": "deny", "kind": "dissent"})
    assert (refusal.status_code, refusal.json()["status"], api.may_read()) == (201, "active", False)
    by_desk = api.record(document={"patient": "p-dana", "effect": "deny", "operator": {"org": "h1"}}).json()["consent"]

    for event in ("withdraw", "enter-in-error"):
        answer = api.call("reg_saltanat", "POST", f"/{by_desk}/{event}", headers={"if-match": '"1"'})
        assert problem(answer) == (409, "refusal-stands")
    for id_ in (refusal.json()["consent"], by_desk):
        assert not api.may_read()
        assert api.call("dana", "POST", f"/{id_}/withdraw").status_code == 200
    # The refusal given to h1 governs its thread: the older consent does not come back to life.
    assert not api.may_read()


def test_what_no_decision_could_read_in_time_is_not_taken(api: Api) -> None:
    """A few of these would keep everybody from the record for good, the patient and the privacy office among them."""
    words = {"effect": "permit", "purposes": ["TREAT"] * 100, "exceptions": [{"effect": "permit"}] * 20}
    long = {"patient": "p-dana", "effect": "deny", "exceptions": [words] * 20}
    for document in (long, verified(exceptions=[words] * 20)):
        answer = api.record(document=document | {"operator": consent()["operator"]})
        assert problem(answer) == (422, "too-much-said") and "fewer exceptions" in answer.json()["detail"]
    assert api.call("dana", "GET", params={"patient": "p-dana"}).json()["consents"] == []
    assert api.record("dana", {"patient": "p-dana", "effect": "deny"}).json()["status"] == "active"


def test_a_newer_document_takes_the_place_of_an_older(api: Api) -> None:
    """In one transaction: the older is superseded, the newer decides; an unverified one changes nothing."""
    old = api.record()
    path = f"/{old.json()['consent']}/supersede"
    draft = api.call("reg_saltanat", "POST", path, json=changed(LATER), headers=etag(old))
    assert problem(draft) == (409, "successor-not-in-force")
    assert api.may_read()

    refusal = {"patient": "p-dana", "effect": "deny", "operator": {"org": "h1"}}
    new = api.call("dana", "POST", path, json=refusal, headers=etag(old))
    assert (new.status_code, api.may_read()) == (201, False)
    read = api.call("dana", "GET", f"/{old.json()['consent']}").json()
    assert (read["status"], read["superseded_by"]) == ("superseded", new.json()["consent"])


def test_a_consent_marked_as_an_error_was_never_there(api: Api) -> None:
    """What was written down by mistake opens nothing from then on."""
    record = api.record()
    path = f"/{record.json()['consent']}/enter-in-error"
    assert problem(api.call("dana", "POST", path, headers=etag(record))) == (403, "not_permitted")
    assert api.may_read()
    assert api.call("reg_saltanat", "POST", path, headers=etag(record)).json()["status"] == "entered-in-error"
    assert not api.may_read()


def test_an_invalid_consent_is_kept_with_its_items_and_opens_nothing(api: Api) -> None:
    """It is answered as invalid, and read so; on demand (``Prefer: handling=strict``) it is refused instead."""
    document = verified(methods_text=None, cross_border=None)
    kept = api.record(document=document)
    assert (kept.status_code, kept.json()["status"], api.may_read()) == (201, "invalid", False)
    assert [(each["path"], each["item"]) for each in kept.json()["items"]] == [
        ("/methods_text", "R9.8"), ("/cross_border", "R9.x2"),
    ]  # fmt: skip
    assert api.call("dana", "GET", f"/{kept.json()['consent']}").json()["items"] == kept.json()["items"]
    check = api.call(
        "reg_saltanat", "POST", f"/{kept.json()['consent']}/verify", json={"signature": CHECKED}, headers=etag(kept)
    )
    assert problem(check) == (409, "wrong-status")

    strict = api.record(document=document, prefer="handling=strict")
    assert problem(strict) == (422, "consent-incomplete")
    assert [each["path"] for each in strict.json()["errors"]] == ["/methods_text", "/cross_border"]


@pytest.mark.parametrize("case", FAILS, ids=lambda case: f"{case.path} {case.code}")
def test_each_failing_item_gets_its_problem_document(shared: Api, case: Fails) -> None:
    """Strictly: 422 with place, item and code; otherwise kept, invalid, with the same list; no value comes back."""
    document = changed(case.changes)
    strict = shared.record(document=document, prefer="handling=strict")
    if case.path.startswith("/operator/org") or case.changes == {"operator": None}:
        assert problem(strict) == (403, "not_permitted")  # whose desk would that be?
        return

    assert problem(strict) == (422, "consent-incomplete")
    found = [(each["path"], each["item"], each["code"]) for each in strict.json()["errors"]]
    assert (case.path, case.item, case.code) in found
    kept = shared.record(document=document)
    assert (kept.status_code, kept.json()["status"]) == (201, "invalid")
    assert [(each["path"], each["item"], each["code"]) for each in kept.json()["items"]] == found
    for answer in (strict, kept):
        assert "CANARY" not in answer.text and "8808081" not in answer.text


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{next(iter(case.changes))} {case.field}")
def test_what_has_no_shape_gets_its_problem_document(shared: Api, case: Refused) -> None:
    """The right status and code, the place of each finding, and nothing of what was sent."""
    answer = shared.record(document=changed(case.changes))

    assert problem(answer) == (case.status, case.code)
    assert case.path in [each["path"] for each in answer.json()["errors"]]
    assert "CANARY" not in answer.text and "880808" not in answer.text


@pytest.mark.parametrize(("content", "expected"), [
    (b"{", (400, "malformed-json")),
    (b"", (400, "malformed-json")),
    (b"\xff\xfe", (400, "malformed-json")),
    (b"[]", (422, "malformed-document")),
    (b"null", (422, "malformed-document")),
    (b'"' + b"x" * (256 * 1024) + b'"', (413, "too-large")),
    (b"[" * 100_000, (400, "malformed-json")),
    (b'{"patient": "\\ud800", "effect": "deny"}', (400, "malformed-json")),
    (b'{"patient": "p-dana", "effect": "permit", "effect": "deny"}', (400, "malformed-json")),
    (b'{"patient": "p-dana", "effect": "deny", "operator": {"org": "h2", "\\u006frg": "h1"}}', (400, "malformed-json")),
])  # fmt: skip
def test_what_is_no_document_is_refused(shared: Api, content: bytes, expected: tuple[int, str]) -> None:
    """Broken JSON, another kind of value, too much of it, what is read in two ways."""
    assert problem(shared.call("reg_saltanat", "POST", content=content)) == expected


def test_one_patient_never_reads_anothers(api: Api) -> None:
    """Reading, listing, withdrawing, superseding: the same answer for what exists and what does not, and for both patients."""
    mine = api.record().json()["consent"]
    assert api.call("dana", "GET", f"/{mine}").json()["document"]["owner"]["surname"] == "CANARY-surname"

    for who in ("kamal", "saule", "arman", "reg_zarina", "dr_aida"):
        tries = [
            [
                api.call(who, "GET", f"/{id_}"),
                api.call(who, "POST", f"/{id_}/withdraw"),
                api.call(who, "POST", f"/{id_}/verify", json={}, headers={"if-match": '"1"'}),
                api.call(who, "POST", f"/{id_}/supersede", json=consent(), headers={"if-match": '"1"'}),
                api.call(who, "POST", f"/{id_}/enter-in-error", headers={"if-match": '"1"'}),
            ]
            for id_ in (mine, "no-such")
        ]
        for real, unknown in zip(*tries, strict=True):
            assert problem(real) == (403, "not_permitted"), (who, real.request.url)
            assert (real.status_code, real.content) == (unknown.status_code, unknown.content)
        listed = api.call(who, "GET", params={"patient": "p-dana"})
        if who == "reg_zarina":
            assert listed.json()["consents"] == []  # those given to its own organisation, which are none
        else:
            assert problem(listed) == (403, "not_permitted")
        assert problem(api.record(who, consent())) == (403, "not_permitted")
    assert api.may_read()


def test_a_desk_is_of_the_organisation_that_the_directory_says(api: Api) -> None:
    """A token that claims another employer opens nothing of that employer's: not to read, list, record or change."""
    id_ = api.record().json()["consent"]
    PEOPLE["reg_claims"] = PEOPLE["reg_zarina"] | {"org": "h1", "sub": "reg_zarina"}

    for answer in (
        api.call("reg_claims", "GET", f"/{id_}"),
        api.call("reg_claims", "GET", params={"patient": "p-dana"}),
        api.call("reg_claims", "POST", f"/{id_}/withdraw"),
        api.record("reg_claims"),
    ):
        assert problem(answer) == (403, "not_permitted")
    assert api.may_read()


def test_what_is_on_record_only_for_decisions_is_no_full_record(api: Api) -> None:
    """The demo world's consent can be withdrawn and not read whole; the patient is told so, others nothing."""
    assert problem(api.call("dana", "GET", "/c-dana-family")) == (404, "no-full-record")
    assert problem(api.call("kamal", "GET", "/c-dana-family")) == (403, "not_permitted")
    verify = api.call("dana", "POST", "/c-dana-family/supersede", json=consent(), headers={"if-match": '"1"'})
    assert problem(verify) == (404, "no-full-record")


def test_who_is_let_in_by_a_consent_reads_its_scope_and_no_name(api: Api) -> None:
    """The physician sees what the consent lets happen; the patient, the desk and the privacy office the whole document."""
    id_ = api.record(document=verified(categories=["consent"])).json()["consent"]
    by_physician = api.call("dr_aida", "GET", f"/{id_}")
    assert (by_physician.status_code, by_physician.json()["status"]) == (200, "active")
    assert "CANARY" not in by_physician.text and "document" not in by_physician.json()

    for who in ("dana", "reg_saltanat", "dpo_assel"):
        assert api.call(who, "GET", f"/{id_}").json()["document"]["owner"]["given"] == "CANARY-given", who


def test_nobody_gets_in_without_a_token(shared: Api) -> None:
    """Each route answers 401 before it reads anything."""
    for method, path in (
        ("POST", ""), ("GET", "?patient=p-dana"), ("GET", "/c1"), ("POST", "/c1/verify"), ("POST", "/c1/withdraw"),
        ("POST", "/c1/supersede"), ("POST", "/c1/enter-in-error"),
    ):  # fmt: skip
        answer = shared.client.request(method, "/v1/consents" + path, content=b"{")
        assert problem(answer) == (401, "unauthenticated"), path


def test_a_representative_gives_in_the_own_name_only(shared: Api) -> None:
    """For the ward, as who the token says; as the patient, or as another representative, it is refused."""
    own = changed(BY_REPRESENTATIVE | {"patient": "p-child"})
    other = changed({"given_by.id": "somebody"}, own)
    as_patient = changed({"given_by.type": "patient"}, own)

    assert shared.record("saule", own).json()["status"] == "draft"
    assert problem(shared.record("saule", other)) == (403, "not-the-giver")
    assert problem(shared.record("saule", as_patient)) == (403, "not-the-giver")
    assert problem(shared.record("dana", changed(BY_REPRESENTATIVE))) == (403, "not-the-giver")


def test_a_representative_reads_of_anothers_consent_who_gave_it_and_no_more_of_that_person(shared: Api) -> None:
    """The other's number, address, paper and certificate are not shown; of the own consent everything is."""
    own = shared.record("saule", changed(BY_REPRESENTATIVE | {"patient": "p-child"})).json()["consent"]
    giver = {"patient": "p-child", "given_by.id": "somebody"}
    other = shared.record(document=changed(BY_REPRESENTATIVE | giver, verified())).json()["consent"]
    mine, theirs = (shared.call("saule", "GET", f"/{each}") for each in (own, other))
    assert {"iin", "address", "authority"} <= set(mine.json()["document"]["representative"])
    assert set(theirs.json()["document"]["representative"]) == {"surname", "given", "patronymic"}
    assert REPRESENTATIVE in mine.text and REPRESENTATIVE not in theirs.text


def test_a_desk_neither_writes_down_nor_verifies_what_the_caller_gives_as_a_representative(shared: Api) -> None:
    """A registrar who represents the ward gives on the own right, and another of the desk verifies (order §11)."""
    mine = changed(BY_REPRESENTATIVE | {"patient": "p-child", "given_by.id": "reg_saltanat"})
    assert problem(shared.record(document=mine)) == (403, "not-yours-to-verify")
    token = shared.sidecar.token("admin_timur", roles=["sysadmin"], org="h1", purpose_of_use="HSYSADMIN")
    entry = {"roles": ["registrar"], "org": "h1", "active": True}
    headers = {"authorization": f"Bearer {token}"}
    assert shared.client.put("/v1/subjects/reg_aibek", json=entry, headers=headers).is_success
    draft = shared.record("reg_aibek", mine)
    path = f"/{draft.json()['consent']}/verify"
    answers = [
        shared.call(who, "POST", path, json={"signature": CHECKED}, headers=etag(draft))
        for who in ("reg_saltanat", "reg_aibek")
    ]
    assert problem(answers[0]) == (403, "not-yours-to-verify") and answers[1].is_success


def test_one_number_is_one_patient(api: Api) -> None:
    """A verified record ties patient and number: the desk cannot tie either to another; others are told nothing."""
    assert api.record().status_code == 201
    other_patient = changed({"patient": "p-marat", "given_by.id": "p-marat"}, verified())
    other_number = changed({"owner.iin": REPRESENTATIVE, "signature.cert_iin": REPRESENTATIVE}, verified())

    for document in (other_patient, other_number):
        assert problem(api.record(document=document)) == (409, "identity-conflict")
    assert api.record("dana", changed({"owner.iin": REPRESENTATIVE})).status_code == 201


def test_the_same_key_and_content_make_one_record(api: Api) -> None:
    """Twenty at once and one later: one record, one answer; with other content the key is refused."""
    key = secrets.token_hex(16)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: api.record(**{"idempotency-key": key}), range(20)))
    answers.append(api.record(**{"idempotency-key": key}))

    assert {answer.status_code for answer in answers} == {201}
    assert len({json.dumps({**answer.json(), "token": ""}) for answer in answers}) == 1
    assert len(api.call("dana", "GET", params={"patient": "p-dana"}).json()["consents"]) == 1
    other = api.record(document=verified(language="ru"), **{"idempotency-key": key})
    assert problem(other) == (409, "idempotency-key-reused")
    assert problem(api.record(**{"idempotency-key": "short"})) == (400, "idempotency-key-malformed")


def test_of_two_who_read_the_same_version_one_changes_it(api: Api) -> None:
    """Ten at once under one version: one is taken, the others are told to read again."""
    draft = api.record("dana", consent())
    path = f"/{draft.json()['consent']}/verify"

    def verify(_: int) -> httpx.Response:
        return api.call("reg_saltanat", "POST", path, json={"signature": CHECKED}, headers=etag(draft))

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(verify, range(10)))
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 9]


def test_lists_come_in_pages(api: Api) -> None:
    """Each record once, in the order of recording, without a name; the desk sees its own organisation's."""
    ids = [api.record("dana", consent()).json()["consent"] for _ in range(5)]
    seen, cursor = [], ""
    for _ in range(3):
        answer = api.call("dana", "GET", params={"patient": "p-dana", "limit": 2, "cursor": cursor})
        assert "CANARY" not in answer.text
        seen += [each["consent"] for each in answer.json()["consents"]]
        cursor = answer.json().get("next")

    assert (seen, cursor) == (ids, None)
    by_desk = api.call("reg_saltanat", "GET", params={"patient": "p-dana"}).json()["consents"]
    assert [each["consent"] for each in by_desk] == ids
    wrong = api.call("dana", "GET", params={"patient": "p-dana", "limit": "CANARY"})
    assert problem(wrong) == (422, "malformed-request") and "CANARY" not in wrong.text


def test_names_stay_under_the_seal(api: Api) -> None:
    """No personal field is in a log, a metric, a decision, the journal or the database's files; the patient reads all of them."""
    record = api.record(**{"idempotency-key": "a-key-of-a-desk"})
    draft = api.record("dana", consent())
    api.record(document=verified(owner=None))
    api.record(document={"CANARY": "CANARY"})
    api.call("dana", "POST", f"/{draft.json()['consent']}/withdraw")
    api.may_read()
    told = [answer.text for answer in api.answers]
    told += [api.client.get(path).text for path in ("/metrics", "/status", "/health/ready")]
    assert "CANARY" in api.call("dana", "GET", f"/{record.json()['consent']}").text

    kept = [path for path in api.folder.rglob("*") if path.is_file()]
    assert any(path.name == "ruqsat.db" for path in kept) and any("journal" in str(path) for path in kept)
    for text in (*told, *(path.read_bytes().decode("latin-1") for path in kept)):
        assert "CANARY" not in text and "880808100" not in text and "301240000011" not in text


def test_every_call_is_in_the_journal_as_a_decision(api: Api) -> None:
    """Who did what, to which record, by which rule; a refused call too."""
    id_ = api.record().json()["consent"]
    api.call("dana", "GET", f"/{id_}")
    api.call("kamal", "GET", f"/{id_}")
    api.call("dana", "POST", f"/{id_}/withdraw")
    kept = [
        entry
        for entry in entries_in(api.folder / "journal")
        if entry.get("listener") == "control" and entry["kind"] != "change"
    ][1:]

    assert [(entry["subject"], entry["action"], entry["resource"], entry["allowed"]) for entry in kept] == [
        ("reg_saltanat", "create", "new", True),
        ("dana", "read", id_, True),
        ("kamal", "read", id_, False),
        ("dana", "consent_manage", id_, True),
    ]
    assert kept[0]["rule"] == "operator-07"


@pytest.mark.slow
def test_records_outlive_a_kill(tmp_path: Path) -> None:
    """What was answered is there after a restart: the decision, the record, and the answer under its key."""
    for first in serving(tmp_path):
        first.call("dana", "POST", "/c-dana-h1/withdraw")
        before = first.record(**{"idempotency-key": "one-and-the-same"})
        first.sidecar.kill()
    for second in serving(tmp_path):
        assert second.may_read()
        read = second.call("dana", "GET", f"/{before.json()['consent']}")
        assert read.json()["document"]["owner"]["surname"] == "CANARY-surname"
        again = second.record(**{"idempotency-key": "one-and-the-same"})
        assert again.json()["consent"] == before.json()["consent"]


@pytest.mark.slow
def test_without_the_key_nothing_opens_but_a_withdrawal_works(tmp_path: Path) -> None:
    """Under another key a record is unreadable and says so; the patient withdraws it all the same."""
    for first in serving(tmp_path):
        id_ = first.record().json()["consent"]
    for second in serving(tmp_path, record_key=b64encode(bytes(32)).decode()):
        assert problem(second.call("dana", "GET", f"/{id_}")) == (503, "record-unreadable")
        assert second.may_read()
        assert second.call("dana", "POST", f"/{id_}/withdraw").json()["status"] == "revoked"
        assert not second.may_read()


@pytest.fixture
def on_postgres(tmp_path: Path, truth: str) -> Iterator[Api]:
    """A process whose store is PostgreSQL."""
    yield from serving(tmp_path, database_url=truth)


def test_on_postgresql_too(on_postgres: Api) -> None:
    """Recorded, read, allowed; withdrawn, denied; one key, one record."""
    api = on_postgres
    api.call("dana", "POST", "/c-dana-h1/withdraw")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.record(**{"idempotency-key": "one-and-the-same"}), range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["consent"] for answer in answers}) == 1
    id_ = answers[0].json()["consent"]
    assert api.may_read()
    assert api.call("dana", "GET", f"/{id_}").json()["document"]["owner"]["surname"] == "CANARY-surname"
    other = changed({"patient": "p-marat", "given_by.id": "p-marat"}, verified())
    assert problem(api.record(document=other)) == (409, "identity-conflict")
    assert api.call("dana", "POST", f"/{id_}/withdraw").json()["status"] == "revoked"
    assert not api.may_read()


def test_the_description_of_the_api_is_whole(shared: Api) -> None:
    """OpenAPI names every route, and each reference in it leads somewhere."""
    described = shared.client.get("/openapi.json").json()
    text = json.dumps(described)
    references = {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}

    assert {"/v1/consents", "/v1/consents/{consent}", "/v1/consents/{consent}/verify"} <= set(described["paths"])
    assert references and references <= set(described["components"]["schemas"])
    assert "Person" in references


def test_an_application_reads_of_the_patient_alone_that_it_was_started_for(shared: Api) -> None:
    """With `patient/` scopes, started for another it reads nothing of its own user; who acts stands in the journal."""

    def listed(**claims: str) -> int:
        token = shared.sidecar.token("dana", scope="patient/*.rs", act={"sub": "portal-app"}, **claims)
        return shared.client.get(
            "/v1/consents", params={"patient": "p-dana"}, headers={"authorization": f"Bearer {token}"}
        ).status_code

    assert (listed(), listed(patient="p-dana"), listed(patient="p-vika")) == (200, 200, 403)
    journal = b"".join(each.read_bytes() for each in (shared.folder / "journal").iterdir() if each.is_file())
    assert journal.count(b'"actors":["portal-app"]') == 3
