"""A consent withdrawn is a door shut: the next request through each real proxy is refused."""

import httpx
import pytest

from tests.proxies.conftest import Site
from tests.proxies.raw import Connection, bearer

O1 = "/patients/p-dana/labs/o1"
CONSENT = "c-dana-h1"


def withdraw(site: Site, person: str, consent: str = CONSENT) -> int:
    """Ask the control API to withdraw a consent and return its status."""
    url = f"http://127.0.0.1:{site.sidecar.ports['control']}/v1/consents/{consent}/withdraw"
    name, _, value = bearer(site.sidecar.token(person)).partition(": ")
    return httpx.post(url, headers={name: value}, trust_env=False).status_code


@pytest.mark.slow
def test_withdrawn_consent_stops_the_next_request_on_the_same_connection(own_site: Site) -> None:
    """Once the withdrawal has returned, the very next request on an open connection is refused; Dana still reads."""
    aida, dana = (bearer(own_site.sidecar.token(person)) for person in ("dr_aida", "dana"))

    with Connection(own_site.front.port) as connection:
        before = [connection.ask("GET", O1, aida).status for _ in range(3)]
        assert withdraw(own_site, "dana") == 200
        after = [connection.ask("GET", O1, aida).status for _ in range(3)]
        own = connection.ask("GET", O1, dana).status

    assert (before, after, own) == ([200] * 3, [403] * 3, 200)
    assert [entry["headers"]["x-ruqsat-subject"] for entry in own_site.seen] == ["dr_aida"] * 3 + ["dana"]


@pytest.mark.parametrize("person", ["dr_aida", "dr_erlan", "stranger"])
def test_nobody_else_can_withdraw_it(site: Site, person: str) -> None:
    """A consent that is not the caller's stays, and so does what it opens."""
    aida = bearer(site.sidecar.token("dr_aida"))

    with Connection(site.front.port) as connection:
        assert withdraw(site, person) == 403
        assert connection.ask("GET", O1, aida).status == 200


@pytest.mark.slow
def test_another_consent_withdrawn_changes_nothing(own_site: Site) -> None:
    """Withdrawing one consent shuts only what that one opened."""
    aida = bearer(own_site.sidecar.token("dr_aida"))

    assert withdraw(own_site, "dana", "c-dana-family") == 200

    with Connection(own_site.front.port) as connection:
        assert connection.ask("GET", O1, aida).status == 200
