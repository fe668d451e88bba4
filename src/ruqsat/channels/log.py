"""The log as a channel, for demonstrations and for the privacy office while it has nothing better: nobody is named."""

import logging

from ruqsat.core.outgoing import Outcome
from ruqsat.service.delivery import Message

_log = logging.getLogger(__name__)


class LogChannel:
    """Writes that there is a notice, and its key, by which the office finds it."""

    async def send(self, message: Message) -> Outcome:
        """Write one line, however few others are written; the log has acknowledged it."""
        level = max(logging.INFO, _log.getEffectiveLevel())
        _log.log(level, "notice key=%s kind=%s audience=%s", message.id, message.kind, message.audience)
        return Outcome("delivered")
