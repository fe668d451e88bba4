"""Proceedings with terms over the control API of a real process: opened, owed, decided, and what decisions make of it."""

import json
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from ruqsat.core.working_days import WorkingDays
from tests.process.checker import entries_in
from tests.process.starter import run_cli
from tests.web.test_consents import etag, problem
from tests.web.test_records import Api, serving

FORBIDDEN = (403, "not_permitted")
APPLICANT = {"kind": "patient", "surname": "CANARY-surname", "iin": "880808100001", "reply_to": "CANARY-reply"}
ASKED = {
    "kind": "information", "patient": "p-dana", "received_at": "2026-03-20T15:00:00+05:00", "channel": "office",
    "form": "paper", "applicant": APPLICANT, "statement": "CANARY-statement",
}  # fmt: skip
DEMANDED = {"kind": "destruction", "patient": "p-dana", "statement": "CANARY-violation"}
ANSWER = {
    "identity": {"method": "CANARY-shown at the desk", "document_ref": "CANARY-ref"}, "sources": ["owner_statement"],
    "methods": ["entered by hand <b>CANARY-method</b>"], "storage_terms": "25 years & more",
}  # fmt: skip
RECORD = {"records": [{"id": "x1", "class": "labs"}]}


def call(api: Api, who: str, method: str, path: str, **options: Any) -> httpx.Response:
    """Send one request; the records office states that it answers a patient."""
    if who == "rec_marzhan":
        options = {"claims": {"purpose_of_use": "PATRQT"}} | options
    return api.call(who, method, path, **options)


def begin(api: Api, who: str, document: dict[str, Any], **headers: str) -> httpx.Response:
    """Open a proceeding."""
    return call(api, who, "POST", "proceedings", json=document, headers=headers)


def step(api: Api, who: str, before: httpx.Response, event: str, **said: Any) -> httpx.Response:
    """Let an event happen to a proceeding as it was answered last."""
    return call(api, who, "POST", f"proceedings/{before.json()['id']}/{event}", json=said, headers=etag(before))


def read(api: Api, who: str, made: httpx.Response, rest: str = "", **options: Any) -> httpx.Response:
    """Read a proceeding."""
    return call(api, who, "GET", f"proceedings/{made.json()['id']}{rest}", **options)


def may_see(api: Api, record: str = "x1") -> bool:
    """Ask whether Dana sees this record of hers."""
    question = {
        "subject": {"type": "user", "id": "dana"}, "action": {"name": "read"},
        "resource": {"type": "Record", "id": record, "properties": {"patient": "p-dana", "class": "labs", "labels": []}},
        "context": {"purpose": "PATRQT"},
    }  # fmt: skip
    return bool(api._json.post("/access/v1/evaluation", json=question).json()["decision"])


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A process of this test's own."""
    yield from serving(tmp_path)


@pytest.fixture
def on_postgres(tmp_path: Path, truth: str) -> Iterator[Api]:
    """A process whose store is PostgreSQL."""
    yield from serving(tmp_path, database_url=truth)


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest) -> Api:
    """A process on each kind of store in turn."""
    return request.getfixturevalue("api" if request.param == "sqlite" else "on_postgres")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One process for what does not look at decisions."""
    yield from serving(tmp_path_factory.mktemp("shared"))


# ---- information: asked, owed, answered ---------------------------------------------------------------------------


def test_what_came_in_on_a_friday_before_nauryz_is_due_on_monday_the_thirtieth(either: Api) -> None:
    """The day is told with the answer, with the calendar that counted it; the officer's queue shows it as overdue."""
    api = either
    made = begin(api, "reg_saltanat", ASKED)
    said = made.json()
    assert (made.status_code, said["status"], said["due"]) == (201, "received", "2026-03-30")
    assert said["calendar"] == WorkingDays().version
    listed = api.call("dpo_assel", "GET", "proceedings", params={"state": "open"}).json()["proceedings"]
    assert [(each["id"], each["due"], each["overdue"]) for each in listed] == [(said["id"], "2026-03-30", True)]
    assert "CANARY" not in json.dumps(listed)


def test_a_patient_asks_and_reads_the_answer_once_it_is_given(either: Api) -> None:
    """Due in three working days from now; no answer before; then as it was given, to the patient and to nobody else."""
    api = either
    made = begin(api, "dana", {"kind": "information", "patient": "p-dana", "org": "h1"})
    assert made.status_code == 201, made.text
    seen = read(api, "dana", made).json()
    assert seen["due"] == WorkingDays().due(date.fromisoformat(seen["received_on"]), 3).isoformat()
    assert (seen["channel"], seen["form"], seen["by"], seen["overdue"]) == (
        "electronic", "electronic_document", "applicant", False,
    )  # fmt: skip
    assert problem(read(api, "dana", made, "/answer")) == (404, "no-answer")
    draft = read(api, "rec_marzhan", made, "/answer")
    assert draft.json()["draft"] is True and draft.json()["storage_terms"] is None

    assert problem(step(api, "dana", made, "answer", **ANSWER)) == (409, "wrong-status")
    done = step(api, "rec_marzhan", made, "answer", **ANSWER)
    assert (done.status_code, done.json()["status"]) == (200, "answered"), done.text
    answer = read(api, "dana", made, "/answer").json()
    assert answer["exists"] is True and "draft" not in answer
    assert {"labs", "documents"} <= {each["class"] for each in answer["classes"]}
    assert "TREAT" in answer["purposes"] and answer["sources"] == ["owner_statement"] and answer["actions"]
    assert (answer["storage_terms"], answer["methods"][0]) == (ANSWER["storage_terms"], ANSWER["methods"][0])
    assert {"consent", "delegation"} <= {each["ground"] for each in answer["recipients"]}
    assert any(each["end"] for each in answer["consents"])
    for who in ("kamal", "saule", "arman", "dr_aida", "reg_zarina"):
        assert problem(read(api, who, made, "/answer")) == FORBIDDEN, who
    assert problem(step(api, "rec_marzhan", done, "refuse", ground="third_party_rights", reasons="x")) == (
        409, "wrong-status",
    )  # fmt: skip


@pytest.mark.parametrize(("lang", "title"), [("kk", "Сіз туралы"), ("ru", "Ответ о том"), ("en", "Answer on what")])
def test_the_answer_is_a_page_to_print_in_three_languages(shared: Api, lang: str, title: str) -> None:
    """No script can run, nothing is loaded, what people wrote is text; the words of lists are the reader's."""
    made = begin(shared, "dana", {"kind": "information", "patient": "p-dana", "org": "h1"})
    step(shared, "rec_marzhan", made, "answer", **ANSWER)
    page = read(shared, "dana", made, f"/answer?format=html&lang={lang}")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script" not in policy and "unsafe" not in policy
    assert page.headers["cache-control"] == "no-store"
    assert f'<html lang="{lang}">' in page.text and f"<h1>{title}" in page.text
    assert (
        "&lt;b&gt;CANARY-method&lt;/b&gt;" in page.text
        and "<b>" not in page.text
        and "25 years &amp; more" in page.text
    )
    for forbidden in ("<script", "javascript:", "http://", "https://", "<img", "onerror", "page."):
        assert forbidden not in page.text
    accepted = read(
        shared, "dana", made, "/answer", headers={"accept": "text/html,*/*", "accept-language": f"de,{lang}"}
    )
    assert accepted.text == page.text


@pytest.mark.parametrize(
    ("said", "path", "code"),
    [
        ({"ground": "too_busy", "reasons": "we are"}, "/ground", "not_allowed"),
        ({"reasons": "we are"}, "/ground", "missing"),
        ({"ground": "third_party_rights"}, "/reasons", "missing"),
        ({"ground": "third_party_rights", "reasons": "  "}, "/reasons", "missing"),
    ],
)  # fmt: skip
def test_information_is_refused_on_the_closed_grounds_alone(shared: Api, said: Any, path: str, code: str) -> None:
    """Any other ground, and none, is a problem document with its place; so are reasons that say nothing."""
    made = begin(shared, "reg_saltanat", ASKED)
    answer = step(shared, "rec_marzhan", made, "refuse", **said)
    assert problem(answer) == (422, "record-incomplete")
    assert [(each["path"], each["code"], each["item"]) for each in answer.json()["errors"]] == [(path, code, "R19")]
    whole = step(shared, "rec_marzhan", made, "refuse", ground="no_identity_document", reasons="CANARY-none was shown")
    assert whole.json()["status"] == "refused"
    seen = read(shared, "dana", made).json()
    assert (seen["ground"], seen["history"][-1]["late"]) == ("no_identity_document", True)


@pytest.mark.parametrize("name", ["identity", "sources", "methods", "storage_terms"])
def test_an_answer_lacks_none_of_its_parts(shared: Api, name: str) -> None:
    """Who applies was made sure of; sources, methods, terms are said; a source that the order does not list is none."""
    made = begin(shared, "reg_saltanat", ASKED)
    lacking = {key: value for key, value in ANSWER.items() if key != name}
    answer = step(shared, "rec_marzhan", made, "answer", **lacking)
    assert problem(answer) == (422, "record-incomplete")
    assert [each["path"] for each in answer.json()["errors"]] == [f"/{name}"]
    strange = step(shared, "rec_marzhan", made, "answer", **(ANSWER | {"sources": ["hearsay"]}))
    assert [(each["path"], each["code"]) for each in strange.json()["errors"]] == [("/sources/0", "not_listed")]


# ---- blocking, destroying, and what decisions make of it ----------------------------------------------------------


def test_what_a_demand_holds_is_not_freed_beside_it(either: Api) -> None:
    """Law 94-V art. 25(2)(8): neither lifted nor destroyed at `/v1/blocks` before the demand is decided; after it, as ever."""
    api = either
    blocked = step(api, "dpo_assel", begin(api, "dana", DEMANDED | RECORD), "block")
    (held,) = call(api, "dpo_assel", "GET", "blocks?patient=p-dana").json()["blocks"]
    lift = {"ground": "not_confirmed", "document_ref": "act-1"}
    for event, said in (("lift", lift), ("destroy", {"demand_ref": "d-1", "method": "overwritten"})):
        answer = call(api, "dpo_aigerim", "POST", f"blocks/{held['id']}/{event}", json=said)
        assert problem(answer) == (409, "held-by-demand")
    assert not may_see(api)
    confirmed = step(api, "dpo_assel", blocked, "confirm", ground="term_over", reasons="CANARY")
    assert step(api, "dpo_assel", confirmed, "restrict", retention="25 years").is_success
    lifted = call(api, "dpo_aigerim", "POST", f"blocks/{held['id']}/lift", json=lift)
    assert (lifted.json()["status"], may_see(api)) == ("lifted", True)


def test_a_demand_blocks_and_two_people_destroy(either: Api) -> None:
    """Blocked from the answer on; confirmed by one, destroyed by another; the act is kept, what was handed in is not."""
    api = either
    assert may_see(api)
    made = begin(api, "dana", DEMANDED | RECORD)
    assert made.status_code == 201 and may_see(api)
    assert problem(step(api, "dana", made, "block")) == FORBIDDEN
    assert problem(step(api, "rec_marzhan", made, "block")) == FORBIDDEN
    blocked = step(api, "dpo_assel", made, "block")
    assert (blocked.json()["status"], blocked.json()["due"], may_see(api)) == ("blocked", None, False), blocked.text

    own = step(api, "dana", blocked, "confirm", ground="unlawful_processing", reasons="CANARY")
    assert problem(own) == (409, "wrong-status") and own.json()["allowed"] == []
    early = step(api, "dpo_aigerim", blocked, "destroy", method="CANARY-method")
    assert problem(early) == (409, "wrong-status")
    loose = step(api, "dpo_assel", blocked, "confirm", ground="because", reasons="CANARY")
    assert [each["code"] for each in loose.json()["errors"]] == ["not_allowed"]
    confirmed = step(api, "dpo_assel", blocked, "confirm", ground="unlawful_processing", reasons="CANARY-found")
    due = WorkingDays().due(date.fromisoformat(read(api, "dpo_assel", made).json()["received_on"]), 1)
    assert (confirmed.json()["status"], confirmed.json()["due"]) == ("confirmed", due.isoformat())
    alone = step(api, "dpo_assel", confirmed, "destroy", method="overwritten")
    assert problem(alone) == (403, "second-person-needed")
    assert read(api, "dpo_assel", made).json()["status"] == "confirmed"
    done = step(api, "dpo_aigerim", confirmed, "destroy", method="overwritten")
    assert (done.json()["status"], may_see(api)) == ("destroyed", False), done.text

    seen = read(api, "dana", made).json()
    act = seen["act"]
    assert (act["records"], act["ground"], act["method"]) == (["x1"], "unlawful_processing", "overwritten")
    assert (act["confirmed_by"], act["destroyed_by"]) == ("dpo_assel", "dpo_aigerim")
    assert "CANARY" not in json.dumps(seen) and (seen["opened"], seen["said"]) == ({}, [])
    listed = api.call("dpo_assel", "GET", "blocks", params={"patient": "p-dana"}).json()["blocks"]
    assert [each["status"] for each in listed if each["record"] == "x1"] == ["destroyed"]


def test_what_is_not_confirmed_is_unblocked_unless_another_demand_holds_it(api: Api) -> None:
    """Two demands on one record: the first lets go, the second still holds; then the record is seen again."""
    first, second = (begin(api, "dana", DEMANDED | RECORD) for _ in range(2))
    first, second = (step(api, "dpo_assel", each, "block") for each in (first, second))
    assert not may_see(api)
    first = step(api, "dpo_assel", first, "dismiss", reasons="CANARY-nothing found")
    assert first.json()["due"] is not None
    first = step(api, "dpo_assel", first, "unblock")
    assert (first.json()["status"], may_see(api)) == ("unblocked", False)
    second = step(api, "dpo_assel", second, "dismiss", reasons="CANARY-nothing found")
    second = step(api, "dpo_assel", second, "unblock")
    assert (second.json()["status"], may_see(api)) == ("unblocked", True)


def test_what_a_law_keeps_stays_blocked_instead(api: Api) -> None:
    """Digital Code art. 41(3): the demand ends, the record is neither used nor destroyed; the law is named."""
    made = begin(api, "dana", DEMANDED)
    assert [each["path"] for each in step(api, "dpo_assel", made, "block").json()["errors"]] == ["/records"]
    made = step(api, "dpo_assel", made, "block", **RECORD)
    made = step(api, "dpo_assel", made, "confirm", ground="term_over", reasons="CANARY")
    assert problem(step(api, "dpo_assel", made, "restrict"))[0] == 422
    made = step(api, "dpo_assel", made, "restrict", retention="CANARY-law")
    assert (made.json()["status"], may_see(api)) == ("restricted", False)
    assert read(api, "dpo_assel", made).json()["open"] is False


def test_two_officers_who_decide_at_once_do_not_both_decide(api: Api) -> None:
    """One restricts, one destroys, both having read the same: exactly one of them is answered."""
    for number in range(3):
        record = {"records": [{"id": f"y{number}", "class": "labs"}]}
        made = begin(api, "dana", DEMANDED | record)
        made = step(api, "dpo_assel", made, "block")
        made = step(api, "dpo_assel", made, "confirm", ground="term_over", reasons="CANARY")
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(step, api, "dpo_aigerim", made, "destroy", method="overwritten")
            other = pool.submit(step, api, "dpo_assel", made, "restrict", retention="CANARY-law")
            answers = [one.result(), other.result()]
        assert sorted(answer.status_code for answer in answers)[0] == 200, [each.text for each in answers]
        assert {answer.status_code for answer in answers} <= {200, 409, 412, 503}
        assert sum(answer.is_success for answer in answers) == 1
        won = next(answer.json()["status"] for answer in answers if answer.is_success)
        listed = api.call("dpo_assel", "GET", "blocks", params={"patient": "p-dana"}).json()["blocks"]
        status = next(each["status"] for each in listed if each["record"] == f"y{number}")
        assert (won, status) in (("destroyed", "destroyed"), ("restricted", "blocked"))


# ---- the others ---------------------------------------------------------------------------------------------------


def test_a_consent_that_was_asked_for_is_granted_by_one_on_record(api: Api) -> None:
    """The physician asks, the patient answers; another patient's consent is no answer; an offer has no overdue."""
    offer = {
        "kind": "consent_request", "patient": "p-dana", "categories": ["labs"], "purposes": ["TREAT"],
        "text_version": "v7", "due_on": "2099-01-05",
    }  # fmt: skip
    claims = {"purpose_of_use": "TREAT"}
    made = api.call("dr_aida", "POST", "proceedings", json=offer, claims=claims)
    assert (made.status_code, made.json()["due"]) == (201, "2099-01-05"), made.text
    assert problem(begin(api, "dana", offer)) == FORBIDDEN
    assert problem(step(api, "dana", made, "grant", consent="c-of-nobody")) == (409, "other-thread")
    done = step(api, "dana", made, "grant", consent="c-dana-h1")
    assert (done.json()["status"], read(api, "dana", made).json()["consent"]) == ("granted", "c-dana-h1")
    past = begin(api, "reg_saltanat", offer | {"due_on": "2020-01-05"})
    assert [(each["path"], each["code"]) for each in past.json()["errors"]] == [("/due_on", "expired")]


def test_a_breach_is_nobodys_in_particular(api: Api) -> None:
    """The privacy office opens it, from the discovery; the authority's receipt closes it; a patient sees nothing of it."""
    breach = {"kind": "breach_notice", "statement": "CANARY-lost", "received_at": "2026-10-22T23:30:00+05:00"}
    assert problem(begin(api, "dana", breach)) == FORBIDDEN
    assert problem(begin(api, "rec_marzhan", breach)) == FORBIDDEN
    made = begin(api, "dpo_assel", breach)
    assert (made.status_code, made.json()["due"]) == (201, "2026-10-23")
    assert problem(read(api, "dana", made)) == FORBIDDEN
    assert problem(step(api, "dpo_assel", made, "send")) == (422, "record-incomplete")
    assert step(api, "dpo_assel", made, "send", reference="CANARY-receipt").json()["status"] == "sent"


def test_a_machine_decides_nothing(shared: Api) -> None:
    """Law 94-V art. 19-1: with every right of the officer, but as a service."""
    made = begin(shared, "reg_saltanat", ASKED)
    path = f"proceedings/{made.json()['id']}/refuse"
    said = {"ground": "third_party_rights", "reasons": "CANARY"}
    for who in ("rec_marzhan", "dpo_assel"):
        purpose = {"rec_marzhan": "PATRQT"}.get(who, "HCOMPL")
        claims = {"subject_type": "service", "purpose_of_use": purpose}
        answer = shared.call(who, "POST", path, json=said, headers=etag(made), claims=claims)
        assert problem(answer) == FORBIDDEN, who


# ---- whose is it, and the form of calls and answers ---------------------------------------------------------------


@pytest.mark.parametrize("who", ["kamal", "saule", "arman", "dr_aida", "reg_zarina", "ed_bolat"])
def test_a_stranger_learns_nothing_and_changes_nothing(shared: Api, who: str) -> None:
    """Reading, moving, assigning, listing: the same answer for what exists and what does not."""
    made = begin(shared, "reg_saltanat", ASKED)
    tries = [
        [
            shared.call(who, "GET", f"proceedings/{name}"),
            shared.call(who, "GET", f"proceedings/{name}/answer"),
            shared.call(who, "POST", f"proceedings/{name}/refuse", json={}, headers=etag(made)),
            shared.call(who, "POST", f"proceedings/{name}/assign", json={"owner": who}, headers=etag(made)),
        ]
        for name in (made.json()["id"], "no-such")
    ]  # fmt: skip
    for real, unknown in zip(*tries, strict=True):
        assert problem(real) == FORBIDDEN, real.request.url
        assert real.content == unknown.content
    for asked in ({}, {"patient": "p-dana"}):
        listed = shared.call(who, "GET", "proceedings", params=asked)
        if who == "reg_zarina" and asked:
            assert listed.json()["proceedings"] == []  # those of its own organisation, which are none
        else:
            assert problem(listed) == FORBIDDEN


def test_a_representative_reads_of_anothers_application_who_made_it_and_no_more_of_that_person(shared: Api) -> None:
    """The other's number, where the answer goes and how the office made sure are not shown; of the own everything is."""
    applicant = APPLICANT | {"kind": "legal_representative"}
    asked = ASKED | {"patient": "p-child", "applicant": applicant}
    own = begin(shared, "saule", {"kind": "information", "patient": "p-child", "applicant": applicant})
    other = begin(shared, "reg_saltanat", asked)
    done = step(shared, "rec_marzhan", begin(shared, "reg_saltanat", asked), "answer", **ANSWER)
    assert (own.status_code, other.status_code, done.status_code) == (201, 201, 200), done.text

    assert read(shared, "saule", own).json()["opened"]["applicant"]["iin"] == APPLICANT["iin"]
    for made in (other, done):
        theirs = read(shared, "saule", made)
        assert theirs.json()["opened"]["applicant"] == {"kind": "legal_representative", "surname": "CANARY-surname"} | {
            "given": None, "patronymic": None,
        }  # fmt: skip
        assert "CANARY-statement" in theirs.text
        for trace in (APPLICANT["iin"], "CANARY-reply", "CANARY-shown", "CANARY-ref"):
            assert trace not in theirs.text
        assert APPLICANT["iin"] in read(shared, "reg_saltanat", made).text


def test_the_queue_is_in_the_order_of_what_is_due(api: Api) -> None:
    """The first due first, what has no term last; by state, day, kind and owner; in pages; each office its own."""
    days = ["2026-05-06", "2026-03-20", "2026-10-22"]
    ids = [
        begin(api, "reg_saltanat", ASKED | {"received_at": f"{day}T09:00:00+05:00"}).json()["id"] for day in days
    ]  # fmt: skip
    letter = {"kind": "authority", "patient": "p-dana", "statement": "CANARY-letter"}
    waits = begin(api, "dpo_assel", letter).json()["id"]
    of_another = begin(api, "reg_zarina", ASKED).json()["id"]
    order = [ids[1], of_another, ids[0], ids[2], waits]
    order[0:2] = sorted(order[0:2])

    def listed(who: str = "dpo_assel", **asked: Any) -> list[str]:
        answer = api.call(who, "GET", "proceedings", params=asked)
        assert answer.is_success, answer.text
        return [each["id"] for each in answer.json()["proceedings"]]

    assert listed() == order
    assert listed(due_before="2026-05-13") == order[:2] and listed(due_before="2026-05-14") == order[:3]
    assert listed(kind="authority") == [waits]
    made = api.call("dpo_assel", "GET", f"proceedings/{ids[0]}")
    taken = api.call(
        "dpo_assel", "POST", f"proceedings/{ids[0]}/assign", json={"owner": "dpo_assel"}, headers=etag(made)
    )
    assert taken.json()["due"] == made.json()["due"]
    assert listed(owner="dpo_assel") == [ids[0]]
    own = call(api, "rec_marzhan", "GET", "proceedings").json()["proceedings"]
    assert [each["id"] for each in own] == [each for each in order if each not in (of_another,)]
    step(api, "rec_marzhan", taken, "refuse", ground="third_party_rights", reasons="CANARY")
    assert listed(state="closed") == [ids[0]] == listed(state="refused") and ids[0] not in listed(state="open")
    seen, cursor = [], ""
    while cursor is not None:
        answer = api.call("dpo_assel", "GET", "proceedings", params={"limit": 2, "cursor": cursor}).json()
        seen += [each["id"] for each in answer["proceedings"]]
        cursor = answer.get("next")
    assert seen == order
    assert problem(api.call("dpo_assel", "GET", "proceedings", params={"state": "forgotten"}))[0] == 422
    assert [
        each["id"]
        for each in api.call("dana", "GET", "proceedings", params={"patient": "p-dana"}).json()["proceedings"]
    ] == order


def test_the_same_key_and_content_make_one_proceeding(api: Api) -> None:
    """Ten at once and one later: one; with other content it is another call."""
    key = {"idempotency-key": secrets.token_hex(16)}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: begin(api, "reg_saltanat", ASKED, **key), range(10)))
    answers.append(begin(api, "reg_saltanat", ASKED, **key))
    good = [answer for answer in answers if answer.is_success]
    assert {answer.status_code for answer in answers} <= {201, 409, 503}
    assert len({answer.json()["id"] for answer in good}) == 1 and answers[-1] in good
    assert len(api.call("dpo_assel", "GET", "proceedings").json()["proceedings"]) == 1
    other = begin(api, "reg_saltanat", ASKED | {"statement": "CANARY-other"}, **key)
    assert problem(other) == (409, "idempotency-key-reused")


def test_a_step_names_the_version_that_was_read(shared: Api) -> None:
    """None: asked for; an older one: told, and nothing happens; an event of another kind, and no event at all."""
    made = begin(shared, "reg_saltanat", ASKED)
    path = f"proceedings/{made.json()['id']}"
    said = {"ground": "third_party_rights", "reasons": "CANARY"}
    assert problem(shared.call("dpo_assel", "POST", f"{path}/refuse", json=said)) == (428, "version-required")
    shared.call("dpo_assel", "POST", f"{path}/assign", json={"owner": None}, headers=etag(made))
    assert problem(step(shared, "dpo_assel", made, "refuse", **said)) == (412, "version-conflict")
    now = shared.call("dpo_assel", "GET", path)
    wrong = step(shared, "dpo_assel", now, "destroy", method="x")
    assert problem(wrong) == (409, "wrong-status") and wrong.json()["allowed"] == ["answer", "refuse"]
    assert problem(step(shared, "dpo_assel", now, "forget")) == (404, "not-found")


@pytest.mark.parametrize(
    ("changes", "path", "code"),
    [
        ({"applicant": None}, "/applicant", "missing"), ({"channel": None}, "/channel", "missing"),
        ({"form": None}, "/form", "missing"), ({"patient": None}, "/patient", "missing"),
        ({"received_at": "2099-01-01T00:00:00Z"}, "/received_at", "in_future"),
        ({"due_on": "2099-01-01"}, "/due_on", "not_allowed"),
        ({"kind": "correction", "statement": " "}, "/statement", "missing"),
        ({"kind": "withdrawal"}, "/consent", "missing"), ({"kind": "objection"}, "/decision", "missing"),
    ],
)  # fmt: skip
def test_an_opening_that_lacks_something_gets_its_problem_document(
    shared: Api, changes: Any, path: str, code: str
) -> None:
    """422, place and code; nothing of what was sent comes back and nothing is kept."""
    answer = begin(shared, "dpo_assel", ASKED | changes)
    if changes == {"patient": None}:
        assert problem(answer) == FORBIDDEN  # of nobody the policy is not even asked
        return
    assert problem(answer) == (422, "record-incomplete")
    assert (path, code) in [(each["path"], each["code"]) for each in answer.json()["errors"]]
    assert all(each["law"] and each["do"] for each in answer.json()["errors"]) and "CANARY" not in answer.text


def test_what_has_no_shape_and_whom_nobody_knows(shared: Api) -> None:
    """A misspelt field, an unknown kind, a number for an id: 422 without a value; an unknown patient: 404; no token: 401."""
    for changes in ({"CANARY-field": 1}, {"kind": "CANARY"}, {"patient": "880808100001"}, {"statement": "C" * 5000}):
        answer = begin(shared, "dpo_assel", ASKED | changes)
        assert problem(answer)[0] == 422 and "CANARY" not in answer.text and "880808" not in answer.text
    assert problem(begin(shared, "dpo_assel", ASKED | {"patient": "p-nobody"})) == (404, "unknown-patient")
    for method, rest in (("GET", ""), ("POST", ""), ("GET", "/x"), ("POST", "/x/refuse"), ("GET", "/x/answer")):
        answer = shared.client.request(method, f"/v1/proceedings{rest}", content=b"{")
        assert problem(answer) == (401, "unauthenticated")
    backdated = begin(shared, "dana", {"kind": "information", "patient": "p-dana", "received_at": ASKED["received_at"]})
    assert [(each["path"], each["code"]) for each in backdated.json()["errors"]] == [("/received_at", "not_allowed")]


def test_names_stay_under_the_seal(api: Api) -> None:
    """No personal field is in a log, a metric, the journal or the database's files; whoever keeps it reads it."""
    made = begin(api, "reg_saltanat", ASKED)
    begin(api, "reg_saltanat", ASKED | {"patient": "p-nobody"})
    done = step(api, "rec_marzhan", made, "answer", **ANSWER)
    listed = api.call("dpo_assel", "GET", "proceedings")
    told = [answer.text for answer in (made, done, listed)]
    told += [api.client.get(path).text for path in ("/metrics", "/status", "/health/ready")]
    assert "CANARY-statement" in read(api, "dana", made).text
    kept = [path for path in api.folder.rglob("*") if path.is_file()]
    assert any(path.name == "ruqsat.db" for path in kept) and any("journal" in str(path) for path in kept)
    for text in (*told, *(path.read_bytes().decode("latin-1") for path in kept)):
        for trace in ("CANARY", "880808100"):
            assert trace not in text


def test_every_call_is_in_the_journal_as_a_decision(api: Api) -> None:
    """Who did what, by which rule; of an event that destroys, each record as well; a refused call too."""
    made = begin(api, "dana", DEMANDED | RECORD)
    read(api, "kamal", made)
    step(api, "dpo_assel", made, "block")
    kept = [
        entry
        for entry in entries_in(api.folder / "journal")
        if entry.get("listener") == "control" and entry["kind"] != "change"
    ]
    id_ = made.json()["id"]
    assert [(e["subject"], e["action"], e["resource"], e["allowed"], e["rule"]) for e in kept] == [
        ("dana", "create", "new", True, "self-access-06"),
        ("kamal", "read", id_, False, "entitlement-01"),
        ("dpo_assel", "update", id_, True, "operator-17"),
        ("dpo_assel", "block", "x1", True, "operator-05"),
    ]


@pytest.mark.slow
def test_under_another_key_a_proceeding_is_unreadable_and_still_due(tmp_path: Path) -> None:
    """Its personal part does not open; its days are told all the same."""
    for first in serving(tmp_path):
        made = begin(first, "reg_saltanat", ASKED)
        assert made.status_code == 201
    for second in serving(tmp_path, record_key="A" * 43 + "="):
        assert problem(read(second, "dana", made)) == (503, "record-unreadable")
        listed = second.call("dpo_assel", "GET", "proceedings").json()["proceedings"]
        assert [each["id"] for each in listed] == [made.json()["id"]]


def test_the_description_of_the_api_is_whole(shared: Api) -> None:
    """OpenAPI names every route, and each reference in it leads somewhere."""
    described = shared.client.get("/openapi.json").json()
    text = json.dumps(described)
    references = {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}
    assert {
        "/v1/proceedings", "/v1/proceedings/{id_}", "/v1/proceedings/{id_}/{event}", "/v1/proceedings/{id_}/assign",
        "/v1/proceedings/{id_}/answer",
    } <= set(described["paths"])  # fmt: skip
    assert references <= set(described["components"]["schemas"])
    assert {"Applicant", "RecordRef", "CheckedIdentity"} <= set(described["components"]["schemas"])


def test_the_clock_of_a_process_warns_and_follows_a_withdrawal_up(tmp_path: Path) -> None:
    """When it begins, and after a kill: what is overdue is told, and a withdrawn consent has its proceeding."""
    for first in serving(tmp_path):
        made = begin(first, "reg_saltanat", ASKED)
        consent = first.name("g-new")
        assert first.call("dana", "POST", f"consents/{consent}/withdraw").is_success
        first.sidecar.kill()
    for second in serving(tmp_path):
        for _ in range(200):
            seen = read(second, "dpo_assel", made).json()
            if seen["clock"]:
                break
            time.sleep(0.05)
        assert [each["event"] for each in seen["clock"]] == ["1:overdue", "1:warning"]
        followed = second.call("dpo_assel", "GET", f"proceedings/w-{consent}").json()
        assert (followed["kind"], followed["status"], followed["consent"]) == ("withdrawal", "received", consent)
        due = WorkingDays().due(date.fromisoformat(followed["received_on"]), 15)
        assert followed["due"] == due.isoformat()
        mine = second.call("dana", "GET", f"proceedings/w-{consent}")
        stopped = second.call("rec_marzhan", "POST", f"proceedings/w-{consent}/stop", json={"result": "CANARY"},
                              headers=etag(mine), claims={"purpose_of_use": "PATRQT"})  # fmt: skip
        assert stopped.json()["status"] == "stopped", stopped.text


@pytest.mark.slow
def test_the_calendar_has_the_operators_reviewed_days(tmp_path: Path) -> None:
    """Named in a setting, stored with the term; a file that cannot be read stops the start with one line."""
    file = tmp_path / "days.toml"
    file.write_text("extra_work = [2026-03-28]\n")
    for api in serving(tmp_path / "a", working_days=str(file)):
        made = begin(api, "reg_saltanat", ASKED).json()
        assert made["due"] == "2026-03-28" and made["calendar"] != WorkingDays().version
    file.write_text("extra_wrok = [2026-03-28]\n")
    done = run_cli(
        tmp_path, "serve", working_days=str(file), auth_listen="off", database_url=f"sqlite:///{tmp_path}/b.db"
    )
    assert (done.returncode, "RUQSAT_WORKING_DAYS" in done.stderr) == (2, True), done.stderr
