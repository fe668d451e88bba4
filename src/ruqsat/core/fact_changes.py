"""A change of the facts of several subjects and patients together, as values: what is wanted, found, and made of it."""

from collections.abc import Callable, Collection, Mapping

from msgspec import Struct

from ruqsat.core.facts import PatientFacts, SubjectFacts


class Wanted(Struct, frozen=True):
    """
    Whose facts a change needs.

    Attributes:
        subjects: In the order in which they are locked: an organisation before its people.
        staff_of: All whose employer this organisation is are wanted too.
        create: Who is not on record yet begins, and must be written.
    """

    subjects: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    staff_of: str | None = None
    create: str | None = None


class Found(Struct, frozen=True):
    """
    Who is on record of those wanted, held so that nobody else changes them meanwhile.

    ``created`` is whether the one to be created was not on record before.
    """

    subjects: Mapping[str, SubjectFacts]
    patients: Mapping[str, PatientFacts]
    created: bool = False


Made = tuple[Collection[SubjectFacts], Collection[PatientFacts]]
"""The subjects and patients that are different now."""

FactChange = Callable[[Found], Made]
"""What a use case makes of what is found: pure, for it runs inside the transaction."""
