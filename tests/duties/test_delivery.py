"""A notice is delivered once the receiver has acknowledged it; until then it is tried again, and in the end given up."""

import asyncio
import base64
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from ruqsat.channels import webhook
from ruqsat.channels.egov import load_adapter
from ruqsat.channels.log import LogChannel
from ruqsat.channels.webhook import Webhook, read_secret
from ruqsat.core.facts import PatientFacts
from ruqsat.core.instant import HOUR, SECOND
from ruqsat.core.notice import Notice
from ruqsat.core.outgoing import Claimed, Outcome
from ruqsat.errors import OutcomeUnknownError, SettingsError
from ruqsat.service.delivery import Channel, Delivery, Message, Ways, backoff
from ruqsat.service.notice_bodies import NoticeBodies
from ruqsat.service.record_seal import RecordSeal, RecordUnreadableError
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_duties import LEASE, SqlDuties
from ruqsat.stores.sql_outbox import add_notices
from tests.duties.ground import MOMENT, rows, run
from tests.duties.receiver import Misbehave, receiving

SECRET = bytes(range(32))
BODIES = NoticeBodies(RecordSeal(bytes(32)))


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.moment = MOMENT

    def now(self) -> int:
        """Return the moment."""
        return self.moment


class Scripted:
    """A channel that answers as it is told, and keeps what it was given."""

    def __init__(self, *answers: Any) -> None:
        self.given: list[Message] = []
        self._answers = list(answers)

    async def send(self, message: Message) -> Outcome:
        """Answer, or raise."""
        self.given.append(message)
        answer = self._answers.pop(0) if self._answers else Outcome("delivered")
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]


def notice(number: int = 1, **said: Any) -> Notice:
    """Return one of many notices to p1."""
    usual = Notice(f"k{number:03}", f"e-{number}", "use", "patient", "p1", None, "h1", {"by": "dr_aida"}, MOMENT)
    return msgspec.structs.replace(usual, **said)


async def add(store: SqlStore, *notices: Notice) -> None:
    """Add notices."""
    await store.run_writing(lambda connection: add_notices(connection, notices, BODIES.close, MOMENT))


def deliverer(duties: Any, time: Time, usual: str = "webhook", attempts: int = 5, **channels: Channel) -> Delivery:
    """Return a deliverer with these channels, whose chance is always the shortest wait."""
    ways = Ways(channels, usual, "log")
    return Delivery(duties, BODIES, ways, time.now, attempts=attempts, draw=lambda: 1.0)


async def deliver_all(delivery: Delivery, time: Time, rounds: int = 20) -> None:
    """Deliver, with the time going on to the next retry each time."""
    for _ in range(rounds):
        await delivery.deliver_some()
        time.moment += HOUR


def test_a_notice_reaches_the_receiver_signed_and_is_then_over(url: str) -> None:
    """The receiver verifies it; the outbox says so, by which channel, and forgets its facts."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        async with receiving(SECRET) as receiver:
            hook, time = Webhook(receiver.url, SECRET), Time()
            await add(store, *map(notice, range(20)))
            delivery = deliverer(duties, time, webhook=hook)
            assert [await delivery.deliver_some() for _ in range(3)] == [20, 0, 0]
            await hook.aclose()

        assert len(receiver.told) == len(receiver.requests) == 20 and receiver.forged == 0
        assert receiver.told["k003"] == {
            "id": "k003", "kind": "use", "audience": "patient", "patient": "p1", "recipient": None, "org": "h1",
            "facts": {"by": "dr_aida"},
        }  # fmt: skip
        assert set(await rows(store, "state", "channel", "body")) == {("delivered", "webhook", b"")}

    run(url, work)


def test_an_id_that_holds_an_identification_number_leaves_with_no_notice(tmp_path: Any) -> None:
    """Where the issuer names people by their numbers, who acted is not told; what was done is, as in the access log."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        async with receiving(SECRET) as receiver, aclosing(Webhook(receiver.url, SECRET)) as hook:
            await add(store, notice(facts={"by": "h1/880808100203", "action": "read"}))
            await deliverer(duties, Time(), webhook=hook).deliver_some()
        assert receiver.told["k001"]["facts"] == {"action": "read"}

    run(f"sqlite:///{tmp_path}/truth.db", work)


BAD_ANSWERS: dict[str, Misbehave] = {
    "an error": lambda number: b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n" if number < 2 else None,
    "a redirect": lambda number: b"HTTP/1.1 307 Go\r\nLocation: /\r\nContent-Length: 0\r\n\r\n" if number < 2 else None,
    "a refusal": lambda number: b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n" if number < 2 else None,
    "no answer": lambda number: b"" if number < 2 else None,
    "no http": lambda number: b"hello\r\n\r\n" if number < 2 else None,
}


@pytest.mark.parametrize("answer", BAD_ANSWERS)
def test_nothing_counts_but_an_acknowledgement(answer: str, tmp_path: Any) -> None:
    """After anything else it is sent again, with the same key, and then told once; nothing is followed."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        async with receiving(SECRET, BAD_ANSWERS[answer]) as receiver, aclosing(Webhook(receiver.url, SECRET)) as hook:
            time = Time()
            await add(store, notice())
            delivery = deliverer(duties, time, webhook=hook)
            await delivery.deliver_some()
            assert await rows(store, "state") == ["pending"]
            await deliver_all(delivery, time)

        assert {headers["idempotency-key"] for headers, _ in receiver.requests} == {"k001"}
        assert (len(receiver.requests), list(receiver.told)) == (3, ["k001"])
        assert await rows(store, "state", "attempts") == [("delivered", 3)]

    run(f"sqlite:///{tmp_path}/truth.db", work)


def test_a_long_reply_is_not_read(tmp_path: Any) -> None:
    """An acknowledgement with megabytes behind it acknowledges; nobody waits for the rest."""
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        async with receiving(SECRET, lambda number: endless) as receiver:
            hook = Webhook(receiver.url, SECRET)
            await add(store, notice())
            await deliverer(duties, Time(), webhook=hook).deliver_some()
            await hook.aclose()
        assert await rows(store, "state") == ["delivered"]

    run(f"sqlite:///{tmp_path}/truth.db", work)


def test_nobody_listening_is_tried_again_and_given_up_in_the_end(tmp_path: Any) -> None:
    """Dead after so many attempts, with the reason; the facts stay, so that a person can have it tried again."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        async with receiving(SECRET) as receiver:
            pass
        hook, time = Webhook(receiver.url, SECRET), Time()
        await add(store, notice())
        await deliver_all(deliverer(duties, time, webhook=hook), time)
        await hook.aclose()
        assert await rows(store, "state", "attempts", "reason") == [("dead", 5, "unreachable")]

        assert await duties.retry(None, None, time.moment) == 1
        channel = Scripted()
        await deliverer(duties, time, webhook=channel).deliver_some()
        assert await rows(store, "state") == ["delivered"] and channel.given[0].facts == {"by": "dr_aida"}

    run(f"sqlite:///{tmp_path}/truth.db", work)


def test_who_dies_after_the_receiver_was_told_sends_it_again_and_it_is_told_once(url: str) -> None:
    """The end could not be written down: when the claim is over it is sent with the same key, which the receiver has."""

    class Forgetful(SqlDuties):
        """Loses its connection before it can say how it ended."""

        async def settle(self, *_: Any) -> None:
            raise OutcomeUnknownError("lost")

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        async with receiving(SECRET) as receiver:
            hook, time = Webhook(receiver.url, SECRET), Time()
            await add(store, notice())
            first = deliverer(Forgetful(store.background()), time, webhook=hook)
            await first.deliver_some()
            assert first.unsettled == 1
            second = deliverer(duties, time, webhook=hook)
            assert await second.deliver_some() == 0
            time.moment += LEASE
            assert await second.deliver_some() == 1
            await hook.aclose()
        assert len(receiver.requests) == 2 and list(receiver.told) == ["k001"]
        assert await rows(store, "state") == ["delivered"]

    run(url, work)


def test_several_deliverers_tell_everybody_once(url: str) -> None:
    """Three take from one outbox at once; no notice is sent twice."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await add(store, *map(notice, range(200)))
        time, channel = Time(), Scripted()
        crew = [deliverer(duties, time, webhook=channel) for _ in range(3)]
        for _ in range(3):
            await asyncio.gather(*[each.deliver_some() for each in crew])
        assert sorted(each.id for each in channel.given) == [f"k{n:03}" for n in range(200)]

    run(url, work)


def test_without_an_adapter_the_cabinet_is_a_reason_to_skip_and_not_a_silence(tmp_path: Any) -> None:
    """On record; once there is an adapter, the office has them tried again and they arrive."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await store.record_facts((), (PatientFacts("p1", egov=True), PatientFacts("p2")))
        await add(store, notice(1), notice(2, patient="p2"), notice(3, audience="representatives", recipient="mother"))
        time = Time()
        await deliverer(duties, time, "egov").deliver_some()
        assert await rows(store, "state", "reason") == [
            ("skipped", "egov_not_configured"), ("skipped", "not_registered"), ("skipped", "egov_not_configured"),
        ]  # fmt: skip

        assert await duties.retry(None, "egov_not_configured", MOMENT) == 2
        cabinet = Scripted(Outcome("delivered"), Outcome("skipped", "not_registered"))
        await deliverer(duties, time, "egov", egov=cabinet).deliver_some()
        assert sorted(await rows(store, "state")) == ["delivered", "skipped", "skipped"]
        assert {each.patient for each in cabinet.given} == {"p1"}

    run(f"sqlite:///{tmp_path}/truth.db", work)


def test_a_patient_is_told_by_the_channel_that_was_chosen(tmp_path: Any) -> None:
    """Another's and the office's are not changed by it."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await duties.set_channel("p1", "webhook", MOMENT)
        await add(store, notice(1), notice(2, patient="p2"), notice(3, audience="privacy_officer"))
        await deliverer(duties, Time(), "log", webhook=Scripted(), log=LogChannel()).deliver_some()
        assert await rows(store, "channel") == ["webhook", "log", "log"]

    run(f"sqlite:///{tmp_path}/truth.db", work)


@pytest.mark.parametrize(
    "answer",
    [RuntimeError("p1 is ill"), None, "delivered", Outcome("retry", "x"), TimeoutError(), asyncio.CancelledError(),
     Outcome("sent")],  # type: ignore[arg-type]
)  # fmt: skip
def test_what_a_channel_does_wrong_delivers_nothing(
    answer: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """
    It raises, is cancelled from within, answers nothing or something else: that one is tried again, the others are over.

    What it said is not repeated in the log.
    """

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await add(store, notice(1), notice(2))
        await deliverer(duties, Time(), webhook=Scripted(answer)).deliver_some()
        assert sorted(await rows(store, "state")) == ["delivered", "pending"]

    run(f"sqlite:///{tmp_path}/truth.db", work)
    assert "p1" not in caplog.text


def test_the_facts_are_sealed_and_open_for_their_own_notice_alone() -> None:
    """Nobody reads them in the outbox; moved to another notice or patient, or without the key, they do not open."""
    body = BODIES.close(notice())
    claimed = Claimed("k001", "use", "patient", "p1", None, "h1", "e-1", 1, 0, "c", body)

    assert b"dr_aida" not in body and BODIES.open(claimed) == {"by": "dr_aida"}
    for wrong in ({"key": "k002"}, {"patient": "p2"}, {"body": body[:-1]}, {"body": b""}, {"body": b"\x00["}):
        with pytest.raises(RecordUnreadableError):
            BODIES.open(msgspec.structs.replace(claimed, **wrong))
    with pytest.raises(RecordUnreadableError):
        NoticeBodies(None).open(claimed)
    plain = NoticeBodies(None)
    assert BODIES.open(msgspec.structs.replace(claimed, body=plain.close(notice()))) == {"by": "dr_aida"}


@pytest.mark.parametrize("level", ["INFO", "WARNING", "ERROR"])
def test_a_notice_to_the_log_is_written_however_few_lines_are(level: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is on record as delivered stands there: an alert of the privacy office is no detail."""
    caplog.set_level(level)
    assert asyncio.run(
        LogChannel().send(Message("k1", "alert", "privacy_officer", "p-dana", None, "h1", {}))
    ) == Outcome("delivered")
    assert "k1" in caplog.text


def test_the_log_names_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Key, kind and audience; no patient, no subject, no organisation."""
    caplog.set_level(logging.INFO)
    asyncio.run(LogChannel().send(Message("k1", "use", "patient", "p-dana", "mother", "h1", {"by": "dr_aida"})))

    assert "k1" in caplog.text
    assert not any(name in caplog.text for name in ("p-dana", "mother", "h1", "dr_aida"))


def test_retries_wait_longer_each_time_and_never_all_at_once() -> None:
    """Twice as long up to an hour, and by chance up to half of it less."""
    longest = [backoff(attempts, 0.0) for attempts in range(1, 60)]

    assert longest == sorted(longest) and longest[0] == 5 * SECOND and longest[-1] == HOUR
    assert all(each // 2 <= backoff(n, draw) <= each for n, each in enumerate(longest, 1) for draw in (0.0, 0.3, 1.0))


@pytest.mark.parametrize(
    "text", [b"", b"whsec_", b"whsec_" + base64.b64encode(bytes(23)), b"whsec_!!!", b"\xff", b"secret"]
)
def test_a_secret_that_is_none_is_refused_and_not_repeated(text: bytes) -> None:
    """Too short, not base64, empty."""
    with pytest.raises(SettingsError) as refused:
        read_secret(text)
    assert "!!!" not in str(refused.value)


def test_a_secret_of_either_form_is_read() -> None:
    """With the prefix of the standard or without, and the newline of a file."""
    text = base64.b64encode(SECRET)
    assert read_secret(text + b"\n") == read_secret(b"whsec_" + text) == SECRET


@pytest.mark.parametrize(
    "name", ["nowhere:make", "ruqsat.channels.log:nothing", "ruqsat.core.instant:SECOND", "builtins:list"]
)
def test_an_adapter_that_cannot_send_stops_the_start(name: str) -> None:
    """No such module, no such factory, not callable, or nothing that sends."""
    with pytest.raises(SettingsError):
        load_adapter(name)


def test_an_adapter_is_made_by_its_factory() -> None:
    """What the factory makes is the channel."""
    assert isinstance(load_adapter("ruqsat.channels.log:LogChannel"), LogChannel)


async def _always(delivery: Delivery, notice: Claimed, name: str) -> Outcome:
    """Send, and take anything for an acknowledgement."""
    message = Message(notice.key, notice.kind, notice.audience, notice.patient, None, None, {})
    await delivery._ways.channels[name].send(message)
    return Outcome("delivered")


MISTAKES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "any answer counts": lambda patch: patch.setattr(webhook, "_outcome", lambda status: Outcome("delivered")),
    "whatever was sent counts": lambda patch: patch.setattr(Delivery, "_send", _always),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_delivery_is_seen(mistake: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Whoever calls delivered what nobody acknowledged is found out."""
    MISTAKES[mistake](monkeypatch)
    with pytest.raises(AssertionError):
        test_nothing_counts_but_an_acknowledgement("an error", tmp_path)
