"""
The entries of the journal: what stands in the chain, and beside it the parts that name people.

Who, whose and which record stand in personal parts, each of which can be erased for
itself (order §24); what was asked, decided, by which rule and on which ground stays.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ruqsat.core.facts import Position
from ruqsat.core.kept_facts import Known
from ruqsat.core.request import EvaluationRequest

Encode = Callable[[Struct], bytes]

_NOBODY = b"{}"
_UNSAID = b'{"kind":"","id":"","at":""'


class SignedBy(Struct, frozen=True):
    """
    A verified signature of a record by the subject itself, as the journal keeps it (order §29).

    Attributes:
        sha256: Digest of the signature, lower-case hexadecimal: it tells which one it was, and nothing of the record.
        serial: Serial number of the signer's certificate.
        at: When the signer says that it was signed.
    """

    sha256: str
    serial: str
    at: str


class Entry(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    One line of the journal: what was asked and decided, by which rule, on which ground (order §16, §28).

    Attributes:
        roles: Those that the decision went by; ``stated_roles`` where the directory contradicts what was stated.
        org: The organisation likewise, and ``stated_org``.
        within: How uncertain the clock was: the moment lies at ``at`` or so many microseconds before.
        can: Blocking duties that the enforcement point could carry out.
    """

    kind: str
    id: str
    at: str
    listener: str
    allowed: bool
    reason: str
    policy: str
    roles: tuple[str, ...] | None = None
    org: str | None = None
    action: str | None = None
    purpose: str | tuple[str, ...] | None = None
    resource_type: str | None = None
    data_class: str | None = None
    basis: str | None = None
    rule: str | None = None
    law: tuple[str, ...] = ()
    duties: tuple[str, ...] = ()
    as_of: Position | None = None
    point: str = ""
    degraded: bool = False
    untold: tuple[str, ...] = ()
    shielded: bool = False
    held: bool = False
    stated_roles: tuple[str, ...] | None = None
    stated_org: str | None = None
    within: int = 0
    can: tuple[str, ...] = ()


class Draft(NamedTuple):
    """
    An entry of a decision but for what differs from one to the next that says the same.

    Attributes:
        rest: What stands behind ``at``, to before ``within``.
        can: What stands behind ``within``.
        parts: What names people.
        is_emergency: Whether it may go into the reserve.
        known: What was known, if the entry must be decidable again.
    """

    rest: bytes
    can: bytes
    parts: tuple[bytes, ...]
    is_emergency: bool
    known: tuple[Known | None, ...]

    def entry(self, kind: str, id_: str, at: str, within: int) -> bytes:
        """Return the entry, as msgspec would encode it."""
        uncertain = b',"within":%d' % within if within else b""
        return b'{"kind":"%b","id":"%b","at":"%b"%b%b%b' % (
            kind.encode(), id_.encode(), at.encode(), self.rest, uncertain, self.can,
        )  # fmt: skip


def draft_of(
    encode: Encode, entry: Entry, parts: tuple[bytes, ...], known: tuple[Known | None, ...], *, is_emergency: bool
) -> Draft:  # fmt: skip
    """Take an entry apart, whose kind, id and moment are empty, and which is certain."""
    whole = encode(entry)
    can = b"}" if not entry.can else whole[whole.rindex(b',"can":[') :]
    return Draft(whole[len(_UNSAID) : -len(can)], can, parts, is_emergency, known)


class PolicyEntry(Struct, frozen=True, omit_defaults=True):
    """
    A line of the journal: this policy set is in force from here on, with its switches in these positions.

    ``before`` is the digest of the set before; empty where the process began.  ``generation`` is the number
    of the release, 0 where the set was never released but lies in a folder; who released it is a part beside.
    ``besides`` is what differs from the pack before, rules apart: entries of the vocabulary and files.
    """

    kind: str
    at: str
    before: str
    policy: str
    switches: dict[str, Any]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    generation: int = 0
    besides: tuple[str, ...] = ()


class ChangeEntry(Struct, frozen=True, omit_defaults=True):
    """
    A line of the journal: a change that the control API was asked for has been made (order §16).

    Attributes:
        id: Of the decision that let it happen, whose entry stands before it.
        operation: Method and route, such as ``POST /v1/consents/{consent}/withdraw``.
        version, status: Of the record after the change, where it has such.
        as_of: A position of the facts that reflects the change.
    """

    kind: str
    id: str
    at: str
    listener: str
    policy: str
    operation: str
    action: str | None = None
    basis: str | None = None
    roles: tuple[str, ...] | None = None
    org: str | None = None
    purpose: str | tuple[str, ...] | None = None
    resource_type: str | None = None
    data_class: str | None = None
    version: int | None = None
    status: str | None = None
    as_of: Position | None = None
    point: str = ""


class ReleasedBy(Struct, frozen=True, omit_defaults=True):
    """A personal part of a policy's entry: who released the set, who agreed, and the words why (a ticket)."""

    subject: str
    approval: str | None = None
    why: str | None = None


class Named(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    A personal part: who asked (by which token, signed how), of whom, for which record, by which documents.

    Of a change also the records that it made or moved, if they are several, and the SHA-256 of the call's body:
    without the part's salt it would tell the body to whoever tries all that it can have been.

    Attributes:
        asked: The question as it was decided, whole: a JSON text, so that no word of it is taken for the line's.
        knew: Digests of the facts that it was decided by, in the order of ``core.kept_facts``; empty for nobody.
        held_parts: Of what was asked for in parts, the ids that are withheld from the patient (``core.care``).
    """

    subject: str | None = None
    actors: tuple[str, ...] = ()
    traceparent: str | None = None
    patient: str | None = None
    resource: str | None = None
    applied: tuple[str, ...] = ()
    patients_beside: tuple[str, ...] = ()
    signature: SignedBy | None = None
    jti: str | None = None
    records: tuple[str, ...] = ()
    content: str | None = None
    asked: str | None = None
    knew: tuple[str, ...] = ()
    held_parts: tuple[str, ...] = ()


def personal_parts(encode: Encode, named: Named, *, apart: bool = False) -> tuple[bytes, ...]:
    """
    Return what names people, as parts: one, unless there are patients beside.

    Then who asked stands apart, and each patient: one of them may be erased alone.  With *apart* so does the
    question, which names others than the patient it is about: it goes with each of them, and nothing goes with it.
    """
    if apart:
        question = encode(Named(asked=named.asked, knew=named.knew))
        return *personal_parts(encode, replace(named, asked=None, knew=())), question
    if not named.patients_beside:
        part = encode(named)
        return (part,) if part != _NOBODY else ()
    parts = [
        encode(Named(named.subject, named.actors, named.traceparent, signature=named.signature, jti=named.jti)),
        encode(Named(None, (), None, named.patient, named.resource, named.applied, held_parts=named.held_parts)),
        *[encode(Named(patients_beside=(patient,))) for patient in named.patients_beside],
    ]
    return tuple([part for part in parts if part != _NOBODY])


def names_others(question: EvaluationRequest) -> bool:
    """Tell whether a question may name patients beside the one that it is about."""
    properties, context = question.resource.properties, question.context
    if properties is not None and properties.parts is not None:
        return True
    return context is not None and (
        context.legal_request is not None or context.inspection is not None or context.launch_patient is not None
    )
