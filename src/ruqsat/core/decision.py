"""What the decision point answers: a decision with its reason, ground and duties."""

from msgspec import Struct


class Decision(Struct, frozen=True):
    """
    One settled question.

    Attributes:
        allowed: True only if a complete evaluation under one policy set allowed it.
        reason: The exact code, ``allow.…`` or ``deny.…``; for the journal, the
            privacy officer and the patient, never for a client through a proxy.
        basis: The legal basis of a permit (one of the vocabulary's), else None.
        rule: Id of the rule that settled it; None when silence denied.
        law: Keys of ``laws.toml`` that the rule cites.
        duties: Duty codes with an optional parameter, such as ``review:72``.
        applied: Ids of the documents (consent, delegation, session, …) that decided.
        untold: Duties to tell the patient that the answer leaves out, since the patient has no cabinet to be
            told in (order §20); the journal keeps them, and that nobody was told is recorded.
    """

    allowed: bool
    reason: str
    basis: str | None = None
    rule: str | None = None
    law: tuple[str, ...] = ()
    duties: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()


def deny(reason: str, rule: str | None = None, law: tuple[str, ...] = ()) -> Decision:
    """Return a denial for *reason* (a ``deny.…`` code)."""
    return Decision(False, reason, None, rule, law)
