"""What reasons and words mean, what pages say, in Kazakh, Russian and English: Fluent catalogues beside this."""

from functools import cache
from importlib.resources import files
from typing import Literal

from fluent.runtime import FluentBundle, FluentResource

Language = Literal["kk", "ru", "en"]
LANGUAGES: tuple[Language, ...] = ("kk", "ru", "en")
CATALOGUES = ("", "words.", "page.")
"""What file names begin with: reasons, words of the vocabulary, texts of pages."""

Kind = Literal["role", "action", "class", "purpose", "basis"]


def text_of(reason: str, language: Language) -> str | None:
    """
    Return what a reason code means, or None if the catalogue does not know it.

    Examples:
        >>> text_of("deny.consent.revoked", "en")
        'the consent was withdrawn'
        >>> text_of("deny.consent.revoked", "ru")
        'согласие отозвано'
    """
    return _find(reason.replace(".", "-"), language)


def word_of(kind: Kind, word: str, language: Language) -> str:
    """
    Return what a word of the vocabulary means; a word that only the operator's pack knows stands for itself.

    Examples:
        >>> word_of("class", "labs", "en"), word_of("class", "tricorder", "en")
        ('laboratory results', 'tricorder')
    """
    return _find(f"word-{kind}-{word}", language) or word


def page_text(name: str, language: Language, **values: str) -> str:
    """
    Return a text of the page of the access log, with *values* in their places.

    Raises:
        KeyError: there is none by this name; a mistake of ours.
    """
    text = _find(f"log-{name}", language, values)
    if text is None:
        raise KeyError(name)
    return text


def _find(name: str, language: Language, values: dict[str, str] | None = None) -> str | None:
    catalogue = _catalogue(language)
    if not catalogue.has_message(name):
        return None
    pattern = catalogue.get_message(name).value
    return None if pattern is None else str(catalogue.format_pattern(pattern, values)[0])


@cache
def _catalogue(language: Language) -> FluentBundle:
    catalogue = FluentBundle([language], use_isolating=False)
    for prefix in CATALOGUES:
        text = files(__name__).joinpath(f"{prefix}{language}.ftl").read_text(encoding="utf-8")
        catalogue.add_resource(FluentResource(text))
    return catalogue
