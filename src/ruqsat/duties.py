"""
Carrying out what decisions oblige to, beside the process that decides.

Shipping and delivery run on the loop as tasks of their own, with a connection of their
own.  No decision waits for them, and whatever becomes of them changes none.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from ruqsat.channels.egov import load_adapter
from ruqsat.channels.log import LogChannel
from ruqsat.channels.webhook import Webhook, read_secret
from ruqsat.core.instant import Instant
from ruqsat.core.notice import Notice
from ruqsat.core.outgoing import EGOV, LOG, WEBHOOK
from ruqsat.core.proceeding_notice import for_whom
from ruqsat.core.vocabulary import Switches
from ruqsat.errors import SettingsError
from ruqsat.service.delivery import Channel, Delivery, Ways
from ruqsat.service.flight import keep_running
from ruqsat.service.metrics import Metrics
from ruqsat.service.notice_bodies import NoticeBodies
from ruqsat.service.record_seal import RecordSeal
from ruqsat.service.shipping import Shipper
from ruqsat.settings import Settings
from ruqsat.stores.journal_reader import JournalReader
from ruqsat.stores.journal_segment import DurableJournal, LossyJournal
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sql_facts import read_addressees
from ruqsat.stores.sql_outbox import AddNotices, add_notices

_log = logging.getLogger(__name__)


class Duties(Struct, frozen=True):
    """What carries duties out; ``shipper`` is None where the journal is not shipped."""

    shipper: Shipper | None
    delivery: Delivery

    def status(self) -> dict[str, Any]:
        """Return how far shipping and delivery are, for operators."""
        shipper, standing = self.shipper, self.delivery.standing
        return {
            "journal": None if shipper is None else {
                "lines": shipper.lines, "behind_seconds": shipper.behind_seconds, "failures": shipper.failures,
                "unreadable": shipper.unreadable,
            },
            "notices": {
                "pending": standing.pending, "dead": standing.dead, "oldest_seconds": self.delivery.oldest_seconds,
                **self.delivery.outcomes,
            },
        }  # fmt: skip

    def watch(self, metrics: Metrics) -> None:
        """Let the metrics read shipping and delivery at each scrape."""
        delivery, shipper = self.delivery, self.shipper
        metrics.gauge("ruqsat_notices_pending", "Notices that wait", lambda: delivery.standing.pending)
        metrics.gauge("ruqsat_notices_dead", "Notices given up", lambda: delivery.standing.dead)
        metrics.gauge("ruqsat_notices_oldest_seconds", "Age of the oldest that is due", lambda: delivery.oldest_seconds)
        metrics.counter("ruqsat_notices_unsettled", "Ends not written down; sent again", lambda: delivery.unsettled)
        for name in delivery.outcomes:
            metrics.counter(f"ruqsat_notices_{name}", f"Attempts: {name}", partial(delivery.outcomes.__getitem__, name))
        if shipper is None:
            return
        metrics.gauge("ruqsat_journal_behind_seconds", "Since all was shipped last", lambda: shipper.behind_seconds)
        metrics.counter("ruqsat_journal_shipped", "Lines shipped into the database", lambda: shipper.lines)
        metrics.counter("ruqsat_journal_ship_failures", "Times it could not be", lambda: shipper.failures)
        metrics.counter("ruqsat_journal_unreadable", "Lines that are none, not shipped", lambda: shipper.unreadable)


def begin_duties(
    stack: AsyncExitStack, settings: Settings, store: SqlStore, journal: DurableJournal | LossyJournal,
    seal: RecordSeal | None, switches: Callable[[], Switches], now: Callable[[], Instant],
) -> Duties:  # fmt: skip
    """
    Ship and deliver from now on, on the running loop, until the stack is left.

    Raises:
        SettingsError: a channel cannot be used.
    """
    channels, bodies, work = open_channels(settings, stack), NoticeBodies(seal), SqlDuties(store.background(), switches)
    delivery = Delivery(
        work, bodies, Ways(channels, settings.notice_channel, settings.notice_office_channel), now,
        attempts=settings.notice_attempts,
    )  # fmt: skip
    store.add_notices = keeping_notices(bodies, now, switches)
    keep_running(stack, delivery.forever())
    shipper = None
    if settings.journal_ship:
        source = JournalReader(settings.journal_dir)
        shipper = Shipper(source, work, bodies, lambda: journal.lasting, switches, now)
        keep_running(stack, shipper.forever())
    _warn_of_silence(settings, channels)
    return Duties(shipper, delivery)


def keeping_notices(
    bodies: NoticeBodies, now: Callable[[], Instant], switches: Callable[[], Switches] = Switches
) -> AddNotices:
    """Return what puts the notices of a change into the outbox, in the transaction of that change."""

    def keep(connection: Connection, notices: Sequence[Notice]) -> int:
        known = read_addressees(connection, {each.patient for each in notices if each.patient is not None})
        meant = [to for each in notices for to in for_whom(each, known.get(each.patient or ""), switches())]
        return add_notices(connection, meant, bodies.close, now())

    return keep


def _warn_of_silence(settings: Settings, channels: dict[str, Channel]) -> None:
    if not settings.journal_ship:
        _log.warning("journal_is_not_shipped: nobody is told of decisions, set RUQSAT_JOURNAL_SHIP")
    if settings.notice_channel == EGOV and EGOV not in channels:
        _log.warning("no_egov_adapter: notices to patients are skipped and kept, set RUQSAT_NOTICE_EGOV_ADAPTER")


def open_channels(settings: Settings, stack: AsyncExitStack) -> dict[str, Channel]:
    """
    Return the channels of the settings, by name; leaving the stack closes them.

    Raises:
        SettingsError: a secret or an adapter cannot be used.
    """
    channels: dict[str, Channel] = {LOG: LogChannel()}
    secret = settings.notice_webhook_secret_bytes()
    if settings.notice_webhook_url is not None and secret is not None:
        hook = Webhook(settings.notice_webhook_url, _named("RUQSAT_NOTICE_WEBHOOK_SECRET", read_secret, secret))
        stack.push_async_callback(hook.aclose)
        channels[WEBHOOK] = hook
    if settings.notice_egov_adapter is not None:
        channels[EGOV] = _named("RUQSAT_NOTICE_EGOV_ADAPTER", load_adapter, settings.notice_egov_adapter)
    return channels


def _named(setting: str, read: Callable[[Any], Any], value: object) -> Any:
    try:
        return read(value)
    except SettingsError as error:
        raise SettingsError(f"{setting}: {error}") from error
