"""The part of a patient's facts that says who is to be told (order §20); notices are many, and need no other part."""

from datetime import date

from msgspec import Struct

from ruqsat.core.facts import PatientFacts, Representation, StatutoryRequest
from ruqsat.core.instant import Instant


class Addressee(Struct, frozen=True, gc=False):
    """The members of ``PatientFacts`` that notices need, under the same names; the decoder skips all others."""

    id: str
    birth_date: date | None = None
    deceased_at: Instant | None = None
    incapacitated: bool = False
    egov: bool = False
    representations: tuple[Representation, ...] = ()
    requests: tuple[StatutoryRequest, ...] = ()


Told = PatientFacts | Addressee
"""Whoever may be told, as far as that is known."""
