"""
What the store knows, frozen for one evaluation.

These are decision projections: no names, no addresses, no free text, no
identification numbers.  Instants are microseconds since 1970 (``core.instant``);
``until`` bounds are exclusive.  The full records, with all items of order
ҚР ДСМ-54 §9, stay in the registry.
"""

import hashlib
from datetime import date
from functools import cached_property, reduce
from typing import Literal

import msgspec
from msgspec import Struct

from ruqsat.core.instant import Instant

_encode = msgspec.json.Encoder().encode


def digest_of_facts(kind: str, text: bytes) -> str:
    """
    Return the content address of facts of a kind, as they are written in JSON: 128 bits of SHA-256, in hexadecimal.

    It names them, and hides nothing: few facts can be guessed, and their digest then tells that the guess is right.
    """
    return hashlib.sha256(b"%b\n%b" % (kind.encode(), text)).hexdigest()[:32]


class Position(Struct, frozen=True, array_like=True):
    """How far a reader knows the truth: everything of ``epoch`` committed up to ``seq``."""

    epoch: str
    seq: int


class Organisation(Struct, frozen=True, omit_defaults=True):
    """
    What the directory says of an organisation.

    Attributes:
        category: One of the vocabulary's, after Code art. 61(1); None is unknown, and has no function.
        undertaking: It undertook to comply, and can (Law 94-V art. 10(1), order §25).
    """

    category: str | None = None
    undertaking: bool = False


Stated = str | bool | int | float
"""A value of a property that a pack declares."""


class SubjectFacts(Struct, frozen=True, omit_defaults=True, dict=True):
    """
    The directory's entry of one person, machine, organisation or thing; whoever has none there is not active.

    Attributes:
        organisation: Of a person or machine: the employer's entry; of an organisation: its own.
        btg_today: Break-glass sessions of today, as a file of facts says.
        btg_opened: When the person opened sessions lately, as the registry counts them.
        sessions: Break-glass sessions that the person opened, for whichever patient.
        properties: Values of words that the pack declares as stated.
        resource_type: The type, if the entry is of a resource that concerns nobody; it then never counts as active.
    """

    id: str
    active: bool = True
    roles: tuple[str, ...] | None = None
    org: str | None = None
    groups: tuple[str, ...] = ()
    patient_id: str | None = None
    btg_suspended: bool = False
    btg_today: int = 0
    btg_opened: tuple[Instant, ...] = ()
    supervised_by: str | None = None
    organisation: Organisation | None = None
    sessions: tuple[str, ...] = ()
    properties: dict[str, Stated] | None = None
    resource_type: str | None = None

    @property
    def is_somebody(self) -> bool:
        """Tell whether it is a person or a machine, and neither an organisation nor a thing."""
        return self.resource_type is None and not (self.organisation is not None and self.org is None)

    @cached_property
    def digest(self) -> str:
        """The content address of these facts (``digest_of_facts``), worked out once and kept with them."""
        return digest_of_facts("subject", _encode(self))


def entry_id(resource_type: str, resource: str) -> str:
    """Return the directory's id of a resource; it holds a character that no caller can write in an id."""
    return f"{resource_type}\x1f{resource}"


class Grantee(Struct, frozen=True, omit_defaults=True):
    """Who a provision names; every stated part must hold (entries of a list are alternatives)."""

    org: str | None = None
    subject: str | None = None
    role: str | None = None
    group: str | None = None


class Provision(Struct, frozen=True, omit_defaults=True):
    """
    One node of a consent document; an empty tuple means "not stated".

    What silence means, and a word that the vocabulary does not have, depends on
    ``effect``: on a permit the narrowest reading (reading only, no sensitive label), on a
    denial the widest.  ``conf`` is a ceiling on a permit, a floor on a denial.  Of records,
    authors and encounters that are named together a permit needs all, and a denial meets
    whichever it finds.
    """

    effect: Literal["permit", "deny"]
    grantees: tuple[Grantee, ...] = ()
    purposes: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    start: Instant | None = None
    end: Instant | None = None
    data_records: tuple[str, ...] = ()
    data_authors: tuple[str, ...] = ()
    data_encounters: tuple[str, ...] = ()
    data_from: date | None = None
    data_until: date | None = None
    exceptions: tuple["Provision", ...] = ()
    data_codes: tuple[str, ...] = ()
    conf: Literal["U", "L", "M", "N", "R", "V"] | None = None


class Consent(Struct, frozen=True, omit_defaults=True):
    """
    One document of a patient: a consent or a refusal (order §8–9, §14).

    ``defect`` is why a permit may not be used (an item of §9 missing, not signed,
    …), settled when the record was registered; a denial binds with or without one.
    """

    id: str
    thread: str
    status: Literal["draft", "active", "revoked", "superseded", "rejected", "entered-in-error", "quarantined"]
    granted_at: Instant
    root: Provision
    kind: str = "processing"
    revoked_at: Instant | None = None
    defect: str | None = None
    given_by: Literal["patient", "legal_rep"] = "patient"
    giver: str | None = None
    giver_kind: str | None = None
    cosigned: bool = False
    delegations: tuple[str, ...] = ()
    cross_border: tuple[str, ...] = ()

    @property
    def is_unread(self) -> bool:
        """Tell whether it may be a refusal that nobody has understood yet: unreadable, or of an unknown kind."""
        if self.status == "quarantined":
            return True
        unknown = self.kind not in ACCESS_KINDS and self.kind not in OTHER_KINDS
        return unknown and self.root.effect == "deny" and self.status not in NEVER_IN_FORCE


class Delegation(Struct, frozen=True, omit_defaults=True):
    """
    One link by which a patient, or a delegate, shares access with a third person (order §12).

    Attributes:
        delegator: Who gave it; a further link is given by the delegate of the link above.
        by: What the delegator is to the patient.
    """

    id: str
    consent: str
    delegate: str
    end: Instant
    categories: tuple[str, ...]
    purposes: tuple[str, ...]
    actions: tuple[str, ...] = ("read", "search")
    labels: tuple[str, ...] = ()
    start: Instant | None = None
    parent: str | None = None
    may_redelegate: bool = False
    delegator: str | None = None
    by: Literal["patient", "legal_rep", "other"] = "patient"
    revoked_at: Instant | None = None


class Representation(Struct, frozen=True, omit_defaults=True):
    """The power of a legal representative over one ward (order §3, §11)."""

    id: str
    subject: str
    kind: Literal["parent", "guardian", "adoptive", "poa"]
    verified: bool = False
    start: Instant | None = None
    end: Instant | None = None
    revoked_at: Instant | None = None


class EmergencyGrant(Struct, frozen=True, omit_defaults=True):
    """A break-glass session: one person, one patient, a reason and a short life."""

    id: str
    subject: str
    start: Instant
    end: Instant
    reason_code: str
    reason_length: int
    mfa: bool = False
    revoked_at: Instant | None = None
    categories: tuple[str, ...] = ("emergency_set",)


class StatutoryRequest(Struct, frozen=True, omit_defaults=True):
    """
    A request of an authority for this patient's data, as the records office registered it (Code 273(4)).

    Attributes:
        deferred_until: Until when the patient is not told, on a written ground; None is told at once.
    """

    id: str
    authority: str
    categories: tuple[str, ...]
    end: Instant
    start: Instant | None = None
    verified: bool = False
    revoked_at: Instant | None = None
    deferred_until: Instant | None = None


class Episode(Struct, frozen=True, omit_defaults=True):
    """An episode of care at one organisation, as the medical information system reported it."""

    id: str
    org: str
    form_of_care: Literal["emergency", "urgent", "planned"]
    start: Instant
    end: Instant | None = None
    care_consent: bool = False


class Relationship(Struct, frozen=True, omit_defaults=True):
    """
    Why this subject, or everyone of its organisation, takes part in the patient's care.

    ``id`` is the information system's own, within its organisation; none where nobody reported it.
    """

    kind: Literal["encounter", "referral", "order", "attachment"]
    subject: str | None = None
    org: str | None = None
    start: Instant | None = None
    end: Instant | None = None
    id: str | None = None


Conf = Literal["U", "L", "M", "N", "R", "V"]


class RecordStatus(Struct, frozen=True, omit_defaults=True):
    """
    What the store knows of one record: class, labels (None is unknown) and block.

    A record is known by type and id, since ids of FHIR are unique within a type only.  An entry without a type
    may mean a record of any type, so it only narrows: labels that it names count, that it names none does not.

    Attributes:
        org: Whose information system reported it; none where nobody did.
        type: The type by which decisions are asked: FHIR's, or that of a route.
    """

    id: str
    data_class: str
    labels: tuple[str, ...] | None = None
    conf: Literal["U", "L", "M", "N", "R", "V"] | None = None
    blocked: bool = False
    destroyed: bool = False
    org: str | None = None
    type: str | None = None


def higher(one: Conf | None, other: Conf | None) -> Conf | None:
    """Return the higher of two levels of confidentiality; None says nothing."""
    if one is None or other is None:
        return one or other
    return one if "ULMNRV".index(one) >= "ULMNRV".index(other) else other


class KnownRecord(Struct, frozen=True):
    """
    All that the store knows of one record, put together so that doubt narrows.

    Attributes:
        own: The entries under its own type; entries without a type count beside them.
        labels: Every label that any of these entries names.
        data_classes: The classes of its own entries; if there are none, those of the others.
    """

    own: tuple[RecordStatus, ...]
    labels: frozenset[str]
    data_classes: frozenset[str]
    conf: Conf | None
    blocked: bool
    destroyed: bool


def _known(own: list[RecordStatus], untyped: list[RecordStatus]) -> KnownRecord:
    both = own + untyped
    levels = [each.conf for each in both]
    return KnownRecord(
        tuple(own),
        frozenset(label for each in both for label in each.labels or ()),
        frozenset(each.data_class for each in own or untyped),
        reduce(higher, levels, None),
        any(each.blocked for each in both),
        any(each.destroyed for each in both),
    )


ACCESS_KINDS = frozenset({"processing", "dissent", "delegation", "research", "cross_border"})
"""Kinds of documents that are about access; the others are kept but decide nothing here."""

OTHER_KINDS = frozenset({"treatment", "advance_directive", "biometric", "marketing"})
NEVER_IN_FORCE = frozenset({"draft", "rejected", "entered-in-error"})
_NOT_WEIGHED = NEVER_IN_FORCE | {"quarantined"}


class PatientFacts(Struct, frozen=True, omit_defaults=True, dict=True):
    """
    Everything about one patient that a decision may need.

    What follows from the facts alone, whatever the request and the moment, is
    worked out once and kept with them.
    """

    id: str
    birth_date: date | None = None
    deceased_at: Instant | None = None
    incapacitated: bool = False
    egov: bool = False
    unable: bool = False
    consents: tuple[Consent, ...] = ()
    delegations: tuple[Delegation, ...] = ()
    representations: tuple[Representation, ...] = ()
    grants: tuple[EmergencyGrant, ...] = ()
    episodes: tuple[Episode, ...] = ()
    relationships: tuple[Relationship, ...] = ()
    records: tuple[RecordStatus, ...] = ()
    requests: tuple[StatutoryRequest, ...] = ()

    @cached_property
    def threads(self) -> tuple[tuple[Consent, ...], ...]:
        """Documents about access that may ever be in force, by thread (in no order that matters)."""
        by_thread: dict[str, list[Consent]] = {}
        for document in self.consents:
            if document.kind in ACCESS_KINDS and document.status not in _NOT_WEIGHED:
                by_thread.setdefault(document.thread, []).append(document)
        return tuple(tuple(documents) for documents in by_thread.values())

    @cached_property
    def sole(self) -> tuple[Consent, ...] | None:
        """The document of each thread, if no thread holds two: the common case, in which nothing is weighed."""
        threads = self.threads
        return tuple([each[0] for each in threads]) if max(map(len, threads), default=1) == 1 else None

    @cached_property
    def unread(self) -> tuple[str, ...]:
        """Documents that may be a refusal which nobody has understood yet."""
        return tuple(sorted([document.id for document in self.consents if document.is_unread]))

    @cached_property
    def digest(self) -> str:
        """The content address of these facts (``digest_of_facts``)."""
        return digest_of_facts("patient", _encode(self))

    @cached_property
    def records_by_id(self) -> dict[str, tuple[RecordStatus, ...]]:
        """What the store knows of records, of whatever type, by their id."""
        found: dict[str, tuple[RecordStatus, ...]] = {}
        for record in self.records:
            found[record.id] = (*found.get(record.id, ()), record)
        return found

    @cached_property
    def _known_records(self) -> dict[tuple[str, str], KnownRecord]:
        """What was put together of records that were asked for, by type and id."""
        return {}

    def known_record(self, type_: str, id_: str) -> KnownRecord | None:
        """Return what the store knows of one record, put together when it is asked for first."""
        known = self._known_records.get((type_, id_))
        if known is None and id_ in self.records_by_id:
            known = self._put_together(type_, id_)
        return known

    def _put_together(self, type_: str, id_: str) -> KnownRecord:
        alike = self.records_by_id[id_]
        own = [each for each in alike if each.type == type_]
        known = _known(own, [each for each in alike if each.type is None])
        if own:  # whoever asks may name any type; kept are those on file
            self._known_records[type_, id_] = known
        return known

    def class_of_record(self, id_: str) -> str | None:
        """Return the class of the records by this id; None if there are none, or of several classes."""
        classes = {record.data_class for record in self.records_by_id.get(id_, ())}
        return next(iter(classes)) if len(classes) == 1 else None


class Facts(Struct, frozen=True):
    """
    The facts of one evaluation, all read at or before ``position``.

    ``subject`` None: not in the directory.  ``patient`` None: nobody by that id,
    or the request names no patient.  ``consents_known`` False: the consent
    store could not be read; what needs it is denied.  ``others`` are the patients
    that single parts of a request name, ``recipient`` the directory's entry of the
    organisation that data would be handed to, ``resource`` that of a resource which concerns nobody.
    """

    subject: SubjectFacts | None
    patient: PatientFacts | None
    position: Position
    consents_known: bool = True
    others: tuple[PatientFacts, ...] = ()
    recipient: SubjectFacts | None = None
    resource: SubjectFacts | None = None
