"""
What ``ruqsat bench`` asks: the demo world's questions with their right answers, or a file's with those that it states.

A line of a file is a JSON object: ``request``, an AuthZEN evaluation; ``expect``, the right decision, where it is
known; ``found``, the names of the actions that a search finds; ``weight``, how often it is asked.  For the shape
``forward_auth`` it has ``uri`` and ``token`` in the place of ``request``: what a client asked nginx for, and the
bearer token that it showed.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from ruqsat.cli.load_client import Asked
from ruqsat.core.admission import WORLD
from ruqsat.core.cases import read_world
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Position
from ruqsat.core.instant import at
from ruqsat.core.pack import load_pack
from ruqsat.core.projection import project_world
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.vocabulary import BLOCKING_DUTIES
from ruqsat.errors import SettingsError
from ruqsat.stores.policy_folder import find_pack, load_texts

EVALUATION, EVALUATIONS, SEARCH = "/access/v1/evaluation", "/access/v1/evaluations", "/access/v1/search/action"
IN_A_BATCH = 20
MIXED = 2_000
RIGHT, WRONG, UNKNOWN, FAILED = "right", "wrong", "not known", "failed"
PUT_OFF = ("try_later", "overloaded")
"""Reasons of a denial for want of time or facts: it is no answer to the question."""
_DEMO = (
    # weight, subject, record, class, purpose; the patient is p-dana
    (70, "dr_aida", "o1", "labs", "TREAT"),
    (10, "dr_aida", "o2", "labs", "TREAT"),
    (10, "dr_erlan", "o1", "labs", "TREAT"),
    (5, "dana", "o2", "labs", "PATRQT"),
    (5, "admin_timur", "o1", "labs", "HSYSADMIN"),
)


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    """One question of a file."""

    request: dict[str, Any] | None = None
    expect: bool | None = None
    weight: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    uri: str | None = None
    token: str | None = None
    found: tuple[str, ...] | None = None


class Server(NamedTuple):
    """Where requests go: the ``Host``, what stands before each path, and headers of the caller's own."""

    host: str
    prefix: str
    headers: tuple[tuple[str, str], ...]


def read_questions(path: Path) -> list[Line]:
    """
    Read a file of questions.

    Raises:
        SettingsError: with the number of the first line that is none; no value is repeated.
    """
    try:
        written = path.read_bytes().splitlines()
    except OSError as error:
        raise SettingsError(f"`{path}` cannot be read: {error.strerror}") from None
    lines = []
    for number, line in enumerate(written, 1):
        try:
            lines += [msgspec.json.decode(line, type=Line)] if line.strip() else []
        except (msgspec.MsgspecError, UnicodeError):
            expected = '{"request": …}, and `weight` above 0 and at most 1e6'
            raise SettingsError(f"line {number} of `{path}` is no question: expected {expected}") from None
    if not lines:
        raise SettingsError(f"`{path}` holds no question")
    return lines


def demo_questions() -> list[Line]:
    """Return questions of the demo world; the right answers are worked out here, by the pack of this installation."""
    texts = load_texts(find_pack(None))
    policy_set, _ = load_pack(texts)
    if policy_set is None:
        raise SettingsError("the pack of this installation has errors; `ruqsat policy check` lists them")
    subjects, patients = project_world(read_world(texts, WORLD), policy_set.vocabulary.switches)
    people, dana = {who.id: who for who in subjects}, next(who for who in patients if who.id == "p-dana")
    moment, capable = at(time.time_ns() // 1000), frozenset(BLOCKING_DUTIES)

    def allows(asked: dict[str, Any]) -> bool:
        facts = Facts(people[asked["subject"]["id"]], dana, Position("bench", 1))
        return evaluate(policy_set, msgspec.convert(asked, EvaluationRequest), facts, moment, capable).allowed

    lines = []
    for weight, who, record, data_class, purpose in _DEMO:
        asked = {
            "subject": {"type": "user", "id": who},
            "action": {"name": "read"},
            "resource": {"type": "Record", "id": record, "properties": {"patient": "p-dana", "class": data_class}},
            "context": {"purpose": purpose},
        }
        actions = sorted(policy_set.vocabulary.actions)
        found = tuple(name for name in actions if allows(asked | {"action": {"name": name}}))
        lines.append(Line(asked, allows(asked), weight, found=found))
    return lines


class Numbered(NamedTuple):
    """A question, and which of them it is."""

    number: int
    line: Line


def requests_of(
    shape: str, lines: list[Line], server: Server, seed: int, notes: Counter[str] | None = None
) -> Iterator[Asked]:
    """
    Yield requests of a shape for ever: each question once, and more of them by their weights.

    Args:
        notes: Counts which questions were answered wrongly, and by which statuses others failed.

    Raises:
        SettingsError: the questions lack what the shape needs.
    """
    dice = Random(seed)  # noqa: S311 - a mix, no secret
    numbered, notes = [Numbered(*each) for each in enumerate(lines, 1)], Counter() if notes is None else notes
    mixed = numbered + dice.choices(numbered, [line.weight for line in lines], k=MIXED)
    dice.shuffle(mixed)
    if shape == "forward_auth":
        return cycle([_through_nginx(each, server, notes) for each in mixed])
    if any(line.request is None for line in lines):
        raise SettingsError("this shape needs a `request` in every question")
    if shape == "batch":
        return cycle([_batch(list(lot), server, notes) for lot in _lots(mixed)])
    return cycle([(_search if shape == "search" else _evaluation)(each, server, notes) for each in mixed])


def _lots(lines: Iterable[Numbered]) -> Iterator[tuple[Numbered, ...]]:
    left = iter(lines)
    while lot := tuple(islice(left, IN_A_BATCH)):
        yield lot


def _post(path: str, body: bytes, server: Server) -> bytes:
    headers = [("Host", server.host), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return _head("POST", server.prefix + path, [*headers, *server.headers]) + body


def _head(method: str, path: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


def _told(head: bytes, body: bytes) -> Any:
    """Return what an answer of JSON says; None where it is no answer."""
    if not head.startswith(b"HTTP/1.1 200 "):
        return None
    try:
        return msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return None


def _decision(answer: Any) -> object:
    """Return the decision in an answer; None where there is none, or it was put off."""
    if not isinstance(answer, dict):
        return None
    context = answer.get("context")
    is_put_off = isinstance(context, dict) and context.get("reason") in PUT_OFF
    return None if is_put_off else answer.get("decision")


def _judge(number: int, expect: bool | None, notes: Counter[str]) -> Callable[[bytes, object], str]:
    def kind(head: bytes, decision: object) -> str:
        if not isinstance(decision, bool):
            status = head[9:12].decode("latin-1")
            notes[f"failed: status {status}{', put off or undecided' * (status in ('200', '403'))}"] += 1
            return FAILED
        if expect is None or decision is expect:
            return UNKNOWN if expect is None else RIGHT
        notes[f"wrong: question {number}"] += 1
        return WRONG

    return kind


def _evaluation(asked: Numbered, server: Server, notes: Counter[str]) -> Asked:
    kind = _judge(asked.number, asked.line.expect, notes)

    def kind_of(head: bytes, body: bytes) -> str:
        return kind(head, _decision(_told(head, body)))

    return _post(EVALUATION, msgspec.json.encode(asked.line.request), server), kind_of


def _batch(lot: list[Numbered], server: Server, notes: Counter[str]) -> Asked:
    each = [_judge(number, line.expect, notes) for number, line in lot]

    def kind_of(head: bytes, body: bytes) -> str:
        told = _told(head, body)
        answers = told.get("evaluations") if isinstance(told, dict) else None
        if not isinstance(answers, list) or len(answers) != len(lot):
            return each[0](head, None)
        kinds = {kind(head, _decision(one)) for kind, one in zip(each, answers, strict=True)}
        return next(kind for kind in (FAILED, WRONG, UNKNOWN, RIGHT) if kind in kinds)

    body = msgspec.json.encode({"evaluations": [line.request for _, line in lot]})
    return _post(EVALUATIONS, body, server), kind_of


def _search(asked: Numbered, server: Server, notes: Counter[str]) -> Asked:
    number, line = asked
    kind = _judge(number, None if line.found is None else True, notes)

    def kind_of(head: bytes, body: bytes) -> str:
        told = _told(head, body)
        results = told.get("results") if isinstance(told, dict) else None
        if not isinstance(results, list) or (told.get("page") or {}).get("next_token"):
            # A page that is not all: the point has looked at too many candidates in this minute.
            return kind(head, None)
        return kind(head, tuple(each.get("name") for each in results) == line.found)

    body = {name: value for name, value in (line.request or {}).items() if name != "action"}
    return _post(SEARCH, msgspec.json.encode(body), server), kind_of


def _through_nginx(asked: Numbered, server: Server, notes: Counter[str]) -> Asked:
    number, line = asked
    if line.uri is None or line.token is None:
        raise SettingsError("the shape `forward_auth` needs `uri` and `token` in every question: give a file of them")
    kind = _judge(number, line.expect, notes)

    def kind_of(head: bytes, _body: bytes) -> str:
        is_put_off = any(f"\r\nx-ruqsat-reason: {reason}\r\n".encode() in head.lower() + b"\r\n" for reason in PUT_OFF)
        return kind(head, None if is_put_off else {b"200": True, b"403": False}.get(head[9:12]))

    headers = [("Host", server.host), ("X-Original-Method", "GET"), ("X-Original-URI", line.uri),
               ("X-Original-Host", server.host), ("Authorization", f"Bearer {line.token}")]  # fmt: skip
    return _head("GET", server.prefix + "/authz/nginx", [*headers, *server.headers]), kind_of
