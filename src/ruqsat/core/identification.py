"""
Individual and business identification numbers (ЖСН/ИИН, БСН/БИН): the control digit.

Digital Code art. 45 makes them the one identifier of people and of legal entities; the
law of 12.01.2007 defines the control digit.  It is typing hygiene, no proof of identity:
one of ten random numbers passes.
"""

_FIRST = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
_SECOND = (3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2)
LENGTH = 12


def control_digit(digits: str) -> int | None:
    """
    Return the control digit of the first eleven *digits*; None if such a number is never issued.

    Examples:
        >>> control_digit("88080810000"), control_digit("88080810020"), control_digit("88080810029")
        (1, 3, None)
    """
    for weights in (_FIRST, _SECOND):
        digit = sum(int(each) * weight for each, weight in zip(digits, weights, strict=True)) % 11
        if digit < 10:
            return digit
    return None


def is_identification_number(text: str) -> bool:
    """
    Tell whether *text* is twelve ASCII digits whose last is the control digit of the others.

    Examples:
        >>> [is_identification_number(text) for text in ("880808100203", "880808100204", "88080810020", "8808081002O3")]
        [True, False, False, False]
    """
    return len(text) == LENGTH and text.isascii() and text.isdecimal() and control_digit(text[:-1]) == int(text[-1])
