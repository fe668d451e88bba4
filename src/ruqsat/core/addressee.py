"""What is asked of a patient's facts when somebody is to be told: a small part, read far more often."""

from datetime import date

from msgspec import Struct

from ruqsat.core.facts import PatientFacts, Representation, StatutoryRequest
from ruqsat.core.instant import Instant


class Addressee(Struct, frozen=True, gc=False):
    """These members of ``PatientFacts``, under their names; the others are passed over unread."""

    id: str
    birth_date: date | None = None
    deceased_at: Instant | None = None
    incapacitated: bool = False
    egov: bool = False
    representations: tuple[Representation, ...] = ()
    requests: tuple[StatutoryRequest, ...] = ()


Told = PatientFacts | Addressee
"""Whoever may be told, as far as that is known."""
