"""
The proceedings with terms, as data: which there are, by which law, what may happen, and until when.

A proceeding is what the operator owes somebody on time: an answer, a correction, a block, a notice.
Terms count in working days from the day after an event; each begins anew with the status that it stands at.
Where the order is laxer than the law, the law's term counts and the order's is the outer limit.
"""

from collections.abc import Mapping

from msgspec import Struct

from ruqsat.core.working_days import TERMS

APPLICANT, OFFICE = "applicant", "office"
"""Who acts: the patient or the representative on the own right; whoever does it as a duty of the operator."""


class Term(Struct, frozen=True):
    """
    A term that begins with a status.

    Attributes:
        days: Working days, by the strictest provision.
        warn: After how many of them whoever owes it is warned.
        outer: The laxer limit of another provision, whose passing is told once more.
    """

    days: int
    warn: int
    outer: int | None = None


class Move(Struct, frozen=True):
    """
    What an event does.

    Attributes:
        to: The status after it, by the status before it.
        by: Who may.
        needs: What must be said of it.
        grounds: The closed list that its ground comes from, and the only one; empty where none is asked for.
        law: Key of the provision, for what is missing.
        not_after: The event whose doer does not do this one, too: what cannot be undone takes two people.
        act: What happens to the records named, with the answer.
    """

    to: Mapping[str, str]
    by: frozenset[str] = frozenset({OFFICE})
    needs: tuple[str, ...] = ()
    grounds: frozenset[str] = frozenset()
    law: str = ""
    not_after: str | None = None
    act: str | None = None


class ProceedingKind(Struct, frozen=True):
    """
    A kind of proceeding.

    Attributes:
        name: On the wire and in the store.
        resource: As the policy is asked about it: who may open, read and change which kind is the policy's business.
        law: Keys of the provisions.
        terms: By the status that they begin with; a status without one waits without a term.
        needs: What must be said when it is opened.
        is_anybodys: It may be about no single patient.
        states_due: The last day is stated by whoever opens it: a letter's, or the end of an offer.
        lapses: With that day it is over by itself.
    """

    name: str
    resource: str
    law: tuple[str, ...]
    terms: Mapping[str, Term]
    moves: Mapping[str, Move]
    needs: tuple[str, ...] = ()
    is_anybodys: bool = False
    states_due: bool = False
    lapses: bool = False

    def is_open(self, status: str) -> bool:
        """Tell whether something may still happen to a proceeding of this status."""
        return any(status in move.to for move in self.moves.values())

    def events(self, status: str, by: str) -> tuple[str, ...]:
        """Return what this side may let happen at this status."""
        return tuple(sorted(name for name, move in self.moves.items() if status in move.to and by in move.by))


RECEIVED = "received"
_BOTH = frozenset({APPLICANT, OFFICE})
_ABANDON = Move({RECEIVED: "abandoned"}, frozenset({APPLICANT}))
_INFORMATION_REFUSAL = Move(
    {RECEIVED: "refused"}, needs=("ground", "reasons"),
    # The closed list of order §19: either is enough, no other is one.
    grounds=frozenset({"no_identity_document", "third_party_rights"}), law="R19",
)  # fmt: skip


CONSENT_REQUEST = ProceedingKind(
    "consent_request", "ConsentRequest", ("R6",), {},
    {
        "grant": Move({RECEIVED: "granted"}, _BOTH, ("consent",), law="R6"),
        "refuse": Move({RECEIVED: "refused"}, _BOTH, law="R6"),
        "abandon": Move({RECEIVED: "abandoned"}, law="R6"),
    },
    needs=("categories", "purposes", "text_version"), states_due=True, lapses=True,
)  # fmt: skip
"""An organisation asks for a consent; the law states no term, the offer may."""

INFORMATION = ProceedingKind(
    "information", "InformationRequest", ("R17", "R18", "R19"), {RECEIVED: Term(TERMS["information"], warn=2)},
    {
        "answer": Move(
            {RECEIVED: "answered"}, needs=("identity", "sources", "methods", "storage_terms"), law="R18"
        ),
        "refuse": _INFORMATION_REFUSAL,
        "abandon": _ABANDON,
    },
    needs=("channel", "form", "applicant"),
)  # fmt: skip
"""What is on record of the applicant: in any form, answered or refused within the same three days."""

CORRECTION = ProceedingKind(
    "correction", "Correction", ("R31", "L25.2.8"),
    {RECEIVED: Term(TERMS["rectification"], warn=1, outer=TERMS["rectification_outer"])},
    {
        "correct": Move({RECEIVED: "corrected"}, needs=("result",), law="R31"),
        "refuse": Move(
            {RECEIVED: "refused"}, needs=("ground", "reasons"), grounds=frozenset({"not_documented"}), law="R31"
        ),
        "abandon": _ABANDON,
    },
    needs=("statement",),
)  # fmt: skip
"""A change or supplement on documents; a signed record is amended, never overwritten (order §29)."""

DESTRUCTION_GROUNDS = frozenset({"unlawful_processing", "term_over", "relations_ended", "court_decision"})
"""Law 94-V art. 18."""

DESTRUCTION = ProceedingKind(
    "destruction", "DestructionDemand", ("R24", "L25.2.8", "L18"),
    {
        RECEIVED: Term(TERMS["block"], warn=1),
        "confirmed": Term(TERMS["destroy"], warn=1),
        "dismissed": Term(TERMS["unblock"], warn=1),
    },
    {
        "block": Move({RECEIVED: "blocked"}, needs=("records",), law="R24", act="block"),
        "confirm": Move(
            {"blocked": "confirmed"}, needs=("ground", "reasons"), grounds=DESTRUCTION_GROUNDS, law="R24"
        ),
        "dismiss": Move({"blocked": "dismissed"}, needs=("reasons",), law="R24"),
        "destroy": Move(
            {"confirmed": "destroyed"}, needs=("method",), law="R24", not_after="confirm", act="destroy"
        ),
        "restrict": Move({"confirmed": "restricted"}, needs=("retention",), law="R24"),
        "unblock": Move({"dismissed": "unblocked"}, law="R24", act="lift"),
        "abandon": _ABANDON,
    },
    needs=("statement",),
)  # fmt: skip
"""
Blocked on information of a violation; once it is confirmed destroyed, once it is not unblocked: a working day each.

``restrict``: a law fixes how long the data are kept, so they stay blocked instead (Digital Code art. 41(3)).
"""

WITHDRAWAL = ProceedingKind(
    "withdrawal", "WithdrawalFollowUp", ("L8.7",), {RECEIVED: Term(TERMS["stop_processing"], warn=12)},
    {
        "stop": Move({RECEIVED: "stopped"}, needs=("result",), law="L8.7"),
        "refuse": Move(
            {RECEIVED: "refused"}, needs=("ground", "reasons"),
            grounds=frozenset({"law_requires", "obligation_unfulfilled"}), law="L8.7",
        ),
    },
    needs=("consent",),
)  # fmt: skip
"""What is left to do once a consent is withdrawn; access ended with the withdrawal itself, whatever becomes of this."""

OBJECTION = ProceedingKind(
    "objection", "Objection", ("L19-1",), {RECEIVED: Term(TERMS["objection"], warn=2)},
    {
        "uphold": Move({RECEIVED: "upheld"}, needs=("reasons",), law="L19-1"),
        "reject": Move({RECEIVED: "rejected"}, needs=("reasons",), law="L19-1"),
        "abandon": _ABANDON,
    },
    needs=("statement", "decision"),
)  # fmt: skip
"""A person looks at what was refused automatically."""

TRANSFER_NOTICE = ProceedingKind(
    "transfer_notice", "TransferNotice", ("L19.1",), {RECEIVED: Term(TERMS["transfer_notice"], warn=8)},
    {
        "send": Move({RECEIVED: "sent"}, needs=("reference",), law="L19.1"),
        "exempt": Move(
            {RECEIVED: "exempted"}, needs=("ground", "reasons"), law="L19.1",
            grounds=frozenset({"state_function", "notary_bailiff_advocate", "statistics_or_science"}),
        ),
    },
    needs=("recipient",),
)  # fmt: skip

BREACH_NOTICE = ProceedingKind(
    "breach_notice", "BreachNotice", ("L25.2.8",), {RECEIVED: Term(TERMS["breach_notice"], warn=1)},
    {"send": Move({RECEIVED: "sent"}, needs=("reference",), law="L25.2.8")},
    needs=("statement",), is_anybodys=True,
)  # fmt: skip
"""The authority learns of a breach within a working day of its discovery."""

PUBLICATION = ProceedingKind(
    "publication", "PublicationRemoval", ("L6",), {RECEIVED: Term(TERMS["publication_removal"], warn=1)},
    {"remove": Move({RECEIVED: "removed"}, needs=("result",), law="L6"), "abandon": _ABANDON},
    needs=("statement",),
)  # fmt: skip

AUTHORITY = ProceedingKind(
    "authority", "AuthorityEvidence", ("R23",), {},
    {"send": Move({RECEIVED: "sent"}, needs=("reference",), law="R23")},
    needs=("statement",), states_due=True,
)  # fmt: skip
"""The authority looks into a complaint: the evidence package is due when its letter says."""

PROCEEDING_KINDS: Mapping[str, ProceedingKind] = {
    kind.name: kind
    for kind in (
        CONSENT_REQUEST, INFORMATION, CORRECTION, DESTRUCTION, WITHDRAWAL, OBJECTION, TRANSFER_NOTICE, BREACH_NOTICE,
        PUBLICATION, AUTHORITY,
    )
}  # fmt: skip
