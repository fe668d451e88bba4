"""The JSON listener speaks AuthZEN: one shape for both answers, errors about the call, and no leak."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.process.starter import EVALUATION, Sidecar, question, serving

CANARY = "canary-7f3a"


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A real process with the demo world, its enforcement point registered with `explain`."""
    with serving(tmp_path_factory.mktemp("authzen")) as process:
        yield process


def changed(*path: str, to: Any) -> dict[str, Any]:
    """The sound question with one part changed; ``...`` takes it away."""
    whole: Any = question()
    place = whole
    for name in path[:-1]:
        place = place[name]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return whole


def test_both_answers_have_the_same_shape(sidecar: Sidecar) -> None:
    """An allow and a denial are 200 with decision, id, coarse reason, policy and token; explain where registered."""
    allow, denial = sidecar.evaluate().json(), sidecar.evaluate(question(subject="dr_erlan")).json()

    assert (allow["decision"], denial["decision"]) == (True, False)
    assert (allow["context"]["reason"], denial["context"]["reason"]) == ("permitted", "consent_required")
    for answer in (allow, denial):
        assert set(answer) == {"decision", "context"}
        assert {"id", "reason", "policy", "token", "explain"} <= set(answer["context"])
        assert set(answer["context"]["explain"]) == {"reason", "basis", "rule", "law", "applied"}
    assert allow["context"]["obligations"] == [
        {"id": allow["context"]["id"] + ".1", "type": "notify_subject", "properties": {}}
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"subject":NaN}', b"{}" * 2, b"[" * 5000,
        *(json.dumps(changed(*path, to=...)).encode() for path in (
            ("subject",), ("action",), ("resource",), ("subject", "id"), ("subject", "type"), ("action", "name"),
            ("resource", "id"), ("resource", "type"))),
        *(json.dumps(changed(*path, to=to)).encode() for path, to in (
            (("subject",), [CANARY]), (("subject", "id"), 7), (("subject", "id"), ""), (("subject", "id"), CANARY * 60),
            (("subject", "id"), CANARY + "\n"), (("action", "name"), {CANARY: 1}), (("resource", "properties"), CANARY),
            (("resource", "properties", "labels"), CANARY), (("resource", "properties", "class"), [CANARY]),
            (("resource", "properties", "conf"), CANARY), (("context",), [CANARY]), (("context", "purpose"), {CANARY: 1}),
            (("context", "consistency_token"), CANARY))),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_read_is_400_and_echoes_nothing(sidecar: Sidecar, body: bytes) -> None:
    """Missing or wrong fields, broken JSON, an empty body: 400 with a sentence that repeats no value."""
    answer = sidecar.evaluate(body, **{"x-request-id": "r-1"})

    assert answer.status_code == 400
    assert answer.text and CANARY not in answer.text
    assert answer.headers["x-request-id"] == "r-1"


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/xml", "application/json5", ""])
def test_another_content_type_is_400(sidecar: Sidecar, content_type: str | None) -> None:
    """The standard wants 400, never 415."""
    headers = {} if content_type is None else {"content-type": content_type}

    answer = sidecar.call("json", "POST", EVALUATION, content=json.dumps(question()).encode(), headers=headers)

    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", EVALUATION, {"json": question()}, 200), ("POST", EVALUATION, {"json": question(subject="dr_erlan")}, 200),
        ("POST", EVALUATION, {"content": b"{}"}, 400), ("POST", EVALUATION, {"json": {"x": "a" * 70_000}}, 400),
        ("POST", "/access/v1/evaluations", {"json": question() | {"evaluations": [{}]}}, 200),
        ("POST", "/access/v1/search/subject", {"json": question()}, 403), ("POST", "/v1/outcomes", {"json": {}}, 400),
        ("GET", EVALUATION, {}, 405), ("HEAD", EVALUATION, {}, 405), ("POST", "/nowhere", {}, 404),
    ],
)  # fmt: skip
def test_the_id_of_a_request_comes_back_as_it_was_sent(
    sidecar: Sidecar, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    """With every answer, errors too, byte for byte; and without one there is none."""
    sent = 'Req 1;a="B"\tс'

    answer = sidecar.call("json", method, path, headers={"x-request-id": sent.encode()}, **options)
    plain = sidecar.call("json", method, path, **options)

    assert (answer.status_code, plain.status_code) == (status, status)
    assert [value for name, value in answer.headers.raw if name == b"x-request-id"] == [sent.encode()]
    assert "x-request-id" not in plain.headers


def test_a_body_over_the_limit_is_400(sidecar: Sidecar) -> None:
    """More than 64 KiB is not read on."""
    assert sidecar.evaluate(b'{"x":"' + b"a" * 70_000 + b'"}').status_code == 400


def test_unknown_fields_are_ignored_at_every_level(sidecar: Sidecar) -> None:
    """The standard demands it; what only the store may say is such a field and helps nobody."""
    asserted = question(subject="dr_erlan", emergency=True, relationship="encounter", consents_known=True)
    asserted["subject"]["properties"] = {"active": True, "patient_id": "p-dana", "btg_suspended": False}
    asserted["extra"] = {"a": 1}
    asserted["action"]["properties"] = {"b": 2}

    assert sidecar.evaluate(asserted).json()["decision"] is False
    assert sidecar.evaluate(question() | {"extra": 1}).json()["decision"] is True


def test_only_post_on_its_path_is_answered(sidecar: Sidecar) -> None:
    """No other method or path is ever 2xx."""
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert sidecar.call("json", method, EVALUATION).status_code == 405
    for path in ("/", "/access/v1", EVALUATION + "/", "/access/v1/Evaluation", "/docs"):
        assert sidecar.call("json", "POST", path, json=question()).status_code == 404


def test_roles_that_the_directory_does_not_know_are_not_believed(sidecar: Sidecar) -> None:
    """A caller may state fewer roles than the directory knows, never others; nor another employer."""
    for properties in ({"roles": ["sysadmin"]}, {"roles": []}, {"roles": ["physician"], "org": "h2"}):
        body = changed("subject", "properties", to=properties)
        assert sidecar.evaluate(body).json()["decision"] is False, properties


def test_absent_labels_are_not_no_labels(sidecar: Sidecar) -> None:
    """For a record that the store does not know, unknown labels stay shut and an empty list is open."""
    unknown = question(record="new")
    checked = question(record="new")
    checked["resource"]["properties"]["labels"] = []

    assert sidecar.evaluate(unknown).json()["context"]["explain"]["reason"] == "deny.sensitivity.not_covered"
    assert sidecar.evaluate(checked).json()["decision"] is True


def test_labels_of_store_and_caller_are_joined(sidecar: Sidecar) -> None:
    """A caller can add a label to what the store knows, and can take none away."""
    added, taken = question(), question(record="o2")
    added["resource"]["properties"]["labels"] = ["PSY"]
    taken["resource"]["properties"]["labels"] = []

    assert sidecar.evaluate(added).json()["decision"] is False
    assert sidecar.evaluate(taken).json()["decision"] is False


@pytest.mark.parametrize(
    "body",
    [changed("resource", "properties", "parts", to=[{"class": "labs"}]), question(smart_scopes=["user/*.cuds"]),
     question(smart_scopes=[]), question(purpose=["TREAT", "TRAIN"]), question(purpose="TREATMENT"), question(purpose=[]),
     question(action="everything"), question(class_="documents"), question(patient="p-nobody")],
)  # fmt: skip
def test_what_is_not_understood_or_not_covered_is_denied(sidecar: Sidecar, body: dict[str, Any]) -> None:
    """Several parts, scopes, other purposes, unknown words, a record of another class, an unknown patient: denied."""
    answer = sidecar.evaluate(body)

    assert (answer.status_code, answer.json()["decision"]) == (200, False)


def test_a_token_of_another_database_is_a_denial(sidecar: Sidecar, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A token that was issued here is honoured; one that another installation issued is refused as forged."""
    own = sidecar.evaluate().json()["context"]["token"]
    with serving(tmp_path_factory.mktemp("other")) as other:
        foreign = other.evaluate().json()["context"]["token"]

    assert sidecar.evaluate(question(consistency_token=own)).json()["decision"] is True
    assert sidecar.evaluate(question(consistency_token=foreign)).status_code == 400


def test_nothing_of_a_request_reaches_logs_or_metrics(sidecar: Sidecar) -> None:
    """Ids, classes and headers of callers stand in the journal and nowhere else."""
    for body in (question(subject=CANARY), question(patient=CANARY), question(record=CANARY), question(action=CANARY)):
        sidecar.evaluate(body, **{"x-request-id": CANARY, "x-canary": CANARY})
    sidecar.call(
        "auth", "GET", f"/authz/envoy/patients/{CANARY}/labs/o1", headers={"authorization": f"Bearer {CANARY}"}
    )

    assert CANARY not in sidecar.stderr
    assert CANARY not in sidecar.call("control", "GET", "/metrics").text
    assert CANARY not in sidecar.call("control", "GET", "/status").text
