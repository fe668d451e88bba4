"""``policy diff``: not which lines differ between two policy sets but which decisions, and by which rule."""

import operator
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, product
from random import Random

import msgspec
from msgspec import Struct

from ruqsat.core.admission import changes_between, entries_between
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import (
    Consent,
    Episode,
    Facts,
    Grantee,
    Organisation,
    PatientFacts,
    Position,
    Provision,
    Relationship,
    SubjectFacts,
)
from ruqsat.core.instant import HOUR, at
from ruqsat.core.pack import Parts
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import Action, EvaluationRequest, RequestContext, Resource, ResourceProperties, Subject
from ruqsat.core.sampling import NOON, Situation, situations
from ruqsat.core.validity import IMPERSONAL

LATTICE = 8_000
"""How many combinations of role, purpose, action and class are asked at most, besides those of changed rules."""

_CELLS = {"roles": "role", "purposes": "purpose", "actions": "act", "classes": "data_class"}


class Asked(Struct, frozen=True):
    """
    A situation, and where it comes from: a case's name, "lattice", "sample" or "recorded".

    ``after`` are the facts for the new set, where its switches make other facts of the same documents.
    """

    source: str
    situation: Situation
    after: Facts | None = None


class Difference(Struct, frozen=True):
    """
    One kind of change: the same role, action and class move the same way, by the same rules.

    Attributes:
        kind: ``gained`` (was denied, is allowed), ``eased`` (is allowed with fewer duties), ``lost``, or ``moved``
            (same answer, something else of it is another).
        before: Reason and rule of the old set.
        after: Reason and rule of the new set.
        besides: What else of the answer is another, in words, where it is allowed or denied as before.
        count: How many of the asked situations changed so.
        example: One of them, in words.
        source: Where the example comes from.
    """

    kind: str
    role: str
    data_class: str
    action: str
    before: tuple[str, str]
    after: tuple[str, str]
    count: int
    example: str
    source: str
    besides: str = ""


class Comparison(Struct, frozen=True):
    """How many situations were asked, and what changed."""

    asked: int
    differences: tuple[Difference, ...]

    def of(self, kind: str) -> tuple[Difference, ...]:
        """Return the differences of a kind."""
        return tuple(each for each in self.differences if each.kind == kind)


def compare_decisions(old: PolicySet, new: PolicySet, asked: Iterable[Asked]) -> Comparison:
    """Ask both sets the same; collect what changed by role, class and action."""
    found: dict[tuple[str, ...], Difference] = {}
    able = [_blocking(policy_set) for policy_set in (old, new)]
    number = 0
    for number, each in enumerate(asked, 1):  # noqa: B007 - the last number is the count
        request, facts, now = each.situation
        before = evaluate(old, request, facts, now, able[0])
        after = evaluate(new, request, facts if each.after is None else each.after, now, able[1])
        if before == after and old.coarse(before.reason) == new.coarse(after.reason):
            continue
        kind = _kind(before, after)
        role, data_class = _role(request, facts), _class(request)
        besides = _besides((old, before), (new, after)) if before.allowed == after.allowed else ""
        moved = (before.reason, after.reason, before.rule or "", after.rule or "", besides)
        key = (kind, role, data_class, request.action.name, *moved)
        known = found.get(key)
        if known is not None:
            found[key] = msgspec.structs.replace(known, count=known.count + 1)
            continue
        found[key] = Difference(
            kind, role, data_class, request.action.name, (before.reason, before.rule or "silence"),
            (after.reason, after.rule or "silence"), 1, _said(each), each.source, besides,
        )  # fmt: skip
    order = {"gained": 0, "eased": 1, "lost": 2, "moved": 3}
    ranked = sorted(found.values(), key=lambda each: (order[each.kind], each.role, each.data_class, each.action))
    return Comparison(number, tuple(ranked))


def _blocking(policy_set: PolicySet) -> frozenset[str]:
    return frozenset(name for name, duty in policy_set.vocabulary.duties.items() if duty.blocking)


def _kind(before: Decision, after: Decision) -> str:
    if before.allowed != after.allowed:
        return "gained" if after.allowed else "lost"
    had, has = {*before.duties, *before.untold}, {*after.duties, *after.untold}
    return "eased" if after.allowed and not had <= has else "moved"


def _besides(old: tuple[PolicySet, Decision], new: tuple[PolicySet, Decision]) -> str:
    """Say what else of an answer is another: its basis, duties, law, documents, what the client learns."""
    before, after = (
        {
            "basis": decision.basis, "duties": " ".join((*decision.duties, *decision.untold)),
            "law": " ".join(decision.law), "documents": " ".join(decision.applied),
            "client": policy_set.coarse(decision.reason),
        }
        for policy_set, decision in (old, new)
    )  # fmt: skip
    return "; ".join(
        f"{name} {was or 'none'} -> {after[name] or 'none'}" for name, was in before.items() if was != after[name]
    )


def unshown(old: tuple[Parts, PolicySet], new: tuple[Parts, PolicySet], compared: Comparison) -> tuple[str, ...]:
    """
    Return the changes that could allow more although no compared answer shows it.

    A comparison shows only what was asked.  A changed rule is told by its id unless a difference
    names it; a changed switch or entry of the vocabulary by its name; the role matrix, the
    hierarchies and the model, which no answer names, by their files.
    """
    told = {name for each in compared.differences for name in (each.before[1], each.after[1])}
    changes = changes_between(old[1], new[1])
    allows = {rule.id for rule in new[1].rules if rule.allows}
    denied = {rule.id for rule in old[1].rules if not rule.allows}
    could = {*(allows & {*changes.added, *changes.changed}), *(denied & {*changes.removed, *changes.changed})}
    found = sorted(could - told)
    matrix, links = ([_rows(parts, kind) for parts, _ in (old, new)] for kind in ("p5", "g"))
    # A row of the matrix that is gone lets nobody do more; a link that is gone may have closed something.
    found += ["role-matrix.csv"] if matrix[1] - matrix[0] else []
    found += ["hierarchies.csv"] if links[1] != links[0] else []
    found += entries_between(old[0].vocabulary, new[0].vocabulary)
    if old[0].model != new[0].model:
        found.append("model.conf")
    return tuple(found)


def _rows(parts: Parts, kind: str) -> set[tuple[str, ...]]:
    rows = (row for row in parts.rows if row.kind.startswith(kind))
    return {(row.kind, *(cell.text for name, cell in row.cells.items() if name != "law")) for row in rows}


def lattice(old: PolicySet, new: PolicySet) -> Iterator[Asked]:
    """
    Yield role × purpose × action × class, each in six circumstances.

    The patient has no document; a general consent; an emergency; both; a consent, but the
    subject takes no part in the care; or the record carries a label.  Words that no rule of
    either set tells apart stand for each other.  Of more than ``LATTICE`` combinations a
    sample is asked, and all that a changed rule reaches.
    """
    circumstances = _circumstances(new)
    for role, purpose, action, data_class in _combinations(old, new):
        for name, patient, labels in circumstances:
            subject = _employee(new, (role,), (purpose,))
            properties = ResourceProperties(patient="p1", data_class=data_class, labels=labels)
            request = EvaluationRequest(
                Subject("user", "s1"), Action(action), Resource("Record", "o1", properties), RequestContext((purpose,))
            )
            yield Asked(f"lattice, {name}", (request, Facts(subject, patient, Position("lattice", 1)), at(NOON)))


def _combinations(old: PolicySet, new: PolicySet) -> Iterator[tuple[str, ...]]:
    kinds = ("roles", "purposes", "actions", "classes")
    every = list(product(*(_unlike(old, new, kind) for kind in kinds)))
    chosen = set(Random(1).sample(range(len(every)), min(LATTICE, len(every))))  # noqa: S311 - a sample, no secret
    changes = changes_between(old, new)
    changed = {*changes.added, *changes.removed, *changes.changed}
    reached: list[tuple[frozenset[str], ...]] = [
        tuple(_words_of(policy_set, kind, getattr(rule, _CELLS[kind])) for kind in kinds)
        for policy_set in (old, new)
        for rule in policy_set.rules
        if rule.id in changed
    ]
    for number, words in enumerate(every):
        if number in chosen or any(all(map(operator.contains, sets, words)) for sets in reached):
            yield words


def _words_of(policy_set: PolicySet, kind: str, cell: str) -> frozenset[str]:
    test = _tests(policy_set)[kind]
    return frozenset(word for word in getattr(policy_set.vocabulary, kind) if test(word, cell)[0])


def _unlike(old: PolicySet, new: PolicySet, kind: str) -> list[str]:
    """Return the words worth asking about: of those that no cell or condition of either set tells apart, only one."""
    words: dict[str, None] = dict.fromkeys(
        word for policy_set in (old, new) for word in getattr(policy_set.vocabulary, kind)
    )
    known: dict[object, str] = {}
    for word in words:
        known.setdefault(tuple(_signature(policy_set, kind, word) for policy_set in (old, new)), word)
    return list(known.values())


def _signature(policy_set: PolicySet, kind: str, word: str) -> tuple[object, ...]:
    test = _tests(policy_set)[kind]
    cells = {getattr(rule, _CELLS[kind]) for rule in policy_set.rules}
    cells |= {getattr(row, "class_" if kind == "classes" else _CELLS[kind]) for row in policy_set.matrix}
    named = word in IMPERSONAL or any(f"'{word}'" in rule.condition for rule in policy_set.rules)
    known = word in getattr(policy_set.vocabulary, kind)
    return (word if named else "", known, *(test(word, cell) for cell in sorted(cells)))


def _tests(policy_set: PolicySet) -> dict[str, Callable[[str, str], tuple[bool, ...]]]:
    call = {name: function.call for name, function in policy_set.functions.items()}
    return {
        "roles": lambda word, cell: (call["holds"]((word,), cell),),
        "purposes": lambda word, cell: (call["covers"]((word,), cell), call["states"]((word,), cell)),
        "actions": lambda word, cell: (call["acts"](word, cell),),
        "classes": lambda word, cell: (call["touches"](word, cell),),
    }


def sampled(policy_set: PolicySet, seed: int, count: int) -> Iterator[Asked]:
    """Yield made-up situations from a seed."""
    for each in islice(situations(policy_set, seed), count):
        yield Asked("sample", each)


class _Recorded(Struct, frozen=True):
    """The members of a journal's entry that say who asked for what."""

    kind: str
    subject: str | None = None
    roles: tuple[str, ...] = ()
    org: str | None = None
    action: str | None = None
    purpose: str | tuple[str, ...] | None = None
    patient: str | None = None
    resource_type: str | None = None
    resource: str | None = None
    data_class: str | None = None


def recorded(policy_set: PolicySet, entries: Iterable[bytes]) -> Iterator[Asked]:
    """
    Yield what a journal recorded, each kind of request in the lattice's circumstances.

    A journal says who asked for what, not what the store knew of the patient then.
    """
    seen = set()
    for line in entries:
        try:
            entry = msgspec.json.decode(line, type=_Recorded)
        except msgspec.DecodeError:
            continue
        key = (entry.roles, entry.action, entry.data_class, entry.purpose)
        if entry.kind != "decision" or entry.action is None or key in seen:
            continue
        seen.add(key)
        roles = entry.roles
        for name, patient, labels in _circumstances(policy_set):
            stated = (entry.purpose,) if isinstance(entry.purpose, str) else entry.purpose or ()
            subject = _employee(policy_set, roles or (), stated)
            properties = ResourceProperties(
                patient="p1" if entry.patient is not None else None, data_class=entry.data_class, labels=labels
            )
            resource = Resource(entry.resource_type or "Record", "o1", properties)
            context = RequestContext(entry.purpose)
            request = EvaluationRequest(Subject("user", "s1"), Action(entry.action), resource, context)
            yield Asked(f"recorded, {name}", (request, Facts(subject, patient, Position("journal", 1)), at(NOON)))


def _employee(policy_set: PolicySet, roles: tuple[str, ...], purposes: tuple[str, ...]) -> SubjectFacts:
    """Return somebody of these roles, at an organisation whose function it is."""
    categories = policy_set.vocabulary.organisation_categories
    category = next((name for name, word in categories.items() if set(purposes) <= set(word.purposes)), None)
    return SubjectFacts(
        "s1", roles=roles, org="h1", patient_id="p1" if "patient" in roles else None,
        organisation=Organisation(category, undertaking=True),
    )  # fmt: skip


def _circumstances(policy_set: PolicySet) -> list[tuple[str, PatientFacts, tuple[str, ...]]]:
    bare = PatientFacts("p1", egov=True, relationships=(Relationship("encounter", "s1", "h1"),))
    consents = (Consent("c1", "t1", "active", NOON - 900 * HOUR, permit_of_all(policy_set, Grantee(org="h1"))),)
    episodes = (Episode("e1", "h1", "emergency", NOON - HOUR),)
    consented = msgspec.structs.replace(bare, consents=consents)
    label = tuple(sorted(policy_set.vocabulary.labels)[:1])
    return [
        ("no document", bare, ()),
        ("a consent", consented, ()),
        ("an emergency", msgspec.structs.replace(bare, episodes=episodes), ()),
        ("an emergency and a consent", msgspec.structs.replace(consented, episodes=episodes), ()),
        ("a consent, no part in the care", msgspec.structs.replace(consented, relationships=()), ()),
        ("a consent, a labelled record", consented, label),
    ]


def permit_of_all(policy_set: PolicySet, grantee: Grantee) -> Provision:
    """Return a provision that permits somebody everything, sensitive records apart."""
    vocabulary = policy_set.vocabulary
    purposes, actions, classes = (
        tuple(words) for words in (vocabulary.purposes, vocabulary.actions, vocabulary.classes)
    )
    return Provision("permit", (grantee,), purposes, actions, classes)


def _role(request: EvaluationRequest, facts: Facts) -> str:
    known = facts.subject.roles if facts.subject is not None else None
    said = request.subject.properties.roles if request.subject.properties is not None else None
    return " ".join(known or said or ("-",))


def _class(request: EvaluationRequest) -> str:
    properties = request.resource.properties
    return (properties.data_class if properties is not None else None) or "-"


def _said(asked: Asked) -> str:
    request, facts, _ = asked.situation
    purpose = request.context.purpose if request.context is not None else None
    stated = purpose if isinstance(purpose, str) else " ".join(purpose or ())
    return f"{_role(request, facts)} {request.action.name} {_class(request)} for {stated or 'no purpose'}"
