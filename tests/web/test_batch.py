"""Several questions in one call: whole entities as defaults, errors in their own place, three ways to stop."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import pytest

from ruqsat.core.decision import Decision, deny
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.errors import RequestError
from ruqsat.service.answer import Answer
from ruqsat.service.origin import Origin
from ruqsat.web.batch import AT_ONCE, MAX_BATCH, Batch, answer_batch, read_batch
from ruqsat.web.wire import refuse_repeated_members
from tests.process.starter import Sidecar, question, serving

EVALUATIONS = "/access/v1/evaluations"
DISCOVERY = "/.well-known/authzen-configuration"
CANARY = "canary-2b91"
ALLOWED, DENIED = {"subject": {"type": "user", "id": "dr_aida"}}, {"subject": {"type": "user", "id": "dr_erlan"}}
BROKEN = {"subject": {"type": "user"}}
SEMANTICS = ("execute_all", "deny_on_first_deny", "permit_on_first_permit")


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A real process with the demo world and a public address."""
    with serving(tmp_path_factory.mktemp("batch"), public_url="https://pdp.hospital.example/authz/") as process:
        yield process


def ask(sidecar: Sidecar, *items: Any, semantic: str | None = None, **of_all: Any) -> Any:
    """Ask a batch; by default every item is dr_aida's question with what the item says instead."""
    options = {} if semantic is None else {"options": {"evaluations_semantic": semantic}}
    body = (of_all or question()) | {"evaluations": list(items)} | options
    return sidecar.call("json", "POST", EVALUATIONS, json=body)


def decisions(answer: Any) -> list[bool]:
    """The decisions of an answered batch."""
    assert answer.status_code == 200 and set(answer.json()) == {"evaluations"}
    return [each["decision"] for each in answer.json()["evaluations"]]


def test_each_question_is_answered_in_its_place(sidecar: Sidecar) -> None:
    """In order, each with its own id, reason and obligations, each journaled."""
    answer = ask(sidecar, ALLOWED, DENIED, {}, DENIED)

    assert decisions(answer) == [True, False, True, False]
    told = [each["context"] for each in answer.json()["evaluations"]]
    assert len({each["id"] for each in told}) == 4
    assert told[0]["obligations"] and told[1]["reason"] == "consent_required"
    journal = b"".join(path.read_bytes() for path in sidecar.journal.iterdir() if path.is_file())
    assert all(each["id"].encode() in journal for each in told)


def test_an_entity_of_a_question_replaces_the_whole_default(sidecar: Sidecar) -> None:
    """No field of the default is mixed in: a resource without properties has no patient."""
    bare = {"resource": {"type": "Record", "id": "o1"}}

    assert decisions(ask(sidecar, {}, bare, {"context": {}})) == [True, False, False]


def test_a_call_without_questions_is_a_single_one(sidecar: Sidecar) -> None:
    """Absent or empty: the answer is that of an evaluation, not a list."""
    for extra in ({}, {"evaluations": []}, {"evaluations": None}):
        answer = sidecar.call("json", "POST", EVALUATIONS, json=question() | extra)
        assert answer.status_code == 200 and answer.json()["decision"] is True


@pytest.mark.parametrize(
    ("semantic", "items", "expected"),
    [
        (None, (DENIED, ALLOWED, BROKEN), [False, True, False]),
        ("execute_all", (DENIED, ALLOWED), [False, True]),
        ("deny_on_first_deny", (ALLOWED, DENIED, ALLOWED), [True, False]),
        ("deny_on_first_deny", (ALLOWED, BROKEN, ALLOWED), [True, False]),
        ("deny_on_first_deny", (ALLOWED, ALLOWED), [True, True]),
        ("permit_on_first_permit", (DENIED, BROKEN, ALLOWED, DENIED), [False, False, True]),
        ("permit_on_first_permit", (DENIED, DENIED), [False, False]),
    ],
)
def test_three_ways_to_stop(sidecar: Sidecar, semantic: str | None, items: Any, expected: list[bool]) -> None:
    """The deciding answer is the last; an error stops as a denial does, and lets a search for a permit go on."""
    assert decisions(ask(sidecar, *items, semantic=semantic)) == expected


@pytest.mark.parametrize("item", [
    BROKEN, {"subject": None}, {"subject": CANARY}, {"action": {"name": 7}}, {"resource": [CANARY]}, 7, None, CANARY,
    [], {"context": CANARY}, {"subject": {"type": "user", "id": CANARY + "\u0007"}},
    {"context": {"consistency_token": CANARY}}, {"resource": {"type": "Record", "id": ""}},
])  # fmt: skip
def test_a_question_that_cannot_be_read_is_an_error_in_its_place(sidecar: Sidecar, item: Any) -> None:
    """The others are answered; the error is no permit and repeats nothing."""
    answer = ask(sidecar, {}, item, {})

    assert decisions(answer) == [True, False, True]
    assert answer.json()["evaluations"][1]["context"]["error"]["status"] == 400
    assert CANARY not in answer.text


@pytest.mark.parametrize("change", [
    {"evaluations": CANARY}, {"evaluations": {"a": 1}}, {"options": CANARY}, {"subject": CANARY}, {"resource": None},
    {"options": {"evaluations_semantic": CANARY}}, {"evaluations": [{}] * (MAX_BATCH + 1)}, {"context": 7},
])  # fmt: skip
def test_a_call_that_cannot_be_read_is_400(sidecar: Sidecar, change: Any) -> None:
    """What is wrong for all questions is an error of the call."""
    answer = sidecar.call("json", "POST", EVALUATIONS, json=question() | {"evaluations": [ALLOWED]} | change)

    assert answer.status_code == 400 and answer.text and CANARY not in answer.text


def test_a_batch_and_single_questions_agree(sidecar: Sidecar) -> None:
    """Over persons, actions and classes: the same decisions and reasons."""
    people, actions, classes = ("dr_aida", "dr_erlan", "nobody"), ("read", "update", "fly"), ("labs", "documents", "x")
    asked = [question(*each[:2], class_=each[2]) for each in product(people, actions, classes)]
    alone = [sidecar.evaluate(each).json() for each in asked]

    together = ask(sidecar, *asked).json()["evaluations"]

    assert [(each["decision"], each["context"]["reason"]) for each in together] == [
        (each["decision"], each["context"]["reason"]) for each in alone
    ]
    assert {each["decision"] for each in together} == {True, False}


def test_a_large_batch_is_answered_whole(sidecar: Sidecar) -> None:
    """As many as one call may hold, of both kinds, none lost and none doubled."""
    answer = ask(sidecar, *[ALLOWED, DENIED] * (MAX_BATCH // 2))

    assert decisions(answer) == [True, False] * (MAX_BATCH // 2)


def test_the_other_rules_of_the_listener_hold_for_batches(sidecar: Sidecar) -> None:
    """POST with JSON only; the request id comes back, on errors too."""
    assert sidecar.call("json", "GET", EVALUATIONS).status_code == 405
    for content in (b"", b"{", b"[]", b'{"evaluations":[' + b"[" * 5000):
        answer = sidecar.call(
            "json", "POST", EVALUATIONS, content=content,
            headers={"content-type": "application/json", "x-request-id": "r-9"},
        )  # fmt: skip
        assert (answer.status_code, answer.headers["x-request-id"]) == (400, "r-9")
    assert sidecar.call("json", "POST", EVALUATIONS, content=b"{}").status_code == 400


def test_discovery_tells_configured_addresses_whatever_host_was_asked(sidecar: Sidecar) -> None:
    """With a cache header; the caller's Host changes nothing."""
    answer = sidecar.call("json", "GET", DISCOVERY, headers={"host": "evil.example"})

    assert answer.status_code == 200 and answer.headers["cache-control"] == "public, max-age=3600"
    said = answer.json()
    assert "redact" in said.pop("supported_obligations")
    assert said == {
        "policy_decision_point": "https://pdp.hospital.example/authz",
        "access_evaluation_endpoint": "https://pdp.hospital.example/authz/access/v1/evaluation",
        "access_evaluations_endpoint": "https://pdp.hospital.example/authz/access/v1/evaluations",
    }
    assert sidecar.call("json", "POST", DISCOVERY).status_code == 405


def test_the_first_bad_question_does_not_hide_behind_the_defaults() -> None:
    """Null is not the same as absent: it is refused, and the default does not stand in."""
    read = read_batch(json.dumps(question() | {"evaluations": [{"action": None}, {}]}).encode())

    assert isinstance(read, Batch)
    assert isinstance(read.questions[0], RequestError) and not isinstance(read.questions[1], RequestError)


REPEATED = [
    b'{"a":1,"a":2}', b'{"a":1, "a" :2}', b'{"a":{"b":1,"b":1}}', b'[{"a":1},{"a":1,"a":1}]', b'{"a":1,"\\u0061":1}',
    b'{"":0,"":0}', b'{"a b":1,"a b":2,"ab":3}', b'{"a":1e2,"a":100.0}', b'{"x":[[[{"y":0,"y":0}]]]}',
]  # fmt: skip
SOUND = [
    b"{}", b'{"a":1,"b":{"a":1}}', b'[{"a":1},{"a":1}]', b'{"a b":1,"ab":2}', b'{"a": 1e2,\n "b": "\\u00e9"}',
    b'{"a":"a","A":"a\\"a"}', b' { "a" : [ 1 , 2 ] } ',
]  # fmt: skip


def test_a_member_that_stands_twice_is_refused() -> None:
    """At any depth, however written; the same name in two objects is sound."""
    for body in REPEATED:
        with pytest.raises(RequestError):
            refuse_repeated_members(body)
    for body in SOUND:
        refuse_repeated_members(body)


def test_a_doubled_subject_is_400_on_both_paths(sidecar: Sidecar) -> None:
    """Whoever reads the first and whoever reads the last must not differ."""
    sound = json.dumps(question()).encode()
    doubled = sound.replace(b'{"subject"', b'{"subject": {"type": "user", "id": "dr_erlan"}, "subject"', 1)

    assert sidecar.evaluate(sound).json()["decision"] is True
    assert sidecar.evaluate(doubled).status_code == 400
    inner = doubled[:-1] + b', "evaluations": [{}]}'
    assert sidecar.call(
        "json", "POST", EVALUATIONS, content=inner, headers={"content-type": "application/json"}
    ).status_code == 400  # fmt: skip


@pytest.mark.parametrize("semantic", SEMANTICS)
def test_no_way_to_stop_changes_a_decision(sidecar: Sidecar, semantic: str) -> None:
    """What is answered is answered as by itself."""
    said = decisions(ask(sidecar, ALLOWED, BROKEN, DENIED, ALLOWED, semantic=semantic))

    assert said == [True, False, False, True][: len(said)]


class Holding:
    """A decision point that allows whatever is asked, and then takes away what it is told."""

    def __init__(self, *gone: str) -> None:
        self.gone = gone
        self.taken: list[str] = []

    async def decide_all(self, requests: Sequence[EvaluationRequest], *_: Any) -> list[Answer | BaseException]:
        """Allow."""
        allow = Decision(True, "allow.consent", "consent")
        return [Answer(each.resource.id, allow, "permitted", (), "p", "t") for each in requests]

    def may_send(self, request: EvaluationRequest, answer: Answer) -> bool:
        """Tell whether it holds at the end."""
        return not answer.decision.allowed or request.resource.id not in self.gone

    async def take_back(self, request: EvaluationRequest, _: Origin, unsent: Answer) -> Answer:
        """Deny; and lose the next, for the test takes time, too."""
        self.taken.append(unsent.id)
        self.gone = (*self.gone, "c") if request.resource.id == "b" else self.gone
        return Answer("x", deny("deny.stale"), "try_later", (), "p", "t")


@pytest.mark.parametrize(
    ("semantic", "gone", "told", "taken"),
    [
        ("execute_all", (), [True] * 4, []), ("execute_all", ("a",), [False, True, True, True], ["a"]),
        ("execute_all", ("b",), [True, False, False, True], ["b", "c"]),
        ("deny_on_first_deny", ("b",), [True, False], ["b", "c", "d"]), ("permit_on_first_permit", ("a",), [False], ["a"]),
    ],
)  # fmt: skip
def test_what_was_taken_away_before_the_batch_was_sent_is_denied(
    policy_set: PolicySet, semantic: Any, gone: tuple[str, ...], told: list[bool], taken: list[str]
) -> None:
    """
    The first permits wait for the last question; at the moment of sending every one of them still holds.

    What stands behind a denial with which the call ends is not sent, and is taken back: nobody is told of it.
    """
    point = Holding(*gone)
    items = [{"resource": {"type": "Record", "id": name}} for name in "abcd"]
    body = question() | {"evaluations": items, "options": {"evaluations_semantic": semantic}}
    batch = read_batch(json.dumps(body).encode(), EvaluationRequest)
    assert isinstance(batch, Batch)

    said = json.loads(asyncio.run(answer_batch(batch, point, Origin("json"), policy_set)))

    assert [each["decision"] for each in said["evaluations"]] == told
    assert point.taken == taken


def test_others_have_their_turn_between_one_lot_and_the_next(policy_set: PolicySet) -> None:
    """Also where no question waits for anything: facts in memory, a journal that may lose."""
    body = question() | {"evaluations": [{}] * (3 * AT_ONCE)}
    batch = read_batch(json.dumps(body).encode(), EvaluationRequest)
    assert isinstance(batch, Batch)

    async def story() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        await answer_batch(batch, Holding(), Origin("json"), policy_set)
        beside.cancel()
        return turns

    assert asyncio.run(story()) == 2


class Reading(Holding):
    """A decision point that must read the store for whatever it is asked."""

    under_way = most = 0

    async def decide_all(self, requests: Sequence[EvaluationRequest], *_: Any) -> list[Answer | BaseException]:
        """Read for a while."""
        self.under_way += len(requests)
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.01)
        self.under_way -= len(requests)
        return await super().decide_all(requests)


def test_a_batch_asks_the_store_for_one_lot_at_a_time(policy_set: PolicySet) -> None:
    """More readings than may wait are refused: a large batch must not deny its own rest, nor what others ask."""
    body, point = question() | {"evaluations": [{}] * MAX_BATCH}, Reading()
    batch = read_batch(json.dumps(body).encode(), EvaluationRequest)
    assert isinstance(batch, Batch)

    asyncio.run(answer_batch(batch, point, Origin("json"), policy_set))

    assert point.most == AT_ONCE
