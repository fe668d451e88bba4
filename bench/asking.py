"""
Calls to a sidecar over a world, each with its right answer, in named shapes; and the judge of the answers.

``steady_reads``       the world's mix: 94 % of every day, 5 % emergencies, 1 % delegates
``consent_churn``      the same, while consents are withdrawn
``break_glass_burst``  now and then ten times as many, four fifths of them emergencies and broken glasses
``batch``              twenty questions a call
``search``             which actions, and which records of a patient
``forward_auth``       as nginx asks, with the people's tokens
``not_through_proxy``  the same questions as an application asks them: beside ``forward_auth``, and no shape of its own

An answer is right if decision, reason and duties (in a batch of each question; in a search what was found; behind a
proxy the status and the reason) are those that ``core.evaluate`` gives here.  See ``Churn`` for answers about somebody
whose consent is withdrawn meanwhile.
"""

import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import cycle
from random import Random
from typing import Any, NamedTuple

import msgspec
from bench.clinic_people import CLASSES, STAFF, patient_id, staff_id
from bench.world import Question
from bench.worlds import ClinicWorld, Withdrawal, withdrawn

from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.instant import at
from ruqsat.core.request import EvaluationRequest
from ruqsat.web.wire import EvaluationResponse

EVALUATION, EVALUATIONS, SEARCH = "/access/v1/evaluation", "/access/v1/evaluations", "/access/v1/search/"
JSON = {"Content-Type": "application/json"}
SHAPES = ("steady_reads", "consent_churn", "break_glass_burst", "batch", "search", "forward_auth")
UNPROXIED = "not_through_proxy"
IN_A_BATCH = 20
LATER = "try_later"
TokenOf = Callable[[str, tuple[str, ...], str | None, str], str]

_answer = msgspec.json.Decoder(EvaluationResponse).decode


class Told(NamedTuple):
    """What a caller learns of a decision."""

    allowed: bool
    reason: str
    duties: tuple[str, ...]


class Call(NamedTuple):
    """
    One call.

    Attributes:
        right: What its answer must say: a ``Told``, a tuple of them, the names found, or status and reason.
        patient: Whom it is about, if it is a single question.
        after: What the answer must say once that patient's first consent is withdrawn.
    """

    name: str
    listener: str
    method: str
    path: str
    body: bytes
    headers: dict[str, str]
    right: Any
    patient: str | None = None
    after: Any = None

    def raw(self, host: str = "bench") -> bytes:
        """Return the call as bytes of HTTP/1.1."""
        told = {"Host": host, **self.headers} | ({"Content-Length": str(len(self.body))} if self.body else {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        return f"{self.method} {self.path} HTTP/1.1\r\n{lines}\r\n".encode() + self.body

    def read(self, status: int, headers: Any, body: bytes) -> Any:
        """Return what an answer says, to be compared with ``right``; None if it cannot be read."""
        if self.listener == "auth":
            return status, headers.get("x-ruqsat-reason")
        if status != 200:
            return LATER if status == 503 else None
        try:
            if self.path == EVALUATION:
                return read_told(_answer(body))
            if self.path == EVALUATIONS:
                raws = msgspec.json.decode(body)["evaluations"]
                return tuple(read_told(msgspec.convert(raw, EvaluationResponse)) for raw in raws)
            results = msgspec.json.decode(body)["results"]
            return tuple(each.get("name", each.get("id")) for each in results)
        except (msgspec.MsgspecError, KeyError):
            return None


def is_later(said: Any, right: Any = None) -> bool:
    """
    Tell whether an answer puts off: the facts were not at hand in time, or changed meanwhile, or too much is under way.

    That is no wrong decision, whatever the right one is; nor is it to be had often, so it is counted.  Of a batch
    every part must be right or put off.
    """
    if isinstance(said, Told):
        return not said.allowed and said.reason == LATER
    if isinstance(said, tuple) and isinstance(right, tuple) and said and isinstance(said[0], Told):
        return len(said) == len(right) and all(
            one == other or is_later(one) for one, other in zip(said, right, strict=True)
        )
    return said in (LATER, (403, LATER), (403, "overloaded"))


def read_told(answer: EvaluationResponse) -> Told:
    """Return what an answer says, without what is new in each."""
    return Told(answer.decision, answer.context.reason, tuple(each.type for each in answer.context.obligations))


class Asking:
    """
    Makes calls of a shape.

    Args:
        token_of: Makes tokens for the forward-auth listener; without it that shape cannot be asked.
    """

    def __init__(self, world: ClinicWorld, token_of: TokenOf | None = None) -> None:
        self.world, self._token = world, token_of and cache(token_of)
        self._apart: frozenset[str] = frozenset()

    def calls(
        self, shape: str, count: int, stream: str = "", withdrawals: tuple[Withdrawal, ...] = (),
        apart: frozenset[str] = frozenset(),
    ) -> list[Call]:  # fmt: skip
        """
        Return calls of a shape.

        Args:
            withdrawals: Under churn every fourth call is about one of these patients, and no other is.
            apart: More patients that no call is about: others withdraw their consents.
        """
        self._apart = apart | {each.patient for each in withdrawals}
        drawn_as = "forward_auth" if shape == UNPROXIED else shape
        chance, makes = Random(f"{self.world.seed}/{drawn_as}/{stream}"), getattr(self, "_" + shape)
        return [makes(chance, withdrawals) for _ in range(count)]

    def different(self, shape: str, count: int, stream: str = "") -> list[Call]:
        """Return calls of a shape, no two of them alike: so many that each has been forgotten when its turn comes."""
        found: dict[bytes, Call] = {}
        chunk = 0
        while len(found) < count:
            found |= {call.raw(): call for call in self.calls(shape, count, f"{stream}/{chunk}")}
            chunk += 1
        return list(found.values())[:count]

    def _told(self, decision: Decision) -> Told:
        reason = self.world.policy_set.coarse(decision.reason)
        return Told(decision.allowed, reason, tuple(duty.partition(":")[0] for duty in decision.duties))

    def _single(self, question: Question, consent: str | None = None) -> Call:
        world, after = self.world, None
        right = self._told(world.right(question))
        if consent is not None:
            request = msgspec.json.decode(question.body, type=EvaluationRequest)
            after = self._told(world.decide(request, withdrawn(world.facts_of(question), consent, world.moment)))
        name = f"{question.kind}: {'allow' if right.allowed else 'deny'}"
        return Call(name, "json", "POST", EVALUATION, question.body, JSON, right, question.patient, after)

    def _steady_reads(self, chance: Random, _: tuple[Withdrawal, ...]) -> Call:
        return self._single(self.world.question(chance))

    def _consent_churn(self, chance: Random, withdrawals: tuple[Withdrawal, ...]) -> Call:
        if not withdrawals or chance.random() < 0.75:
            question = self.world.question(chance)
            while question.patient in self._apart:
                question = self.world.question(chance)
            return self._single(question)
        each = chance.choice(withdrawals)
        number, role = int(each.patient[1:]), chance.choice(("physician", "nurse"))
        who = staff_id(role, self.world.own(number), chance.randrange(STAFF[role]))
        return self._single(self.world.ask("read", who, "read", each.patient, chance, "TREAT"), each.consent)

    def _break_glass_burst(self, chance: Random, _: tuple[Withdrawal, ...]) -> Call:
        world = self.world
        return self._single(world.emergency(chance) if chance.random() < 0.8 else world.everyday(chance))

    def _batch(self, chance: Random, _: tuple[Withdrawal, ...]) -> Call:
        return _in_one([self._single(self.world.question(chance)) for _ in range(IN_A_BATCH)])

    def _search(self, chance: Random, _: tuple[Withdrawal, ...]) -> Call:
        question, world = self.world.question(chance), self.world
        asked, target = question.request, chance.choice(("action", "resource"))
        if target == "action":
            del asked["action"]
            found = [{"action": {"name": name}} for name in sorted(world.policy_set.vocabulary.actions)]
        else:
            records = world.patient(question.patient or "").records
            found = [{"resource": asked["resource"] | {"id": name}} for name in sorted(each.id for each in records)]
            asked["resource"] = {name: value for name, value in asked["resource"].items() if name != "id"}
        right = tuple(next(iter(each.values())).get("id" if target == "resource" else "name")
                      for each in found if self._allows(asked | each, question))  # fmt: skip
        body = json.dumps(asked, separators=(",", ":")).encode()
        return Call(f"search {target}", "json", "POST", SEARCH + target, body, JSON, right)

    def _allows(self, asked: dict[str, Any], question: Question) -> bool:
        request = msgspec.convert(asked, EvaluationRequest)
        return self.world.decide(request, self.world.facts_of(question)).allowed

    def _read_by_staff(self, chance: Random) -> dict[str, Any]:
        world = self.world
        number, which = world.popular(chance), chance.randrange(4)
        name, role = patient_id(number), chance.choice(("physician", "physician", "nurse", "lab_diagnostic"))
        org = world.own(number) if chance.random() < 0.8 else chance.choice(world.orgs)
        who, data_class = staff_id(role, org, chance.randrange(STAFF[role])), CLASSES[(number + which) % len(CLASSES)]
        resource = {"type": "Record", "id": f"r{which}-{name}", "properties": {"patient": name, "class": data_class}}
        return {
            "subject": {"type": "user", "id": who, "properties": {"roles": [role], "org": org}},
            "action": {"name": "read"}, "resource": resource, "context": {"purpose": "TREAT"},
        }  # fmt: skip

    def _not_through_proxy(self, chance: Random, _: tuple[Withdrawal, ...]) -> Call:
        asked = self._read_by_staff(chance)
        body, patient = json.dumps(asked, separators=(",", ":")).encode(), asked["resource"]["properties"]["patient"]
        return self._single(Question(body, "read", asked["subject"]["id"], patient))

    def _forward_auth(self, chance: Random, _: tuple[Withdrawal, ...]) -> Call:
        """A member of staff reads a record through nginx; the token states the purpose, and no proxy has duties."""
        assert self._token is not None, "this shape needs the key of the tokens"
        world, asked = self.world, self._read_by_staff(chance)
        who, said, resource = asked["subject"]["id"], asked["subject"]["properties"], asked["resource"]
        name, data_class = resource["properties"]["patient"], resource["properties"]["class"]
        request, known = msgspec.convert(asked, EvaluationRequest), world.facts_of(Question(b"", "", who, name))
        decision = evaluate(world.policy_set, request, known, at(world.moment))
        right = (200 if decision.allowed else 403, world.policy_set.coarse(decision.reason))
        headers = {
            "Authorization": f"Bearer {self._token(who, tuple(said['roles']), said['org'], 'TREAT')}",
            "X-Original-Method": "GET", "X-Original-URI": f"/patients/{name}/{data_class}/{resource['id']}",
            "X-Original-Host": "records.example",
        }  # fmt: skip
        return Call(
            "nginx: allow" if decision.allowed else "nginx: deny", "auth", "GET", "/authz/nginx", b"", headers, right
        )


def in_batches(calls: Sequence[Call], size: int) -> list[Call]:
    """Return calls of *size* questions each: those of single *calls* in turn, each as often as the others."""
    turn, whole = cycle(calls), math.lcm(len(calls), size) // size
    return [_in_one([next(turn) for _ in range(size)]) for _ in range(whole)]


def _in_one(calls: Sequence[Call]) -> Call:
    body = b'{"evaluations":[' + b",".join(each.body for each in calls) + b"]}"
    right = tuple(each.right for each in calls)
    return Call(f"batch of {len(calls)}", "json", "POST", EVALUATIONS, body, JSON, right)


class Churn:
    """
    Judges answers while consents are withdrawn.

    A question that was answered before the withdrawal was sent must have the old answer.  One that was asked more than
    *bound* seconds after the withdrawal had been acknowledged must have the new one.  In between both are right; an
    old answer to a question asked after the acknowledgement is counted as late, with how late it was asked.

    Args:
        bound: Seconds.  0 where the withdrawal was asked for with ``?wait=visible`` (then no sidecar may answer by
            the old facts once it is acknowledged); the lease, 5 s, where it was not.
    """

    def __init__(self, bound: float = 0.0) -> None:
        self.bound = bound
        self.sent: dict[str, float] = {}
        self.acknowledged: dict[str, float] = {}
        self.late: list[float] = []
        self.first_denials: dict[str, float] = {}

    def is_right(self, call: Call, said: Any, began: float, ended: float) -> bool:
        """Tell whether an answer to a call that was asked at *began* and answered at *ended* is right."""
        sent = self.sent.get(call.patient or "") if call.after is not None else None
        if sent is None or ended < sent:
            return bool(said == call.right)
        since = began - self.acknowledged.get(call.patient or "", float("inf"))
        if said == call.after:
            if call.after != call.right:
                self._denied(call.patient or "", ended)
            return True
        if said != call.right or since > self.bound:
            return False
        if since > 0:
            self.late.append(since)
        return True

    def _denied(self, patient: str, ended: float) -> None:
        acknowledged = self.acknowledged.get(patient)
        if acknowledged is not None:
            self.first_denials.setdefault(patient, max(0.0, ended - acknowledged))
