"""
A proceeding as it is opened, and what is said of an event of it.

As of consents: types and sizes are checked here, what is missing or contradicts the law is the core's to find.
"""

from typing import Annotated, Literal

from pydantic import Field

from ruqsat.web.consent_models import Day, Id, Moment, Number, Part, Text, Texts, Word, Words

Long = Annotated[str, Field(max_length=4000)]
Kind = Literal[
    "consent_request", "information", "correction", "destruction", "withdrawal", "objection", "transfer_notice",
    "breach_notice", "publication", "authority",
]  # fmt: skip


class Applicant(Part):
    """Who applies (order §17); details of a document are noted elsewhere, its copy nowhere."""

    kind: Literal["patient", "legal_representative"]
    iin: Number | None = None
    surname: Text | None = None
    given: Text | None = None
    patronymic: Text | None = None
    reply_to: Text | None = None


class RecordRef(Part):
    """A record that a demand is about: its id, and its class where it is not on record here."""

    id: Id
    data_class: Word = Field(alias="class")


class ProceedingIn(Part):
    """A proceeding with a term; which of these its kind asks for is in the problem document of what is missing."""

    kind: Kind
    patient: Id | None = None
    org: Id | None = None
    received_at: Moment | None = None
    due_on: Day | None = None
    channel: Literal["office", "post", "email", "electronic"] | None = None
    form: Literal["paper", "electronic_document"] | None = None
    applicant: Applicant | None = None
    statement: Long | None = None
    documents: Texts = Field(default=[])
    records: Annotated[list[RecordRef], Field(max_length=50)] = Field(default=[])
    consent: Id | None = None
    categories: Words = Field(default=[])
    purposes: Words = Field(default=[])
    text_version: Word | None = None
    decision: Word | None = None
    recipient: Text | None = None


class CheckedIdentity(Part):
    """How it was made sure who applies, before anything is told (order §19(1))."""

    method: Text
    document_ref: Text | None = None


class MoveIn(Part):
    """What is said of an event; which of these it asks for is in the problem document of what is missing."""

    ground: Word | None = None
    reasons: Long | None = None
    consent: Id | None = None
    records: Annotated[list[RecordRef], Field(max_length=50)] = Field(default=[])
    method: Text | None = None
    retention: Text | None = None
    reference: Text | None = None
    result: Long | None = None
    identity: CheckedIdentity | None = None
    sources: Words = Field(default=[])
    methods: Texts = Field(default=[])
    storage_terms: Text | None = None
    redacted: Texts = Field(default=[])


class AssignIn(Part):
    """Who takes care of it from now on; null for nobody in particular."""

    owner: Id | None
