"""Logs as JSON lines on standard error: an event in the past tense, fields instead of sentences, no personal data."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def configure_logs(level: str) -> None:
    """Send every log of the process, the HTTP server's included, to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}", style="{", timestamp="at",
            rename_fields={"levelname": "level", "name": "logger", "message": "event"},
        )
    )  # fmt: skip
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "fastapi"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = name != "uvicorn.access"
    # The server's notices of each malformed request would let anyone fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    # The HTTP client tells each address that it asks: the id of a record, the secret path of a webhook.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
