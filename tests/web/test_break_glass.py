"""The life of break-glass sessions over the control API of a real process: refusals, the review queue, the right given back."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.process.checker import entries_in
from tests.process.test_journal_unwritable import without_room
from tests.registry.record_documents import REVIEW, whole
from tests.web.test_consents import etag, problem
from tests.web.test_records import PEOPLE, Api, serving

QUEUE = "emergency-grants?state=to_review"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A process of this test's own."""
    yield from serving(tmp_path)


def waiting(api: Api, who: str = "dpo_assel", more: str = "") -> list[str]:
    """Return the ids of the sessions that wait for a review."""
    answer = api.call(who, "GET", QUEUE + more)
    assert answer.status_code == 200, answer.text
    return [str(each["id"]) for each in answer.json()["records"]]


def opened(api: Api, **changes: Any) -> httpx.Response:
    """Open a session that must open."""
    answer = api.write("grant", whole("grant", **changes))
    assert answer.status_code == 201, answer.text
    return answer


def judged(api: Api, who: str, id_: str, event: str, body: Any) -> httpx.Response:
    """Let an event happen to the newest version of a session."""
    seen = api.call("dpo_assel", "GET", f"emergency-grants/{id_}")
    return api.act(who, "grant", id_, event, body, **etag(seen))


def test_without_an_emergency_of_the_own_organisation_nothing_opens(api: Api) -> None:
    """Told to the clinician, and a denial in the journal, in the place of what the policy had let happen; a token that claims another organisation opens nothing either."""
    refused = api.write("grant", whole("grant", patient="p-dana"))
    assert problem(refused) == (409, "break-glass-no-episode")
    claims = PEOPLE["ed_bolat"] | {"org": "h2", "amr": ["mfa"], "auth_time": int(time.time())}
    elsewhere = api.call("ed_bolat", "POST", "emergency-grants", json=whole("grant"), claims=claims)
    assert elsewhere.status_code in (403, 409)
    assert waiting(api) == []
    permit, unsent, denial = [
        entry
        for entry in entries_in(api.folder / "journal")
        if entry.get("action") == "create" and entry.get("org") == "h1"
    ]
    assert (permit["allowed"], unsent["kind"], unsent["id"]) == (True, "not_sent", permit["id"])
    assert (denial["kind"], denial["allowed"], denial["reason"]) == ("decision", False, "deny.btg.no_episode")
    assert (denial["subject"], denial["patient"]) == ("ed_bolat", "p-dana")


def test_sessions_wait_for_the_review_of_their_own_office(api: Api) -> None:
    """In pages, as they are due, without what names people; for nobody else, and each look is in the journal."""
    ids = [opened(api).json()["id"] for _ in range(2)]
    assert waiting(api) == ids
    seen = api.call("dpo_assel", "GET", QUEUE)
    first = seen.json()["records"][0]
    assert (first["overdue"], first["anomaly"], first["subject"]) == (False, [], "ed_bolat")
    assert first["review_due"] and "CANARY" not in seen.text

    page = api.call("dpo_assel", "GET", QUEUE + "&limit=1").json()
    assert [each["id"] for each in page["records"]] == ids[:1]
    assert waiting(api, more=f"&limit=1&cursor={page['next']}") == ids[1:]
    soon, late = (datetime.now(UTC) + timedelta(hours=hours) for hours in (71, 73))
    assert waiting(api, more=f"&due_before={soon.strftime('%Y-%m-%dT%H:%M:%SZ')}") == []
    assert waiting(api, more=f"&due_before={late.strftime('%Y-%m-%dT%H:%M:%SZ')}") == ids

    for who in ("ed_bolat", "dana", "reg_saltanat", "rec_marzhan", "admin_timur", "arman"):
        assert problem(api.call(who, "GET", QUEUE)) == (403, "not_permitted"), who
    claims = PEOPLE["dpo_assel"] | {"org": "h2"}
    assert problem(api.call("dpo_assel", "GET", QUEUE, claims=claims)) == (403, "not_permitted")
    claims = PEOPLE["dr_aida"] | {"roles": ["privacy_officer"], "purpose_of_use": "HCOMPL"}
    assert problem(api.call("dr_aida", "GET", QUEUE, claims=claims)) == (403, "not_permitted")
    looks = [e for e in entries_in(api.folder / "journal") if e.get("action") == "search" and e["allowed"]]
    assert {entry["resource"] for entry in looks} == {*ids, "to_review"} and {entry["subject"] for entry in looks} == {
        "dpo_assel"
    }


def test_a_page_of_an_officers_own_sessions_is_empty_and_the_next_goes_on(api: Api) -> None:
    """What an officer is the patient of is not shown, and hides nobody else's behind it."""
    own, other = (opened(api, patient=patient).json()["id"] for patient in ("p-marat", "p-edil"))
    assert waiting(api) == [own, other]

    first = api.call("dpo_marat", "GET", QUEUE + "&limit=1")
    assert (first.status_code, first.json()["records"]) == (200, []), first.text
    assert waiting(api, "dpo_marat", f"&limit=1&cursor={first.json()['next']}") == waiting(api, "dpo_marat") == [other]


@pytest.mark.parametrize("query", [
    "", "?state=open", "?state=to_review&patient=p-marat", "?state=to_review&cursor=x-y", f"?state=to_review&cursor={10**18}-y",
    "?state=to_review&limit=0",
    "?state=to_review&due_before=tomorrow", "?state=to_review&due_before=2026-11-24T10:00:00",
])  # fmt: skip
def test_a_question_that_is_none_is_refused(api: Api, query: str) -> None:
    """Neither a patient nor a state, both, a cursor of nobody's, a moment that is none."""
    answer = api.call("dpo_assel", "GET", "emergency-grants" + query)
    assert answer.status_code in (400, 422), answer.text


def test_misuse_ends_every_session_and_the_office_gives_the_right_back(api: Api) -> None:
    """From the answer on; with a reason, by another than the clinician; what was given back is given back once."""

    def may(session: str) -> bool:
        return api.may("ed_bolat", "medications", "p-marat", "BTG", btg_session=session)

    misused, other = (opened(api).json()["id"] for _ in range(2))
    api.act("ed_bolat", "grant", misused, "close")
    assert may(other)
    assert judged(api, "dpo_assel", misused, "review", REVIEW | {"verdict": "misuse"}).json()["status"] == "misuse"
    assert not may(other)
    assert problem(api.write("grant")) == (403, "not_permitted")

    reason = {"note": "CANARY: heard, and explained by the shift plan"}
    assert problem(judged(api, "ed_bolat", misused, "reinstate", reason))[0] == 403
    assert problem(judged(api, "dana", misused, "reinstate", reason)) == (403, "not_permitted")
    assert judged(api, "dpo_aigerim", misused, "reinstate", {"note": "short"}).status_code == 422
    assert judged(api, "dpo_aigerim", misused, "reinstate", reason).status_code == 200
    assert may(other)
    assert problem(judged(api, "dpo_aigerim", misused, "reinstate", reason)) == (409, "wrong-status")
    events = [(e["event"], *e["actors"]) for e in entries_in(api.folder / "journal") if e["kind"] == "break_glass"]
    assert events == [("suspended", "dpo_assel"), ("lifted", "dpo_aigerim")]
    assert "CANARY: heard" in api.call("dpo_assel", "GET", f"emergency-grants/{misused}").text
    database = (api.folder / "ruqsat.db").read_bytes()
    assert b"CANARY" not in database


def test_a_third_session_for_a_patient_is_confirmed_by_a_colleague_with_a_token_of_the_own(api: Api) -> None:
    """Who could open it, and has just proved who it is; not the clinician again, and not by an old proof."""
    fresh = {"amr": ["mfa"], "auth_time": int(time.time())}

    def third(who: str | None, **claims: Any) -> httpx.Response:
        headers = {}
        if who is not None:
            token = api.sidecar.token(who, **(PEOPLE[who] | fresh | claims))
            headers = {"ruqsat-second-person": f"Bearer {token}"}
        return api.write("grant", **headers)

    ids = [opened(api).json()["id"] for _ in range(2)]
    assert problem(third(None)) == (409, "break-glass-second-person")
    assert problem(third("ed_bolat")) == (409, "break-glass-second-person")
    assert problem(third("dana")) == (403, "not_permitted")
    assert problem(third("dr_aida", auth_time=int(time.time()) - 3600)) == (401, "step-up-required")
    assert third("dr_aida", exp=1).status_code == 401
    done = third("dr_aida")
    assert done.status_code == 201, done.text
    entries = [entry for entry in entries_in(api.folder / "journal") if entry["kind"] in ("decision", "not_sent")]
    unsent = {entry["id"] for entry in entries if entry["kind"] == "not_sent"}
    permits = {e["resource"] for e in entries if e.get("action") == "create" and e["allowed"] and e["id"] not in unsent}
    assert permits == {*ids, done.json()["id"]}
    denials = [
        e["reason"] for e in entries if e.get("action") == "create" and e["kind"] == "decision" and not e["allowed"]
    ]
    assert {"deny.btg.second_person", "deny.btg.mfa"} <= set(denials) and len(denials) >= 5
    seen = api.call("dpo_assel", "GET", f"emergency-grants/{done.json()['id']}").json()
    assert [(each["event"], each["by"]) for each in seen["history"]] == [("create", "ed_bolat"), ("confirm", "dr_aida")]


def test_nothing_opens_while_the_journal_has_no_room(tmp_path: Path, truth: str) -> None:
    """The opening is answered with `try_later`, and the database, which has room, holds no session; with room it opens."""
    for api in serving(tmp_path, database_url=truth):
        with without_room(api.sidecar.process):  # type: ignore[arg-type]
            assert problem(api.write("grant")) == (503, "try_later")
            with psycopg.connect(truth) as connection:
                counts = [
                    connection.execute(question).fetchone()
                    for question in (
                        "SELECT count(*) FROM break_glass", "SELECT count(*) FROM record WHERE kind = 'grant'",
                    )
                ]  # fmt: skip
            assert counts == [(0,), (0,)]
        made = api.write("grant")
        for _ in range(200):
            if made.status_code == 201:
                break
            time.sleep(0.05)
            made = api.write("grant")
        id_ = made.json()["id"]
        assert api.may("ed_bolat", "medications", "p-marat", "BTG", btg_session=id_)
        entries = [entry for entry in entries_in(tmp_path / "journal") if entry.get("resource") == id_]
        kept = [entry for entry in entries if entry["kind"] != "change"]
        assert [(entry["action"], entry["allowed"]) for entry in kept] == [("create", True)]


def test_the_bodies_are_described(api: Api) -> None:
    """The page of the queue, and what a reinstatement says."""
    described = api.client.get("/openapi.json").json()
    names = {each["name"] for each in described["paths"]["/v1/emergency-grants"]["get"]["parameters"]}
    assert {"patient", "state", "due_before", "cursor", "limit"} <= names
    assert "/v1/emergency-grants/{id_}/reinstate" in described["paths"]
    body = described["paths"]["/v1/emergency-grants/{id_}/reinstate"]["post"]["requestBody"]
    part = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert "note" in described["components"]["schemas"][part]["properties"]
