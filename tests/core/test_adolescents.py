"""Who may be an adolescent: somebody whose own refusal no parent lifts (Code 78(2), reading A-2)."""

from datetime import date

import pytest

from ruqsat.core.consent_record import may_be_adolescent
from ruqsat.core.instant import parse_instant
from ruqsat.core.vocabulary import Switches

SIXTEEN, EIGHTEEN = "1866-03-05T00:00:00+05:00", "1868-03-05T00:00:00+05:00"


@pytest.mark.parametrize(("since", "may"), [(SIXTEEN, True), (EIGHTEEN, False)])
def test_from_the_sixteenth_birthday_to_the_eighteenth_at_home_one_is(since: str, may: bool) -> None:
    """To the microsecond: from the first moment of the day on, and not before it."""
    born, moment = date(1850, 3, 5), parse_instant(since)

    assert may_be_adolescent(born, moment, Switches()) is may
    assert may_be_adolescent(born, moment - 1, Switches()) is not may


def test_of_unknown_age_anybody_may_be() -> None:
    """That the day of birth is not on record helps no parent."""
    assert may_be_adolescent(None, parse_instant(EIGHTEEN), Switches())
