"""What is said of patients, their care, their records and the directory, as it is handed in."""

from typing import Annotated, Literal, Self

from fastapi import Path
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ruqsat.web.consent_models import Conf, Day, Id, Moment, Part, Word, Words, names_nobody

PathId = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[!-{}~]+$"), AfterValidator(names_nobody)]
Reason = Annotated[Word, Field(max_length=64)]


class PatientIn(Part):
    """
    The status facts of a patient, all of them: what is left out is a mistake, not a no.

    ``document_ref`` is the ground of what is said otherwise than it stands of death, incapacity or inability.
    """

    birth_date: Day | None
    deceased_at: Moment | None
    incapacitated: bool
    unable: bool
    egov: bool
    document_ref: Word | None = None

    @model_validator(mode="after")
    def _dies_after_birth(self) -> Self:
        if self.birth_date is not None and self.deceased_at is not None and self.deceased_at.date() < self.birth_date:
            raise PydanticCustomError("reversed", "died before birth")
        return self


class SubjectIn(Part):
    """
    A person or machine of the directory, whole.

    What is on record there of break-glass stays; ``active`` must be said, for silence makes nobody active again.
    """

    roles: Words
    active: bool
    org: Id | None = None
    patient_id: Id | None = None
    groups: Words = Field(default=[])
    supervised_by: Id | None = None


class OrganisationIn(Part):
    """An organisation of the directory: its category (Code art. 61(1)), its undertaking (order §25)."""

    category: Word
    undertaking: bool
    active: bool


class EpisodeIn(Part):
    """An episode of care; ``org`` is where the care takes place."""

    patient: Id
    org: Id
    form_of_care: Literal["emergency", "urgent", "planned"]
    start: Moment
    end: Moment | None = None
    care_consent: bool = False


class EpisodeItem(EpisodeIn):
    """An episode with the information system's own id."""

    id: Id


class RelationshipIn(Part):
    """A tie of care: of one subject of the organisation, or of everyone there."""

    patient: Id
    org: Id
    kind: Literal["encounter", "referral", "order", "attachment"]
    subject: Id | None = None
    start: Moment | None = None
    end: Moment | None = None


class RelationshipItem(RelationshipIn):
    """A tie of care with the information system's own id."""

    id: Id


class CloseIn(Part):
    """Whose it is, and since when it is over; since now if nothing is said, never later."""

    patient: Id
    org: Id
    end: Moment | None = None


class RecordIn(Part):
    """
    What is known of a record: no labels (null) is not the same as checked, none (an empty list).

    Its type is that by which decisions about it are asked: FHIR's, or that of a route.
    """

    org: Id
    type: Word
    data_class: Word = Field(alias="class")
    labels: Words | None
    conf: Conf | None = None


class BlockIn(Part):
    """A record whose use is stopped, on what information (order §24); its class where it is not on record."""

    patient: Id
    record: Id
    data_class: Word | None = Field(default=None, alias="class")
    ground: Literal["violation_reported", "subject_demand", "authority_demand"]
    document_ref: Word


class LiftIn(Part):
    """Why a block ends: the violation was not confirmed, or it was put right."""

    ground: Literal["not_confirmed", "put_right"]
    document_ref: Word


class DestroyIn(Part):
    """By which demand a record was destroyed (order §24), and how."""

    demand_ref: Word
    method: Reason
