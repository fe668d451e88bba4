"""
Every error that Ruqsat raises on purpose, in one tree::

    RuqsatError
    ├── PolicyError            someone can fix a file of the policy pack
    ├── RequestError           the caller sent something that cannot be evaluated  → 400
    ├── StoreUnavailableError  the store did not answer                            → deny, try later
    │   └── OutcomeUnknownError  … and a change may have been made all the same    → ask again, or change it again
    ├── StoreLockedError       another process owns the database or the journal    → exit 2
    ├── JournalError           an entry could not be made durable                  → deny, try later
    └── SettingsError          the process was started with a bad setting          → exit 2

Texts are lower case, one line, without a full stop: what was found, then what
was expected.  They never carry a caller's values unless those came from a file
of our own operator.
"""


class RuqsatError(Exception):
    """The root; ``code`` is stable, kebab-case and safe to show to anyone."""

    code = "error"


class PolicyError(RuqsatError):
    """A policy pack cannot be used; the message holds the rendered findings."""

    code = "policy-rejected"


class RequestError(RuqsatError):
    """A request cannot be read; the message is safe to return to the caller."""

    code = "bad-request"


class StoreUnavailableError(RuqsatError):
    """A store did not give the facts; the answer to the caller is a denial."""

    code = "store-unavailable"


class OutcomeUnknownError(StoreUnavailableError):
    """The connection was lost while a change was being committed: it may have been made, or not."""

    code = "outcome-unknown"


class StoreLockedError(RuqsatError):
    """Another process owns the file; two writers would break what we promise about freshness."""

    code = "store-locked"


class JournalError(RuqsatError):
    """An entry is not on stable storage; nothing may be allowed on its strength."""

    code = "journal-unavailable"


class SettingsError(RuqsatError):
    """A setting is missing, wrong or unsafe; the process does not start."""

    code = "setting-refused"
