"""What a verified signature means for a record that is entered: whose it is, how young, of which record (order §29)."""

from ruqsat.core.fhir.bodies import read_json
from ruqsat.core.fhir.meaning import NEW_PATIENT, Meaning, Refused
from ruqsat.core.instant import Instant
from ruqsat.core.routes import Mapped
from ruqsat.core.signature_finding import CLOCK_TOLERANCE, Finding

WRITES = frozenset({"create", "update"})
"""Entering, changing and supplementing a record; what is destroyed is not signed."""

DUTY = "require_eds"
"""The duty of a permit that is carried out by a verified signature."""


def failing_of(finding: Finding, iin: str, now: Instant) -> str | None:
    """
    Return the code that the signature of a record fails, None if it is good.

    It is the one of the finding, or that of another signer, or of a signature that was made long before:
    what was signed once is not an entry for ever.

    Args:
        iin: The number of the person who enters the record, as the token says it.
        now: The moment of receipt.
    """
    if finding.failure is not None:
        return finding.failure
    if finding.iin != iin:
        return "wrong_signer"
    if finding.signed_at is None or finding.signed_at < now - CLOCK_TOLERANCE:
        return "too_old"
    return None


def names_target(body: bytes, mapped: Mapped) -> bool:
    """
    Tell whether a signed body says itself which record of which patient it is.

    It is an object of JSON, read one way only, whose members ``patient`` and ``class`` are what the address says,
    and ``id`` where the address names a record.  A body that does not would be as good a record of anybody else.

    Examples:
        >>> new = Mapped("add-record", "create", "Record", "*", "labs", "p1", None)
        >>> names_target(b'{"patient": "p1", "class": "labs"}', new)
        True
        >>> names_target(b'{"patient": "p2", "class": "labs"}', new), names_target(b'{"class": "labs"}', new)
        (False, False)
    """
    try:
        record = read_json(body)
    except Refused:
        return False
    wanted = {"patient": mapped.patient, "class": mapped.data_class}
    if mapped.resource_id != "*":
        wanted["id"] = mapped.resource_id
    return isinstance(record, dict) and all(value and record.get(name) == value for name, value in wanted.items())


def is_named_by(meaning: Meaning) -> bool:
    """
    Tell whether a signed body at a FHIR server says itself which record of which patient it is.

    A resource does by its type, id and subject, a patch by its tests of them.

    Examples:
        >>> [is_named_by(Meaning("patch", "update", source=source)) for source in ("lookup", "named", "body")]
        [False, False, True]
    """
    if NEW_PATIENT in meaning.patients:
        return False
    # A Patient that is sent carries its own id.
    return meaning.source == "body" or (meaning.source == "named" and meaning.interaction == "update")
