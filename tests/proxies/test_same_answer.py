"""One question, one answer: an AuthZEN caller hears what a proxy's client feels."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
import pytest

from tests.proxies.conftest import Site
from tests.proxies.raw import Reply, ask, bearer
from tests.sidecar import PEOPLE, Sidecar

PATIENTS = ("p-dana", "p-marat", "p-child", "p-zhanna", "p-nobody")
RECORDS = (
    ("labs", "o1"), ("labs", "o2"), ("documents", "d1"), ("allergies", "a1"), ("medications", "m1"),
    ("immunizations", "v1"), ("labs", "unheard-of"), ("vitals", "o1"), ("consent", "c-dana-h1"), ("journal", "j1"),
    ("demographics", "x"), ("financial", "x"),
)  # fmt: skip
VERBS = {"GET": "read", "PUT": "update", "DELETE": "delete"}
COLLECTION_VERBS = {"GET": "search", "POST": "create"}


class Question(NamedTuple):
    """The same question in both languages."""

    person: str
    method: str
    target: str
    action: str
    kind: str
    record: str
    properties: dict[str, Any]


def questions() -> list[Question]:
    """Return every question of the small world."""
    asked = []
    for person in (*PEOPLE, "stranger"):
        for patient in PATIENTS:
            for data_class, record in RECORDS:
                about = {"patient": patient, "class": data_class}
                place = f"/patients/{patient}/{data_class}"
                for method, action in VERBS.items():
                    asked.append(Question(person, method, f"{place}/{record}", action, "Record", record, about))
                for method, action in COLLECTION_VERBS.items():
                    asked.append(Question(person, method, place, action, "Record", "*", about))
        asked.append(Question(person, "GET", "/directory", "search", "Directory", "*", {"class": "directory"}))
    return asked


def evaluation(question: Question, **context: Any) -> dict[str, Any]:
    """Return the question as AuthZEN puts it: the labels are left to the store, the subject is as its token says."""
    claims = PEOPLE.get(question.person, {})
    said = {"roles": claims.get("roles", [])} | ({"org": claims["org"]} if "org" in claims else {})
    subject = {"type": claims.get("subject_type", "user"), "id": question.person, "properties": said}
    resource = {"type": question.kind, "id": question.record, "properties": question.properties}
    purpose = {"purpose": claims["purpose_of_use"]} if claims else {}
    return {"subject": subject, "action": {"name": question.action}, "resource": resource, "context": purpose | context}


def evaluated(sidecar: Sidecar, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask the JSON listener each of them and return its answers."""
    url = f"http://127.0.0.1:{sidecar.ports['json']}/access/v1/evaluation"
    with httpx.Client(trust_env=False) as client:
        return [client.post(url, json=body).json() for body in bodies]


@pytest.fixture(scope="session")
def json_answers(sidecar: Sidecar) -> list[dict[str, Any]]:
    """What the JSON listener says to each question, from a caller that can carry out no duty, like a proxy."""
    return evaluated(sidecar, [evaluation(question, pep_capabilities=[]) for question in questions()])


@pytest.mark.slow
def test_proxy_and_json_caller_get_the_same_answer(site: Site, json_answers: list[dict[str, Any]]) -> None:
    """Whether allowed, and the reason that a client may learn, are the same both ways, for every question."""
    tokens = {person: bearer(site.sidecar.token(person)) for person in (*PEOPLE, "stranger")}
    with ThreadPoolExecutor(8) as pool:
        replies = pool.map(lambda q: ask(site.front.port, q.method, q.target, tokens[q.person]), questions())
        told = list(zip(questions(), json_answers, replies, strict=True))

    assert not [one for one in told if not agree(*one)]
    assert len(site.seen) == sum(answer["decision"] for _, answer, _ in told) > 10


def agree(_: Question, answer: dict[str, Any], reply: Reply) -> bool:
    """Tell whether a proxy's client got what the JSON caller was told."""
    if answer["decision"]:
        return reply.status == 200
    return reply.status == 403 and reply.headers["x-ruqsat-reason"] == answer["context"]["reason"]


def test_duty_that_no_proxy_can_carry_out_makes_the_only_difference(site: Site) -> None:
    """Adding a record asks for a signature: a JSON caller that can collect it may, a proxy may not."""
    # What a new record says is known to whoever adds it, not to the store.
    about = {"patient": "p-dana", "class": "labs", "labels": []}
    question = Question("dr_aida", "POST", "/patients/p-dana/labs", "create", "Record", "*", about)

    bodies = [evaluation(question, pep_capabilities=can) for can in (["require_eds"], [])]
    able, unable = evaluated(site.sidecar, bodies)
    who = bearer(site.sidecar.token(question.person))
    through_proxy = ask(site.front.port, "POST", question.target, who, "Content-Length: 0")

    assert able["decision"] is True
    assert "require_eds" in [duty["type"] for duty in able["context"]["obligations"]]
    assert unable["decision"] is False
    assert through_proxy.status == 403
    assert site.seen == []
