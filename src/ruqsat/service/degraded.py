"""
Degraded mode: what is still decided while the store has been away for longer than a lease.

The last known facts decide, with the consents counted as unknown, and only
what the vocabulary marks as independent of the store may be permitted: the
patient's own access, statutory grounds, what concerns nobody, emergency care
inside an episode that was known.  Denials, blocks, holds and inactive subjects
as they were last known still deny.  Every permit is flagged and reviewed.
"""

import msgspec

from ruqsat.core.decision import Decision, deny
from ruqsat.core.facts import Facts
from ruqsat.core.instant import SECOND, Instant, Now
from ruqsat.core.vocabulary import Vocabulary

YOUNG: Instant = 5 * 60 * SECOND
"""A token younger than this stands for its subject, if nothing else is known of it."""

_LEEWAY: Instant = 5 * SECOND
REVIEW = "review_sampled"

UNAVAILABLE = deny("deny.store.unavailable")


def served(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the legal bases on which a permit may be given without the store."""
    return tuple(name for name, basis in vocabulary.bases.items() if basis.without_store)


def narrowed(decision: Decision, vocabulary: Vocabulary) -> Decision:
    """Return what may be answered of a decision by last known facts; a denial stands as it is."""
    if not decision.allowed:
        return decision
    basis = vocabulary.bases.get(decision.basis or "")
    if basis is None or not basis.without_store:
        return UNAVAILABLE
    return msgspec.structs.replace(decision, duties=tuple(dict.fromkeys((*decision.duties, REVIEW))))


def is_young(issued_at: Instant | None, now: Now) -> bool:
    """Tell whether a token was issued so lately that its subject need not be known; without an instant it was not."""
    return issued_at is not None and now.hi - YOUNG < issued_at < now.hi + _LEEWAY


def is_degraded(facts: Facts | None) -> bool:
    """Tell whether these are last known facts, from before the store was away."""
    return facts is not None and not facts.consents_known
