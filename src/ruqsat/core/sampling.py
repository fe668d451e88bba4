"""
Situations to try a policy set on: people, documents and requests made of the pack's own words.

Plain chance from a seed, mostly plausible, sometimes strange; moments stand on the
boundaries of documents and one microsecond to either side, where engines differ.
Nobody in them exists.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from random import Random
from typing import Any

import msgspec

from ruqsat.core.cells import split
from ruqsat.core.expression import constants_of, parse_expression
from ruqsat.core.facts import (
    ACCESS_KINDS,
    Consent,
    Delegation,
    EmergencyGrant,
    Episode,
    Facts,
    Grantee,
    Organisation,
    PatientFacts,
    Position,
    Provision,
    RecordStatus,
    Relationship,
    Representation,
    StatutoryRequest,
    SubjectFacts,
    entry_id,
)
from ruqsat.core.instant import HOUR, Instant, Now, at
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import (
    Action,
    EvaluationRequest,
    Inspection,
    LegalRequest,
    RequestContext,
    Resource,
    ResourceProperties,
    Subject,
    SubjectProperties,
)
from ruqsat.core.statutory import AUTHORITIES
from ruqsat.core.validity import IMPERSONAL

NOON: Instant = 1_795_500_000 * 1_000_000
"""The middle of all made-up documents, in microseconds since 1970; no clock is read here."""

_MIDNIGHT: Instant = 1_795_460_400 * 1_000_000
"""The midnight before it, five hours east: when birthdays begin."""

_EDGES = tuple(NOON + step for step in (-900 * HOUR, -HOUR, 0, HOUR, 900 * HOUR))

_EFFECTS = (*("permit",) * 6, "deny")
_STATUSES = (*("active",) * 12, "revoked", "quarantined", "draft", "superseded")
_KINDS = (*("processing",) * 9, *sorted(ACCESS_KINDS), "marketing", "unheard-of")
_BIRTHS = (None, *(date(1850, 2, 28),) * 6, date(2010, 6, 1), *(date(year, 11, 24) for year in (2008, 2010, 2011)))

_DATES = (None, "2026-05-01", "2026-01-01", "2026-06-01", "2026-06", "2026", "2025-12-31T20:00:00Z", "long ago")

_RULES = 2_000
"""How many rules at most are looked at for what is plausible."""

Situation = tuple[EvaluationRequest, Facts, Now]


def situations(policy_set: PolicySet, seed: int) -> Iterator[Situation]:
    """Yield situations without end; the same seed gives the same ones."""
    maker = _Maker(policy_set, seed)
    while True:
        yield maker.situation()


def _values(policy_set: PolicySet, entity: str, name: str, kind: str) -> tuple[Any, ...]:
    """Return values of a stated word: those that rules compare it with, and others."""
    if kind == "yes-no":
        return (True, False)
    compared = {
        value
        for rule in policy_set.rules[:_RULES]
        for value in constants_of(parse_expression(rule.condition), entity, name)
    }
    return (*sorted(compared, key=repr), *((0, 1.5) if kind == "number" else ("", "other")))


class _Maker:
    """Makes situations from one source of chance."""

    def __init__(self, policy_set: PolicySet, seed: int) -> None:
        vocabulary = policy_set.vocabulary
        self._chance = Random(seed)  # noqa: S311 - a sample, not a secret
        self._functions = policy_set.functions
        self._matrix = [(row.role, row.purpose, row.act, row.class_) for row in policy_set.matrix]
        self._cells = [(r.role, r.purpose, r.act, r.data_class) for r in policy_set.rules[:_RULES] if r.allows]
        self._fitting: dict[tuple[str, ...], tuple[list[str], ...]] = {}
        self._roles = sorted(vocabulary.roles)
        self._classes = sorted(vocabulary.classes)
        self._groups = sorted(vocabulary.class_groups)
        self._actions = sorted(vocabulary.actions)
        self._purposes = sorted(vocabulary.purposes)
        self._labels = sorted(vocabulary.labels)
        self._categories = {name: word.purposes for name, word in sorted(vocabulary.organisation_categories.items())}
        self._request_type = policy_set.request_type
        self._types = sorted(vocabulary.types)
        self._kinds = {
            name: constants_of(parse_expression(rule.condition), "res", "type")
            for rule in policy_set.rules[:_RULES] if "res.type" in rule.condition for name in split(rule.data_class)
        }  # fmt: skip
        self._stated: dict[str, dict[str, tuple[Any, ...]]] = {
            entity: {name: _values(policy_set, entity, name, word.kind) for name, word in words.items() if word.stated}
            for entity, words in sorted(vocabulary.attributes.items())
        }

    def situation(self) -> Situation:
        """Return one request, its facts and its moment."""
        self._role, self._purpose, self._action, self._class = self._plausible()
        roles = (self._role, *self._some(self._roles, 1 if self._rarely(0.2) else 0))
        subject = SubjectFacts(
            id="s1", roles=roles, org=self._one((*("h1",) * 8, "h2", None)), groups=self._some(("team",), 1),
            patient_id="p1" if self._rarely(0.8 if "patient" in roles else 0.05) else None,
            btg_suspended=self._rarely(),
            btg_today=self._one((0, 1, 10, 11)), supervised_by=self._one((None, "s2")),
            organisation=self._organisation(), sessions=self._some(("b1", "b2"), 2),
            properties=self._own_words("sub"),
        )  # fmt: skip
        moment = self._one((*(NOON,) * 8, *_EDGES, _MIDNIGHT, _MIDNIGHT)) + self._one((-1, 0, 0, 0, 1))
        recipient = SubjectFacts("h2", not self._rarely(0.05), (), organisation=self._organisation())
        patient = None if self._rarely(0.03) else self._patient()
        request = self._request(roles)
        facts = Facts(
            subject, patient, Position("sample", 1), not self._rarely(0.05), (), self._one((None, recipient)),
            self._entry(request.resource) if self._types else None,
        )  # fmt: skip
        return self._as_declared(request), facts, at(moment)

    def _entry(self, resource: Resource) -> SubjectFacts | None:
        """Return the directory's entry of a resource that concerns nobody, if there is one."""
        if self._rarely():
            return None
        return SubjectFacts(
            entry_id(resource.type, resource.id), False, (), properties=self._own_words("res"),
            resource_type=resource.type,
        )  # fmt: skip

    def _own_words(self, entity: str) -> dict[str, Any] | None:
        """Return values of the words that the pack declares as stated, if it declares any."""
        found = {name: self._one(values) for name, values in self._stated.get(entity, {}).items() if self._rarely(0.6)}
        return found or None

    def _as_declared(self, request: EvaluationRequest) -> EvaluationRequest:
        """Return the request in the pack's own shape, with properties that it declares."""
        if self._request_type is EvaluationRequest:
            return request
        said: dict[str, Any] = msgspec.to_builtins(request)
        for entity, name in (("sub", "subject"), ("act", "action"), ("res", "resource")):
            said[name]["properties"] = (said[name].get("properties") or {}) | (self._own_words(entity) or {})
        return msgspec.convert(said, self._request_type)

    def _organisation(self) -> Organisation | None:
        """Return an organisation: mostly one whose function it is, and that undertook to comply."""
        if self._rarely(0.05):
            return None
        fitting = [name for name, purposes in self._categories.items() if self._purpose in purposes]
        category = self._one(fitting or [None]) if self._rarely(0.9) else self._one([None, *self._categories])
        return Organisation(category, self._rarely(0.9))

    def _request(self, roles: tuple[str, ...]) -> EvaluationRequest:
        purposes = (self._purpose, *self._some(self._purposes, 1 if self._rarely(0.05) else 0))
        token = self._one((None, roles, roles[:1], tuple(self._roles[:9])))
        said = SubjectProperties(token, self._one((None, "h1", "h1", "h2"))) if self._rarely(0.2) else None
        properties = ResourceProperties(
            patient=None if (self._class in IMPERSONAL) != self._rarely(0.02) else "p1",
            data_class=None if self._types and self._rarely(0.5) else self._class, labels=self._labels_stated(),
            conf=self._one((None, None, "N", "R", "V")), created=self._one(_DATES),
            codes=self._one((None, (), ("k1",))), author_org=self._one((None, "h1")),
            database_country=self._one((*(None,) * 9, "KZ", "DE")),
            author=self._one((None, "s1", "s2")),
            encounter=self._one((None, "e1")), blocked=self._rarely(0.01), deidentified=self._rarely(0.2),
            self_consented=self._rarely(), id_document_copy=self._rarely(0.02), immigrant=self._rarely(),
            state_secret=self._rarely(0.01),
        )  # fmt: skip
        context = RequestContext(
            purpose=None if self._rarely(0.02) else purposes,
            btg_session=self._one((None, None, "b1", "b1", "b2")), relink=self._rarely(0.01),
            destination_country=self._one((*(None,) * 25, "KZ", "DE")), art16_3=self._one((None, None, "consent")),
            legal_request=self._legal_request() if self._rarely(0.3) else None,
            inspection=Inspection(self._one(("a1", "")), self._some(("p1", "p2"), 2), self._some(self._classes, 3))
            if self._rarely(0.2) else None,
            recipient=self._one((None, "h2", "h2", "nehp", "law_enforcement", "employer", "backup_platform")),
            art137_1=self._one((None, None, "shock_coma", "severe_mental_disorder", "convenience")),
            suspected_crime=self._rarely(0.3), mental_deviation=self._rarely(0.3),
            sexual_violence_inclination=self._rarely(0.3), subject_demand=self._rarely(0.3),
            defer_notice=self._one((None, None, "written")), cohort_size=self._one((None, None, 3, 5, 500)),
            source=self._one((*(None,) * 6, "owner_statement", "hearsay")), links_databases=self._rarely(0.01),
            harmful=self._rarely(0.01), pep_capabilities=self._one((None, None, (), ("deidentify", "redact"))),
        )  # fmt: skip
        kind = self._one(self._types) if self._types and self._rarely(0.9) else "Record"
        if self._class in self._kinds and not self._rarely(0.1):
            # Where rules tell one type from another, most of those that they name are met.
            kind = self._one(sorted(self._kinds[self._class]))
        resource = Resource(kind, self._one(("o1", "o2")), properties)
        action = Action("unheard-of" if self._rarely(0.01) else self._action)
        sort = "service" if self._class in self._kinds and self._rarely(0.1) else "user"
        return EvaluationRequest(Subject(sort, "s1", said), action, resource, context)

    def _legal_request(self) -> LegalRequest:
        return LegalRequest(
            "r1", self._one((*sorted(AUTHORITIES), "employer")), self._one(("p1", "p1", "p2")),
            self._words(self._class, [*self._classes, *self._groups]), self._one((None, "c-1")), self._rarely(0.8),
            self._one((None, None, "written")),
        )  # fmt: skip

    def _patient(self) -> PatientFacts:
        many = range(12 if self._rarely(0.03) else self._one((0, 1, 1, 2, 3)))
        # What somebody rests on is mostly there: a chain for a delegate, a session for who breaks the glass.
        chained, rests = (0.9 if self._role == role else 0.3 for role in ("delegate", "legal_representative"))
        urgent = 0.9 if self._purpose in ("BTG", "ETREAT", "ERTREAT") else 0.3
        return PatientFacts(
            id="p1", birth_date=self._one(_BIRTHS), egov=self._rarely(0.5),
            deceased_at=self._one(_EDGES[1:4]) if self._rarely(0.05) else None, incapacitated=self._rarely(0.05),
            unable=self._rarely(0.2),
            consents=tuple(self._consent(number) for number in many),
            delegations=tuple(self._delegation(number) for number in many if self._rarely(chained)),
            representations=tuple(self._representation(number) for number in many if self._rarely(rests)),
            grants=tuple(self._grant() for _ in range(self._rarely(urgent))),
            episodes=tuple(self._episode() for _ in range(self._rarely(urgent))),
            relationships=tuple(self._relationship() for _ in range(self._rarely(0.7))),
            records=tuple(self._record() for _ in range(self._one((0, 0, 0, 0, 0, 0, 0, 1, 1, 2)))),
            requests=tuple(self._registered() for _ in range(self._rarely(0.2))),
        )  # fmt: skip

    def _consent(self, number: int) -> Consent:
        if self._rarely(0.4):
            plain = Provision(
                "permit", (Grantee(org="h1"), Grantee(org="h2")), (self._purpose,), (self._action,), (self._class,),
                end=self._until(), labels=self._some(self._labels, 2) if self._rarely() else (),
            )  # fmt: skip
            return Consent(f"c{number}", f"t{number}", "active", self._one(_EDGES), plain, delegations=("d0", "d1"))
        return Consent(
            f"c{number}", self._one(("t1", f"t{number}")), self._one(_STATUSES),
            self._one((*_EDGES, _MIDNIGHT)), self.provision(2), kind=self._one(_KINDS),
            revoked_at=self._one((*(None,) * 40, *_EDGES)), defect="signature" if self._rarely(0.05) else None,
            given_by=self._one((*("patient",) * 5, "legal_rep")), giver=self._one((None, "s1", "s2")),
            giver_kind=self._one(("parent", "guardian", "poa")), cosigned=self._rarely(),
            delegations=self._one(((), ("d0",), ("d0", "d1"))), cross_border=self._one(((), (), ("DE",))),
        )  # fmt: skip

    def provision(self, depth: int) -> Provision:
        """Return a provision, perhaps with exceptions beneath."""
        beneath = range(self._chance.randint(0, 2) if depth and self._rarely(0.3) else 0)
        return Provision(
            self._one(_EFFECTS), tuple(self._grantee() for _ in range(self._chance.randint(0, 2))),
            self._words(self._purpose, self._purposes), self._words(self._action, self._actions),
            self._words(self._class, [*self._classes, *self._groups]), self._some(self._labels, 2),
            self._since(), self._until(),
            self._some(("o1", "o2"), 1 if self._rarely() else 0), self._some(("s1", "s2"), 1 if self._rarely() else 0),
            self._some(("e1",), 1 if self._rarely() else 0), self._one((None, None, None, date(2026, 1, 1))),
            self._one((None, None, None, date(2026, 6, 1))), tuple(self.provision(depth - 1) for _ in beneath),
            ("k1",) if self._rarely(0.05) else (), self._one((*(None,) * 12, "N", "R", "V")),
        )  # fmt: skip

    def _grantee(self) -> Grantee:
        return Grantee(
            org=self._one((None, None, "h1", "h2")), subject=self._one((None, None, "s1")),
            role=self._one((None, None, self._role, self._one(self._roles))), group=self._one((*(None,) * 7, "team")),
        )  # fmt: skip

    def _delegation(self, number: int) -> Delegation:
        return Delegation(
            f"d{number}", self._one((*("c0",) * 8, "c1")), self._one(("s1", "s1", "s2")), self._until() or _EDGES[-1],
            self._words(self._class, [*self._classes, *self._groups]), self._words(self._purpose, self._purposes),
            self._words(self._action, self._actions) or ("read",), self._some(self._labels, 1),
            start=self._since(), parent=self._one((None, None, "d0", "d1")) if number else None,
            may_redelegate=self._rarely(0.5), delegator=self._one((None, "s1", "s2")),
            by=self._one((*("patient",) * 8, "legal_rep", "other")), revoked_at=self._one((*(None,) * 40, *_EDGES)),
        )  # fmt: skip

    def _representation(self, number: int) -> Representation:
        return Representation(
            f"r{number}", self._one(("s1", "s1", "s2")), self._one(("parent", "guardian", "poa")),
            verified=self._rarely(0.8), start=self._since(), end=self._until(),
            revoked_at=self._one((*(None,) * 8, *_EDGES)),
        )  # fmt: skip

    def _grant(self) -> EmergencyGrant:
        start = self._since() or _EDGES[1]
        return EmergencyGrant(
            "b1",
            self._one(("s1", "s1", "s2")),
            start,
            start + HOUR,
            self._one((*("unconscious",) * 8, "curiosity")),
            self._one((*(40,) * 8, 9, 10)),
            revoked_at=self._one((*(None,) * 8, *_EDGES)),
            mfa=self._rarely(0.8),
            categories=self._one((("emergency_set",), ("emergency_set",), ("clinical", "demographics"), ())),
        )

    def _episode(self) -> Episode:
        form = self._one(("emergency", "urgent", "planned"))
        return Episode(
            "e1", self._one(("h1", "h1", "h2")), form, self._since() or _EDGES[0], self._until(), self._rarely(0.5)
        )

    def _relationship(self) -> Relationship:
        since = self._since() if self._rarely(0.3) else None
        return Relationship("encounter", self._one((None, "s1", "s2")), self._one((None, "h1")), since, self._until())

    def _record(self) -> RecordStatus:
        data_class = self._one((*(self._class,) * 8, self._one(self._classes)))
        return RecordStatus(
            "o1", data_class, self._labels_stated(), self._one((None, None, "N", "R", "V")),
            blocked=self._rarely(), destroyed=self._rarely(0.03), org=self._one((None, "h1", "h2")),
            type=self._one((None, *("Record",) * 8, "Other")),
        )  # fmt: skip

    def _registered(self) -> StatutoryRequest:
        return StatutoryRequest(
            "r1", self._one(sorted(AUTHORITIES)), self._words(self._class, [*self._classes, *self._groups]),
            self._until() or _EDGES[-1], self._since(), self._rarely(0.8), self._one((*(None,) * 8, *_EDGES)),
            self._until(),
        )  # fmt: skip

    def _labels_stated(self) -> tuple[str, ...] | None:
        stated: tuple[str, ...] | None = self._one((None, *((),) * 8, self._some(self._labels, 2)))
        return stated

    def _plausible(self) -> tuple[str, str, str, str]:
        """Return role, purpose, action and class: mostly as a row of the role matrix or a permit has them."""
        kinds = (self._roles, self._purposes, self._actions, self._classes)
        source = self._one((*(self._matrix,) * 5, *(self._cells,) * 3, ()))
        if not source:
            one, two, three, four = (self._one(words) for words in kinds)
            return one, two, three, four
        cells = self._one(source)
        fitting = self._fitting.get(cells)
        if fitting is None:
            call = {name: function.call for name, function in self._functions.items()}
            tests: tuple[Callable[[str, str], bool], ...] = (
                lambda word, cell: call["holds"]((word,), cell),
                lambda word, cell: call["states" if source is self._matrix else "covers"]((word,), cell),
                call["acts"], call["touches"],
            )  # fmt: skip
            fitting = self._fitting[cells] = tuple(
                [word for word in words if test(word, cell)] or [words[0]]
                for words, test, cell in zip(kinds, tests, cells, strict=True)
            )
        one, two, three, four = map(self._one, fitting)
        return one, two, three, four

    def _words(self, asked: str, others: Sequence[str]) -> tuple[str, ...]:
        """Return words of a cell: mostly the one asked for, with others or without."""
        return tuple(dict.fromkeys((*((asked,) if self._rarely(0.8) else ()), *self._some(others, 2))))

    def _since(self) -> Instant | None:
        """Return a beginning: mostly past."""
        since: Instant | None = self._one((None, None, *_EDGES[:3] * 3, *_EDGES))
        return since

    def _until(self) -> Instant | None:
        """Return an end: mostly to come."""
        until: Instant | None = self._one((None, None, *_EDGES[3:] * 4, *_EDGES))
        return until

    def _rarely(self, share: float = 0.1) -> bool:
        return self._chance.random() < share

    def _one(self, things: Sequence[Any]) -> Any:
        return self._chance.choice(things)

    def _some(self, words: Sequence[str], most: int) -> tuple[str, ...]:
        return tuple(self._chance.sample(words, min(len(words), self._chance.randint(0, most))))
