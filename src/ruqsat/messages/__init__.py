"""What reasons mean, and what pages say, in Kazakh, Russian and English: Fluent catalogues beside this module."""

from functools import cache
from importlib.resources import files
from typing import Literal

from fluent.runtime import FluentBundle, FluentResource

Language = Literal["kk", "ru", "en"]
LANGUAGES: tuple[Language, ...] = ("kk", "ru", "en")


def text_of(reason: str, language: Language) -> str | None:
    """
    Return what a reason code means, or None if the catalogue does not know it.

    Examples:
        >>> text_of("deny.consent.revoked", "en")
        'the consent was withdrawn'
        >>> text_of("deny.consent.revoked", "ru")
        'согласие отозвано'
    """
    catalogue = _catalogue(language)
    name = reason.replace(".", "-")
    if not catalogue.has_message(name):
        return None
    pattern = catalogue.get_message(name).value
    return None if pattern is None else str(catalogue.format_pattern(pattern)[0])


@cache
def _catalogue(language: Language) -> FluentBundle:
    catalogue = FluentBundle([language], use_isolating=False)
    catalogue.add_resource(FluentResource(files(__name__).joinpath(f"{language}.ftl").read_text(encoding="utf-8")))
    return catalogue
