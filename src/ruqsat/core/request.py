"""
What a caller asks: AuthZEN 1.0's subject, action, resource and context.

The structures are exactly what may arrive on the wire, so decoding and
validation are one step.  Unknown fields are ignored, as the standard demands;
what only the store may say (activity, relationships, episodes, sessions, …) has
no field here and therefore cannot be asserted by a caller.  What a pack itself
declares as stated is added by :mod:`ruqsat.core.stated`.  Written down, what is not stated
is left out: the journal keeps each question as it was decided.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

SHORT_BYTES = 1024
"""A question of up to so many bytes is kept a while, by whoever may be asked it again; a longer one is not worth it."""

Name = Annotated[str, Meta(min_length=1, max_length=256)]
"""An id or a word on the wire; control characters are refused where the bytes are read."""


class SubjectProperties(Struct, frozen=True, omit_defaults=True):
    """What the token or the enforcement point says of the subject; the directory narrows it."""

    roles: tuple[str, ...] | None = None
    org: str | None = None


class Subject(Struct, frozen=True, omit_defaults=True):
    """Who asks: an opaque id, never an identification number."""

    type: Name
    id: Name
    properties: SubjectProperties | None = None


class ActionProperties(Struct, frozen=True, omit_defaults=True):
    """What is stated of the action: nothing but what the pack declares (:mod:`ruqsat.core.stated`)."""


class Action(Struct, frozen=True, omit_defaults=True):
    """What the subject wants to do: one of the vocabulary's actions."""

    name: Name
    properties: ActionProperties | None = None


class ResourceProperties(Struct, frozen=True, omit_defaults=True):
    """
    What is known of the record.

    ``labels`` left out or null means *unknown*; an empty list means *checked, none*.
    """

    patient: str | None = None
    data_class: str | None = field(default=None, name="class")
    labels: tuple[str, ...] | None = None
    conf: Literal["U", "L", "M", "N", "R", "V"] | None = None
    created: str | None = None
    author: str | None = None
    author_org: str | None = None
    encounter: str | None = None
    codes: tuple[str, ...] | None = None
    database_country: str | None = None
    deidentified: bool = False
    blocked: bool = False
    self_consented: bool = False
    id_document_copy: bool = False
    immigrant: bool = False
    state_secret: bool = False
    parts: tuple[dict[str, Any], ...] | None = None
    atomic: bool = False


class Resource(Struct, frozen=True, omit_defaults=True):
    """What the subject wants to do it to: a type, a record id and its properties."""

    type: Name
    id: Name
    properties: ResourceProperties | None = None


class LegalRequest(Struct, frozen=True, omit_defaults=True):
    """
    A request of an authority for data of one patient (Code 273(4)(3), (8), (9)), checked by a person.

    What it does not say is no malformed question: it is no request, and opens nothing.
    """

    ref: str | None = None
    authority: str | None = None
    patient: str | None = None
    categories: tuple[str, ...] = ()
    case_no: str | None = None
    verified: bool = False
    defer_notice: str | None = None


class Inspection(Struct, frozen=True, omit_defaults=True):
    """An act of state control of quality, or of monitoring a contract (Code 273(4)(7))."""

    act_no: str | None = None
    patients: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


class RequestContext(Struct, frozen=True, omit_defaults=True):
    """
    The circumstances that a caller or its token may state.

    ``supported_obligations`` is the word of the draft obligations profile of AuthZEN for ``pep_capabilities``.
    """

    purpose: str | tuple[str, ...] | None = None
    destination_country: str | None = None
    art16_3: str | None = None
    relink: bool = False
    btg_session: str | None = None
    pep_capabilities: tuple[str, ...] | None = None
    supported_obligations: tuple[str, ...] | None = None
    smart_scopes: tuple[str, ...] | None = None
    consistency_token: str | None = None
    legal_request: LegalRequest | None = None
    inspection: Inspection | None = None
    recipient: str | None = None
    art137_1: str | None = None
    suspected_crime: bool = False
    mental_deviation: bool = False
    sexual_violence_inclination: bool = False
    subject_demand: bool | str | None = None
    defer_notice: str | None = None
    cohort_size: int | None = None
    source: str | None = None
    links_databases: bool = False
    harmful: bool = False
    launch_patient: str | None = None


class EvaluationRequest(Struct, frozen=True, omit_defaults=True):
    """One question: may this subject do this action to this resource, under these circumstances?"""

    subject: Subject
    action: Action
    resource: Resource
    context: RequestContext | None = None
