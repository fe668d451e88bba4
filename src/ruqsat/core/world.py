"""
A world as data: named subjects, patients and documents, as people write them down.

Policy cases, the demo and ``ruqsat explain`` use it.  The names of fields are those of the registered record;
``core.projection`` makes facts of them.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

import msgspec
from msgspec import Struct

from ruqsat.core.facts import Grantee, Stated

HOME_COUNTRY = "KZ"


class _Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """A misspelt field is an error, never ignored: a lost field could open a record."""


class DataReference(_Strict, frozen=True):
    """A record, author or encounter that a provision names."""

    meaning: Literal["instance", "related", "authoredby"]
    ref: str


class DataPeriod(_Strict, frozen=True):
    """Dates of the data, both inclusive."""

    start: date | None = None
    end: date | None = None


class Node(_Strict, frozen=True):
    """A provision as written down."""

    effect: Literal["permit", "deny"]
    grantees: tuple[Grantee, ...] = ()
    purposes: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    data: tuple[DataReference, ...] = ()
    data_period: DataPeriod = DataPeriod()
    codes: tuple[str, ...] = ()
    conf: Literal["U", "L", "M", "N", "R", "V"] | None = None
    exceptions: tuple["Node", ...] = ()


class Signature(_Strict, frozen=True):
    """How the document was signed, and whether that was verified (order §9, §10)."""

    kind: str
    verified: bool


class Giver(_Strict, frozen=True):
    """Who gave the document; a representative's powers must have been verified (order §11)."""

    type: Literal["patient", "legal_rep"]
    id: str
    kind: str | None = None
    verified: bool = False


class ConsentRecord(Node, frozen=True, kw_only=True):
    """A consent or refusal with the formal facts that decide whether a permit may be used."""

    patient: str
    status: str
    thread: str | None = None
    granted_at: str
    form: str
    signature: Signature
    given_by: Giver
    missing: tuple[str, ...] = ()
    kind: str = "processing"
    revoked_at: str | None = None
    entered_in_mis_at: str | None = None
    controller_is_state: bool = False
    state_service_ref: str | None = None
    database_country: str = HOME_COUNTRY
    cosigned_by_rep: bool = False
    delegations: tuple[str, ...] = ()
    cross_border: tuple[str, ...] = ()
    operator: str | None = None
    third_party_transfer: bool | None = None
    id_document_image: bool = False


class DelegationRecord(_Strict, frozen=True, kw_only=True):
    """A delegation as written down."""

    patient: str
    consent: str
    delegator: str
    delegate: str
    end: str
    categories: tuple[str, ...]
    purposes: tuple[str, ...]
    actions: tuple[str, ...] = ("read", "search")
    labels: tuple[str, ...] = ()
    start: str | None = None
    parent: str | None = None
    may_redelegate: bool = False
    revoked_at: str | None = None


class RepresentationRecord(_Strict, frozen=True, kw_only=True):
    """A representative's power as written down."""

    subject: str
    patient: str
    kind: Literal["parent", "guardian", "adoptive", "poa"]
    verified: bool
    document: str = ""
    valid_from: str | None = None
    valid_to: str | None = None
    revoked_at: str | None = None


class SessionRecord(_Strict, frozen=True, kw_only=True):
    """A break-glass session as written down."""

    subject: str
    patient: str
    reason_code: str
    reason_text: str
    mfa: bool
    started_at: str
    expires_at: str
    revoked_at: str | None = None
    categories: tuple[str, ...] = ("emergency_set",)


class RequestRecord(_Strict, frozen=True, kw_only=True):
    """A request of an authority as the records office registered it."""

    patient: str
    authority: str
    categories: tuple[str, ...]
    end: str
    start: str | None = None
    verified: bool = False
    closed_at: str | None = None
    deferred_until: str | None = None


class EpisodeRecord(_Strict, frozen=True, kw_only=True):
    """An episode of care as written down."""

    patient: str
    org: str
    form_of_care: Literal["emergency", "urgent", "planned"]
    opened_at: str
    closed_at: str | None = None
    care_consent: bool = False


class RelationshipRecord(_Strict, frozen=True, kw_only=True):
    """A tie of care as written down."""

    patient: str
    kind: Literal["encounter", "referral", "order", "attachment"]
    subject: str | None = None
    org: str | None = None


class RecordRecord(_Strict, frozen=True, kw_only=True, rename={"data_class": "class"}):
    """A record's class, labels and block as written down, and under which types it is asked for."""

    patient: str
    data_class: str
    types: tuple[str, ...] = ("Record",)
    labels: tuple[str, ...] | None = None
    conf: Literal["U", "L", "M", "N", "R", "V"] | None = None
    blocked: bool = False
    destroyed: bool = False


class PatientRecord(_Strict, frozen=True):
    """A patient's status facts as written down."""

    birth_date: date | None = None
    egov: bool = False
    deceased_at: str | None = None
    incapacitated: bool = False
    unable: bool = False
    note: str = ""


class SubjectRecord(_Strict, frozen=True):
    """A person or machine of the directory as written down."""

    roles: tuple[str, ...]
    org: str | None = None
    active: bool = True
    groups: tuple[str, ...] = ()
    patient_id: str | None = None
    btg_suspended: bool = False
    btg_today: int = 0
    supervised_by: str | None = None
    properties: dict[str, Stated] | None = None


class ResourceEntry(_Strict, frozen=True):
    """A resource that concerns nobody, as the directory lists it: its type, and words that the pack declares."""

    type: str
    properties: dict[str, Stated] | None = None


class OrganisationRecord(_Strict, frozen=True):
    """An organisation of the directory as written down: its category (Code art. 61(1)), its undertaking (order §25)."""

    category: str
    undertaking: bool = False


class World(_Strict, frozen=True):
    """Everything by kind and name."""

    organisations: dict[str, OrganisationRecord] = {}
    subjects: dict[str, SubjectRecord] = {}
    patients: dict[str, PatientRecord] = {}
    consents: dict[str, ConsentRecord] = {}
    delegations: dict[str, DelegationRecord] = {}
    reps: dict[str, RepresentationRecord] = {}
    btg: dict[str, SessionRecord] = {}
    requests: dict[str, RequestRecord] = {}
    episodes: dict[str, EpisodeRecord] = {}
    relationships: dict[str, RelationshipRecord] = {}
    records: dict[str, RecordRecord] = {}
    resources: dict[str, ResourceEntry] = {}


def parse_world(data: Mapping[str, Any]) -> World:
    """
    Read a world from plain data.

    Raises:
        msgspec.ValidationError: with the path of the first wrong or unknown field.
    """
    return msgspec.convert(data, World)
