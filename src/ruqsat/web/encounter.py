"""
A FHIR Encounter (R4 or R5) as a report of an episode of care.

Only what decides is read, strictly; what may be read in two ways is refused with its place.  An emergency opens
a record without consent (order §4), so it is never guessed: the class must say it in HL7's own code.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from ruqsat.core.identification import is_identification_number
from ruqsat.core.instant import Instant, parse_instant, render_instant
from ruqsat.web.consent_models import Id, Moment, read_model
from ruqsat.web.problems import Refusal

ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
FORMS = {"EMER": "emergency", "IMP": "planned", "ACUTE": "planned", "NONAC": "planned", "AMB": "planned"}
"""The form of care of a class of encounter; one that is not here says too little."""

_OPEN = frozenset({"arrived", "triaged", "in-progress", "onleave", "on-hold"})
_OVER = frozenset({"finished", "discharged", "completed"})
_VOID = frozenset({"cancelled", "discontinued", "entered-in-error"})


class _Read(BaseModel):
    """A part of a resource: fields that decide are strict, others are left alone."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


class _Coding(_Read):
    system: Annotated[str, Field(max_length=256)] | None = None
    code: Annotated[str, Field(max_length=64)] | None = None


class _Concept(_Read):
    coding: Annotated[list[_Coding], Field(max_length=20)] = []


class _Patient(_Read):
    reference: Annotated[str, Field(max_length=160, pattern=r"^Patient/[!-.0-{}~]+$")]


class _Organization(_Read):
    reference: Annotated[str, Field(max_length=160, pattern=r"^Organization/[!-.0-{}~]+$")]


class _Period(_Read):
    start: Moment | None = None
    end: Moment | None = None


class Encounter(_Read):
    """The fields that are read."""

    resourceType: Literal["Encounter"]  # noqa: N815 - the name in FHIR
    id: Id
    status: Annotated[str, Field(max_length=64)]
    class_: _Coding | Annotated[list[_Concept], Field(max_length=20)] = Field(alias="class")
    subject: _Patient
    serviceProvider: _Organization  # noqa: N815 - the name in FHIR
    period: _Period | None = None
    actualPeriod: _Period | None = None  # noqa: N815 - the name in FHIR
    modifierExtension: None = None  # noqa: N815 - it may turn the meaning round, so it is not there
    implicitRules: None = None  # noqa: N815 - likewise


def read_encounter(content: bytes, now: Instant) -> dict[str, Any]:
    """
    Return the episode that an Encounter reports.

    One that is over ends when it says, at the latest now; one that never was is over from its beginning on.

    Raises:
        Refusal: it cannot be read, or in two ways; places are named, values never repeated.
    """
    data = read_model(Encounter, content)
    form, period = _form_of_care(data["class_"]), _period(data)
    start, end = period["start"], period["end"]
    if start is None:
        _refuse("/period/start", "missing")
    if data["status"] in _OPEN:
        if end is not None:
            _refuse("/period/end", "ambiguous")
    elif data["status"] in _OVER:
        if end is None:
            _refuse("/period/end", "missing")
        end = render_instant(min(parse_instant(end), now))
    elif data["status"] in _VOID:
        end = start
    else:
        _refuse("/status", "not-understood")
    patient, org = (data[name]["reference"].partition("/")[2] for name in ("subject", "serviceProvider"))
    return {
        "id": data["id"], "patient": _named("/subject/reference", patient),
        "org": _named("/serviceProvider/reference", org), "form_of_care": form,
        "start": start, "end": end, "care_consent": False,
    }  # fmt: skip


def _form_of_care(stated: Any) -> str:
    """Return the form of care that the class says, if all that it says of HL7's codes is one thing."""
    codings = [stated] if isinstance(stated, dict) else [each for concept in stated for each in concept["coding"]]
    place = "/class/code" if isinstance(stated, dict) else "/class"
    codes = {each["code"] for each in codings if each["system"] == ACT_CODE}
    if len(codes) != 1:
        _refuse(place, "ambiguous" if codes else "not-understood")
    (code,) = codes
    if code not in FORMS:
        _refuse(place, "not-understood")
    return FORMS[str(code)]


def _period(data: Any) -> dict[str, str | None]:
    """Return the period; R4 and R5 give it different names, and both at once must agree."""
    stated = [each for each in (data["period"], data["actualPeriod"]) if each is not None]
    if not stated:
        _refuse("/period", "missing")
    moments = [[each[name] and datetime.fromisoformat(each[name]) for name in ("start", "end")] for each in stated]
    if moments[0] != moments[-1]:
        _refuse("/actualPeriod", "ambiguous")
    found: dict[str, str | None] = stated[0]
    return found


def _named(path: str, id_: str) -> str:
    if is_identification_number(id_):
        _refuse(path, "value-error")
    return id_


def _refuse(path: str, code: str) -> NoReturn:
    raise Refusal(
        422, "malformed-document", "the Encounter cannot be read as one episode of care",
        errors=[{"path": path, "code": code}],
    )  # fmt: skip
