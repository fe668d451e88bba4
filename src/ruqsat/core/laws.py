"""The register of citations: every key that the last column of a rule may name."""

from datetime import date
from typing import Literal

import msgspec
from msgspec import Struct

from ruqsat.core.diagnostics import Diagnostic, Span
from ruqsat.core.vocabulary import parse_toml


class Title(Struct, frozen=True, forbid_unknown_fields=True):
    """What the provision is about, in our words, in the three languages of our readers."""

    kk: str
    ru: str
    en: str


class Law(Struct, frozen=True, forbid_unknown_fields=True):
    """
    One provision.

    ``standing``: ``read`` in the text itself, ``secondary`` from a source about
    it, or ``unverified``.  ``reviewed_on`` is the last day a person compared the
    rules with the text.
    """

    title: Title
    edition: date
    reviewed_on: date
    standing: Literal["read", "secondary", "unverified"]
    link: str = ""


def parse_laws(text: str, file: str) -> tuple[dict[str, Law] | None, list[Diagnostic]]:
    """Read ``laws.toml``; None with findings if anything is wrong: else each rule would seem to lack its law."""
    data, findings = parse_toml(text, file)
    laws: dict[str, Law] = {}
    for key, entry in (data or {}).items():
        try:
            laws[key] = msgspec.convert(entry, Law)
        except msgspec.ValidationError as error:
            findings.append(
                Diagnostic(
                    Span(file),
                    "bad-law",
                    f"entry `{key}`: {str(error)[:1].lower()}{str(error)[1:]}",
                    "an entry has title.kk, title.ru, title.en, edition, reviewed_on and standing",
                )
            )
    return (None if findings else laws), findings
