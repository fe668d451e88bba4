"""The records server sees a request if and only if the table in ``may.py`` allows it, behind each real proxy."""

import json

import pytest

from tests.proxies.conftest import Site
from tests.proxies.sweep import SEED, UNKNOWN, Outcome, cases, is_right_arrival, is_right_sender, send


@pytest.fixture(scope="session")
def outcomes(shared_site: Site) -> list[Outcome]:
    """The whole sweep, sent through a proxy."""
    return send(shared_site.front.port, shared_site.seen, shared_site.sidecar, cases())


@pytest.mark.slow
def test_request_arrives_iff_the_table_allows_it(outcomes: list[Outcome]) -> None:
    """What the table allows arrives once, with the target as it was sent; nothing else arrives at all."""
    wrong = [outcome for outcome in outcomes if not is_right_arrival(outcome)]

    assert not wrong, f"SWEEP_SEED={SEED}: {len(wrong)} of {len(outcomes)}: {wrong[:3]}"
    assert sum(bool(outcome.arrived) for outcome in outcomes) > 50


def test_subject_at_the_records_server_is_the_tokens(outcomes: list[Outcome]) -> None:
    """A request arrives under its token's subject and its decision's id, each exactly once, whatever it claimed."""
    wrong = [outcome for outcome in outcomes if not is_right_sender(outcome)]

    assert not wrong, f"SWEEP_SEED={SEED}: {len(wrong)} of {len(outcomes)}: {wrong[:3]}"


def test_client_is_told_the_truth(outcomes: list[Outcome]) -> None:
    """200 with the records server's own answer, 401 with a challenge, or 403; an odd request is refused by anyone."""
    wrong = [outcome for outcome in outcomes if not is_right_answer(outcome)]

    assert not wrong, f"SWEEP_SEED={SEED}: {len(wrong)} of {len(outcomes)}: {wrong[:3]}"


def is_right_answer(outcome: Outcome) -> bool:
    """Tell whether the client was told what became of its request."""
    case, reply, arrived = outcome
    if arrived:
        return reply.status == 200 and (case.method == "HEAD" or json.loads(reply.body) == arrived[0])
    if (case.method, case.target, reply.status) == ("OPTIONS", "*", 200):
        return reply.body == b""  # a question about Caddy itself: its library answers, with nothing
    if not case.is_plain:
        # Never a success, never a redirect to somewhere; a connection that is just closed is a refusal, too.
        return 400 <= reply.status < 600 or reply.status == 0
    if case.person == "two tokens" and reply.status == 400:
        return True  # nginx refuses a second header of that name by itself
    if case.person in UNKNOWN:
        return reply.status == 401 and reply.headers.get("www-authenticate", "").startswith("Bearer ")
    return reply.status == 403 and bool(reply.headers.get("x-ruqsat-decision"))
