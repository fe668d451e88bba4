"""
A delegation, a representative's power, a request of an authority and a break-glass session as they are handed in.

As of consents: types and sizes are checked here, what is missing or contradicts the law is the core's to find.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from ruqsat.web.consent_models import Checked, Day, Id, Moment, Number, Part, Representative, Text, Word, Words
from ruqsat.web.problems import FieldProblem

Note = Annotated[str, Field(min_length=10, max_length=1000, pattern=r"\S")]


class Delegate(Part):
    """Who is let in (order §12): known to the directory, or by a number that a desk verifies."""

    subject: Id | None = None
    iin: Number | None = None
    surname: Text | None = None
    given: Text | None = None
    patronymic: Text | None = None
    relation: Word | None = None


class DelegationIn(Part):
    """A third person let in (order §12); ``id`` is the one by which the consent names the delegation."""

    patient: Id
    id: Id | None = None
    consent: Id | None = None
    parent: Id | None = None
    delegate: Delegate | None = None
    categories: Words = Field(default=[])
    labels: Words = Field(default=[])
    actions: Words = Field(default=[])
    purposes: Words = Field(default=[])
    start: Moment | None = None
    end: Moment | None = None
    may_redelegate: bool = False


class Owner(Part):
    """The represented person's number (order §9(1))."""

    iin: Number | None = None


class RepresentationIn(Part):
    """A representative's power over a patient (order §9(2), §11); ``subject`` acts by it."""

    patient: Id
    subject: Id | None = None
    owner: Owner | None = None
    representative: Representative | None = None


class Body(Part):
    """The authority that asks; ``kind`` is inquiry, investigation, prosecutor, advocate, court, … (Code 273(4))."""

    kind: Word | None = None
    name: Text | None = None
    bin: Number | None = None
    address: Text | None = None


class Official(Part):
    """Who signed the request."""

    surname: Text | None = None
    given: Text | None = None
    patronymic: Text | None = None
    position: Text | None = None


class DeferredNotice(Part):
    """The written ground for telling the patient later, and until when (order §20)."""

    ground: Text | None = None
    until: Moment | None = None


class RequestIn(Part):
    """A request of an authority for one patient's data (order §13)."""

    patient: Id
    authority: Body | None = None
    official: Official | None = None
    request_no: Text | None = None
    requested_on: Day | None = None
    case_no: Text | None = None
    paragraph: Literal["273(4)(3)", "273(4)(8)", "273(4)(9)"] | None = None
    categories: Words = Field(default=[])
    start: Moment | None = None
    end: Moment | None = None
    document_ref: Text | None = None
    deferred_notice: DeferredNotice | None = None


class Acknowledgement(Part):
    """The warning that was shown: the journal, the patient, the review."""

    text_version: Text | None = None
    at: Moment | None = None


class SessionIn(Part):
    """The opening of a break-glass session, by the caller for itself; the server sets beginning and end."""

    patient: Id
    reason_code: Word | None = None
    reason_text: Text | None = None
    acknowledgement: Acknowledgement | None = None
    scope: Words = Field(default=[])
    scope_confirmed: bool = False
    minutes: Annotated[int, Field(ge=1, le=1440)] | None = None
    workstation: Text | None = None


class CheckedPerson(Checked):
    """Who the delegate is: the subject of the directory whose number was checked."""

    subject: Id | None = None


class Review(Part):
    """What a review of a session found, and why."""

    verdict: Literal["justified", "unclear", "misuse"]
    note: Note


class Reinstatement(Part):
    """Why a clinician may break the glass again."""

    note: Note


class RecordWritten(BaseModel):
    """What was recorded, or became of a record; a check that carries the token sees at least this."""

    id: str
    patient: str | None = None
    version: int | None = None
    status: str | None = None
    items: list[FieldProblem] = []
    token: str


class RecordPage(BaseModel):
    """A page of records without what names people; ``next`` is the cursor of the one after, if there is one."""

    records: list[dict[str, Any]]
    next: str | None = None
