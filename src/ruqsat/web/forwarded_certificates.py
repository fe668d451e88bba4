"""
Envoy's ``x-forwarded-client-cert``: the certificate of whoever is behind an Envoy, as that Envoy tells it.

Nothing here is believed of anybody: only what a registered forwarder sends is read at
all (:mod:`ruqsat.web.enforcement_points`).  What is not exactly as Envoy writes it
names nobody.  Envoy writes names of certificates as they are, without quotes; so the
order of the parts must be Envoy's, and there may be one URI: a name that holds ``;``
cannot add another.
"""

from collections.abc import Iterator
from typing import Literal

XFCC = b"x-forwarded-client-cert"
Hops = Literal["one", "last"]
"""How many proxies write the header: exactly one (``SANITIZE_SET``), or the last of several (``APPEND_FORWARD``)."""

MAX_ELEMENTS = 16
_ORDER = ("by", "hash", "cert", "chain", "subject", "uri", "dns")
_SEVERAL = frozenset({"by", "dns"})
_HASH = 64
_HEXADECIMAL = frozenset("0123456789abcdef")

Element = list[tuple[str, str]]


class MalformedError(ValueError):
    """The header is not as Envoy writes it."""


def read_names(values: list[bytes], hops: Hops) -> tuple[str, ...]:
    """
    Return the names of the certificate: ``hash:…``, ``uri:…``, ``dns:…``.

    Args:
        values: The values of every header of that name.

    Raises:
        MalformedError: there is not exactly one header, or more elements than hops, or a part is missing its value,
            unknown, out of order, doubled, or wrongly quoted.

    Examples:
        >>> read_names([b'By=uri:a;URI=spiffe://hospital/records;DNS=records'], "one")
        ('uri:spiffe://hospital/records', 'dns:records')
    """
    if len(values) != 1 or not values[0].isascii():
        raise MalformedError
    elements = list(_elements(values[0].decode("ascii")))
    if not elements or len(elements) > (1 if hops == "one" else MAX_ELEMENTS):
        raise MalformedError
    for element in elements:
        _check(element)
    return tuple(f"{key}:{value}" for key, value in elements[-1] if key in ("hash", "uri", "dns") and value)


def _check(element: Element) -> None:
    keys = [key for key, _ in element]
    places = [_ORDER.index(key) for key in keys]
    once = [key for key in keys if key not in _SEVERAL]
    if places != sorted(places) or len(set(once)) != len(once):
        raise MalformedError
    for key, value in element:
        if key == "hash" and not (len(value) == _HASH and set(value) <= _HEXADECIMAL):
            raise MalformedError
        if (not value and key not in ("uri", "by", "subject")) or not value.isprintable():
            raise MalformedError


def _elements(text: str) -> Iterator[Element]:
    """Split the header at commas and semicolons that do not stand in quotes."""
    place, element = 0, Element()
    while True:
        equals = text.find("=", place)
        key = text[place:equals].lower()
        if equals < 0 or key not in _ORDER:
            raise MalformedError
        value, place = _value(text, equals + 1)
        element.append((key, value))
        if place == len(text):
            yield element
            return
        if text[place] == ",":
            yield element
            element = []
        elif text[place] != ";":
            raise MalformedError
        place += 1


def _value(text: str, begin: int) -> tuple[str, int]:
    """Return the value that begins there, and where it ends; in quotes a backslash keeps the character after it."""
    if text[begin : begin + 1] != '"':
        end = min((at for at in (text.find(mark, begin) for mark in ",;") if at >= 0), default=len(text))
        if '"' in text[begin:end] or " " in text[begin:end]:
            raise MalformedError
        return text[begin:end], end
    place, kept = begin + 1, ""
    while place < len(text):
        if text[place] == '"':
            return kept, place + 1
        if text[place] == "\\":
            place += 1
        kept += text[place : place + 1]
        place += 1
    raise MalformedError
