"""
Facts as the journal keeps them, so that a decision can be made again (order §16): a line for each new content.

The line stands in the chain before the first entry of its segment that was decided by these
facts, and bears no moment of its own.  It names people, so all of it is one personal part::

    {"hash":...,"kind":"facts","of":"patient","sealed":[...],
     "personal":[{"salt":"...","digest":"<32 hex>","body":"{\\"id\\":\\"p1\\",...}","patient":"p1"}]}

The facts stand there as a text, so that no word of theirs can be taken for one of the line's.
An entry names the facts that it was decided by with their digests, in a personal part too:
few facts can be guessed, so a digest that stays would tell of whoever was erased.
"""

import msgspec
from msgspec import Struct

from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts, digest_of_facts
from ruqsat.core.line import read_line
from ruqsat.core.personal import is_erased

FACTS = "facts"

Known = SubjectFacts | PatientFacts
"""What is known of one person, machine, organisation or thing, or of one patient."""

_KINDS: dict[str, type[Known]] = {"subject": SubjectFacts, "patient": PatientFacts}
_encode = msgspec.json.Encoder().encode
_SIGN = b'"kind":"facts"'


class _Part(Struct, frozen=True, omit_defaults=True):
    digest: str
    body: str
    patient: str | None = None


class _Head(Struct, frozen=True):
    kind: str
    of: str = ""


class _Knowing(Struct, frozen=True):
    knew: tuple[str, ...] = ()


class Kept(Struct, frozen=True):
    """
    What a line of facts says.

    Attributes:
        digest: Of the facts; None once they are erased.
        of: ``subject`` or ``patient``.
        body: The facts, as they were written.
    """

    digest: str | None
    of: str
    body: bytes = b""


def facts_line(known: Known) -> tuple[bytes, tuple[bytes, ...]]:
    """
    Return the entry that keeps facts, and its personal part.

    Examples:
        >>> entry, parts = facts_line(SubjectFacts("dana", patient_id="p1"))
        >>> entry, msgspec.json.decode(parts[0])["body"]
        (b'{"kind":"facts","of":"subject"}', '{"id":"dana","patient_id":"p1"}')
    """
    of, whose = (b"patient", known.id) if isinstance(known, PatientFacts) else (b"subject", known.patient_id)
    return b'{"kind":"facts","of":"%b"}' % of, (_encode(_Part(known.digest, _encode(known).decode(), whose)),)


def read_facts_line(line: bytes) -> Kept | None:
    """
    Return what a line of facts says; None for any other line, and for one whose digest is not that of its facts.

    Examples:
        >>> read_facts_line(b'{"hash":"00","prev":"00","n":3,"kind":"decision"}\\n')
    """
    if _SIGN not in line:
        return None
    found = read_line(line)
    try:
        head = msgspec.json.decode(line, type=_Head)
        if found is None or head.kind != FACTS or head.of not in _KINDS or len(found.parts) != 1:
            return None
        if is_erased(found.parts[0]):
            return Kept(None, head.of)
        part = msgspec.json.decode(found.parts[0], type=_Part)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    body = part.body.encode()
    return Kept(part.digest, head.of, body) if part.digest == digest_of_facts(head.of, body) else None


def digests_in(part: bytes) -> frozenset[str]:
    """
    Return the digests of facts that a personal part of an entry names.

    Examples:
        >>> sorted(digests_in(b'{"salt":"0","patient":"p1","knew":["ab",""]}'))
        ['ab']
        >>> digests_in(b'{"erased":"--"}')
        frozenset()
    """
    try:
        return frozenset(msgspec.json.decode(part, type=_Knowing).knew) - {""}
    except (msgspec.MsgspecError, RecursionError):
        return frozenset()


def read_known(kept: Kept) -> Known:
    """
    Return the facts that a line keeps.

    Raises:
        ValueError: they cannot be read: another version of the product wrote them.
    """
    try:
        known: Known = msgspec.json.decode(kept.body, type=_KINDS[kept.of])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError("these facts cannot be read") from error
    return known


def known_in(facts: Facts) -> tuple[Known | None, ...]:
    """Return what facts are made of, in the order in which an entry names them: subject, patient and so on."""
    if facts.recipient is None and facts.resource is None and not facts.others:
        return facts.subject, facts.patient
    return facts.subject, facts.patient, facts.recipient, facts.resource, *facts.others


def facts_of(known: tuple[Known | None, ...], position: Position, *, consents_known: bool) -> Facts:
    """
    Put together again what ``known_in`` took apart.

    Raises:
        ValueError: they are not of the kinds that stand in their places.
    """
    subject, patient, recipient, resource, *others = (*known, None, None)[: max(4, len(known))]
    subjects = [each for each in (subject, recipient, resource) if each is not None]
    patients = [each for each in (patient, *others) if each is not None]
    if not all(isinstance(each, SubjectFacts) for each in subjects):
        raise ValueError("facts of a patient stand where those of a subject belong")
    if not all(isinstance(each, PatientFacts) for each in patients) or None in others:
        raise ValueError("facts of a subject stand where those of a patient belong")
    return Facts(subject, patient, position, consents_known, tuple(others), recipient, resource)  # type: ignore[arg-type]
