"""
The world for Cerbos: one resource policy a data class, made from the tables; the facts travel in every request.

Cerbos keeps no facts: whoever asks sends what the conditions read, as attributes.  Sent is what bears on the one
patient, ready to be compared (numbers for times, words written out), so that no condition parses anything.  What
it costs the caller to have these facts at hand is not counted.
"""

import json
from collections.abc import Iterator
from typing import Any

from bench.peers.common.rules import ACTIONS, PURPOSES, ROLES, Rules, cell
from bench.peers.common.world import CLASSES, Document, Link, Patient, Question, World

EPISODE = "R.attr.episodes.exists(e, e.org == P.attr.org && e.since <= V.now && V.now < e.until)"
DELEGATED = (
    "R.attr.links.exists(d, d.delegate == P.id && d.since <= V.now && V.now < d.until && V.purpose in d.purposes"
    ' && "{action}" in d.actions && "{data_class}" in d.classes && R.attr.labels.all(l, l in d.labels))'
)
GRANTED = (
    "R.attr.permits.exists(d, d.org == P.attr.org && (d.role == '' || d.role in P.roles) && d.since <= V.now"
    ' && V.now < d.until && V.purpose in d.purposes && "{action}" in d.actions && "{data_class}" in d.classes'
    " && R.attr.labels.all(l, l in d.labels))"
)
REFUSED = (
    "R.attr.refusals.exists(d, (d.org == '' || d.org == P.attr.org) && (d.role == '' || d.role in P.roles)"
    " && d.since <= V.now && (d.until == 0.0 || V.now < d.until)"
    " && (size(d.purposes) == 0 || V.purpose in d.purposes)"
    ' && (size(d.actions) == 0 || "{action}" in d.actions)'
    ' && (size(d.classes) == 0 || "{data_class}" in d.classes)'
    " && (size(d.labels) == 0 || R.attr.labels.exists(l, l in d.labels)))"
)
CARED_FOR = "P.attr.org in R.attr.cared_for_at"


def policies(rules: Rules) -> dict[str, str]:
    """Return the policy files by name; JSON, which Cerbos reads as it reads YAML."""
    return {f"{data_class}.json": json.dumps(_policy(data_class, rules), indent=1) for data_class in CLASSES}


def request_of(question: Question, world: World) -> bytes:
    """Return a request of the native API, with what the conditions read; the world must be written out."""
    who, patient = world.people[question.who], world.patients[question.patient]
    return json.dumps({
        "principal": {"id": who.id, "roles": [who.role], "attr": {
            "org": who.org, "patient": who.patient, "purpose": question.purpose,
        }},
        "resources": [{"actions": [question.action], "resource": {
            "kind": question.record.data_class, "id": question.record.id, "attr": _facts(question, patient),
        }}],
    }, separators=(",", ":")).encode()  # fmt: skip


def allowed(answer: bytes) -> bool:
    """Read an answer of the native API."""
    (only,) = json.loads(answer)["results"]
    (effect,) = only["actions"].values()
    return bool(effect == "EFFECT_ALLOW")


def _facts(question: Question, patient: Patient) -> dict[str, Any]:
    return {
        "patient": patient.id, "labels": question.record.labels, "cared_for_at": patient.cared_for_at,
        "episodes": [each._asdict() for each in patient.episodes],
        "permits": [_without_id(each) for each in patient.documents if not each.refuses],
        "refusals": [_without_id(each) for each in patient.documents if each.refuses],
        "links": [_without_id(each) for each in patient.links],
    }  # fmt: skip


def _without_id(document: Document | Link) -> dict[str, Any]:
    return {name: value for name, value in document._asdict().items() if name not in ("id", "refuses")}


def _policy(data_class: str, rules: Rules) -> dict[str, Any]:
    return {
        "apiVersion": "api.cerbos.dev/v1",
        "resourcePolicy": {
            "resource": data_class, "version": "default",
            "variables": {"local": {"now": "double(int(now()))", "purpose": "P.attr.purpose"}},
            "rules": [rule for action in ACTIONS for rule in _rules(action, data_class, rules)],
        },
    }  # fmt: skip


def _rules(action: str, data_class: str, rules: Rules) -> Iterator[dict[str, Any]]:
    """Yield the rules of one action; roles for whom the same holds share one."""
    staff = [role for role in ROLES if role not in ("patient", "delegate")]
    said = {"action": action, "data_class": data_class}
    glass, restricted = _list(rules.glass), _list(rules.very_restricted)
    needs_glass = f"R.attr.labels.exists(l, l in {glass})"

    yield _rule("EFFECT_DENY", action, [*staff, "delegate"], REFUSED.format(**said))
    for roles, purposes in _grouped(rules.own, action, data_class, ["patient"]):
        yield _rule("EFFECT_ALLOW", action, roles, f"V.purpose in {purposes}", "P.attr.patient == R.attr.patient")
    for roles, purposes in _grouped(rules.delegation, action, data_class, ["delegate"]):
        yield _rule("EFFECT_ALLOW", action, roles, f"V.purpose in {purposes}", DELEGATED.format(**said))
    for roles, purposes in _grouped(rules.emergency, action, data_class, staff):
        yield _rule("EFFECT_ALLOW", action, roles, f"V.purpose in {purposes}", EPISODE, f"!{needs_glass}")
    for roles, _ in _grouped(rules.shut, action, data_class, staff):
        yield _rule("EFFECT_DENY", action, roles, "V.purpose == 'ETREAT'", needs_glass, EPISODE)
    for roles, purposes in _grouped(rules.consent, action, data_class, staff):
        for some, cleared in _parted(roles, rules.cleared):
            clear = () if cleared else (f"!R.attr.labels.exists(l, l in {restricted})",)
            yield _rule("EFFECT_ALLOW", action, some, f"V.purpose in {purposes}", CARED_FOR, *clear,
                        GRANTED.format(**said))  # fmt: skip


def _grouped(
    table: dict[str, frozenset[str]], action: str, data_class: str, roles: list[str]
) -> Iterator[tuple[list[str], str]]:
    found: dict[str, list[str]] = {}
    for role in roles:
        purposes = [each for each in PURPOSES if cell(each, action, data_class) in table[role]]
        if purposes:
            found.setdefault(_list(purposes), []).append(role)
    for purposes_, some in found.items():
        yield some, purposes_


def _parted(roles: list[str], cleared: frozenset[str]) -> Iterator[tuple[list[str], bool]]:
    for are in (True, False):
        some = [role for role in roles if (role in cleared) == are]
        if some:
            yield some, are


def _rule(effect: str, action: str, roles: list[str], *conditions: str) -> dict[str, Any]:
    every = {"all": {"of": [{"expr": each} for each in conditions]}}
    return {"actions": [action], "roles": roles, "effect": effect, "condition": {"match": every}}


def _list(words: Any) -> str:
    return json.dumps(sorted(words))
