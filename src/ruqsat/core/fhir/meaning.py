"""What a request means, and how far that can be said before the record or the answer is seen."""

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct

Answer = Literal["public", "decide", "defer", "deny"]
"""
``public`` concerns nobody; ``decide`` can be decided as it stands; ``defer`` needs a look-up, or the answer of
the server; ``deny`` is refused whoever asks.
"""

Source = Literal["none", "named", "body", "lookup", "many"]
"""Where the patient comes from: nowhere, the path or a parameter, the body, a look-up, or nobody can say how many."""

EVERYTHING = "*"
NEW_PATIENT = "urn:ruqsat:new-patient"
"""The patient whom a request creates: no id of a server has a colon, so nobody's facts are found under it."""


class Lookup(Struct, frozen=True, order=True):
    """A question to the server of records: whose is this record (or this version of it), or who has this identifier?"""

    type: str
    value: str
    by: Literal["id", "identifier"] = "id"
    version: str = ""


class Authors(Struct, frozen=True):
    """Who wrote a record, and whose it is, in the ids of the directory; None where it is not sure."""

    person: str | None = None
    org: str | None = None


NOBODY_KNOWN = Authors()


class Meaning(Struct, frozen=True):
    """
    What a request means.

    Attributes:
        interaction: FHIR's name for it, or ``invalid``.
        action: The vocabulary's action; None where the request is invalid.
        classes: Every class that the request concerns; all must be permitted unless ``filtered``.
        types: FHIR types asked for, and those that are brought along; ``*`` for all.
        id: The record, ``*`` if none in particular.
        patients: Ids, as far as they are known.
        lookups: What must be looked up before the patients are known.
        stored: The version in store, which must be judged as well: its patient may not change.
        filtered: The answer must be filtered, each entry and version by itself, and its total taken out.
        strip: Parameters to take out before the request goes on.
        put: Parameters to set before the request goes on.
        also: Actions that must be permitted besides.
        diverted: The request goes to a service of ours, never to the FHIR server.
        labels: Labels seen on the record itself: it has at least these.
        conf: Its confidentiality, where what was seen says more than normal.
        authors: Who wrote it, as far as that is sure.
        reclassifies: It may be of any of ``classes`` afterwards.
        restates: It may say otherwise than before who wrote it: as ``authors`` has it.
        reason: Why it is denied or deferred, of a closed list; nothing of the request.
        entries: Of a batch or transaction: what each entry means.
    """

    interaction: str
    action: str | None = None
    answer: Answer = "deny"
    classes: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    id: str = EVERYTHING
    source: Source = "none"
    patients: tuple[str, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    stored: Lookup | None = None
    filtered: bool = False
    strip: tuple[str, ...] = ()
    put: tuple[tuple[str, str], ...] = ()
    also: tuple[str, ...] = ()
    diverted: bool = False
    labels: tuple[str, ...] = ()
    conf: Literal["R", "V"] | None = None
    authors: Authors = NOBODY_KNOWN
    reclassifies: bool = False
    restates: bool = False
    reason: str = ""
    entries: tuple["Meaning", ...] = ()

    @property
    def whose(self) -> str:
        """Say in one word whose data are asked for: an id, or ``none``, ``many``, ``lookup``, ``from_body``."""
        if self.source == "body":
            return "from_body"
        if self.source == "many" or len(self.patients) > 1:
            return "many"
        return self.patients[0] if self.source == "named" else self.source


class Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """The request is refused; ``reason`` is one of a closed list and carries nothing of the request."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Whose(Struct, frozen=True):
    """Whose data a request concerns, and what is wrong with how it says so."""

    source: Source = "none"
    patients: tuple[str, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    problem: str = ""


INVALID = Meaning("invalid", reason="invalid")


def refused(meaning: Meaning, reason: str) -> Meaning:
    """Return the meaning of a request that is denied; nothing is filtered or rewritten then."""
    return msgspec.structs.replace(
        meaning, answer="deny", reason=reason, filtered=False, strip=(), put=(), stored=None, entries=()
    )


def settled(meaning: Meaning, problems: Iterable[str] = ()) -> Meaning:
    """
    Return the meaning with its answer.

    The reason of a denial does not depend on the order of parameters.
    """
    found = sorted(problem for problem in problems if problem)
    if found:
        return refused(meaning, found[0])
    if meaning.source == "none":
        return refused(meaning, "no_patient")
    if meaning.source == "lookup":
        return msgspec.structs.replace(meaning, answer="defer", reason="lookup")
    if meaning.source == "many":
        return msgspec.structs.replace(meaning, answer="defer", reason="many_patients")
    return msgspec.structs.replace(meaning, answer="decide")


def impersonal(meaning: Meaning, public: bool, problems: Iterable[str] = ()) -> Meaning:
    """Return the meaning of a request that concerns nobody, with its answer."""
    found = sorted(problem for problem in problems if problem)
    if found:
        return refused(meaning, found[0])
    nobody = msgspec.structs.replace(
        meaning, source="none", patients=(), lookups=(), filtered=False, strip=(), put=(), stored=None
    )
    return msgspec.structs.replace(nobody, answer="public" if public else "decide")
