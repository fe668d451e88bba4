"""What the process writes about others: nothing."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from ruqsat.channels.webhook import Webhook
from ruqsat.core.outgoing import Outcome
from ruqsat.service.delivery import Message
from ruqsat.web.logs import configure_logs
from tests.duties.receiver import receiving


@pytest.fixture
def _as_before() -> Iterator[None]:
    """Give the loggers back as they were."""
    loggers = [logging.getLogger(name) for name in (None, "httpx", "httpcore", "uvicorn", "uvicorn.error", "fastapi")]
    before = [(each, each.level, list(each.handlers), each.propagate) for each in loggers]
    yield
    for each, level, handlers, propagate in before:
        each.setLevel(level)
        each.handlers[:], each.propagate = handlers, propagate


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("level", ["debug", "info"])
def test_what_is_asked_of_others_is_in_no_log(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At no level: neither the address of a record that is looked up nor that of a webhook, nor what goes to it."""

    async def ask() -> None:
        async with receiving(bytes(32)) as receiver, aclosing(Webhook(receiver.url + "CANARY", bytes(32))) as hook:
            message = Message("k1", "use", "patient", "p-CANARY", None, None, {"by": "CANARY"})
            assert await hook.send(message) == Outcome("delivered")

    configure_logs(level)
    logging.getLogger("ruqsat").info("asked")
    asyncio.run(ask())
    written = capsys.readouterr().err
    assert "asked" in written and "CANARY" not in written
