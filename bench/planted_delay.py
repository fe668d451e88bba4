"""A sidecar that wastes time, to test the gate: ``python planted_delay.py <place> <microseconds> serve …``."""

import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from ruqsat.cli.main import run
from ruqsat.service import recall
from ruqsat.service.information_point import InformationPoint
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.web import authzen

PLACES: dict[str, tuple[Any, str]] = {
    "decode": (authzen, "decode_evaluation"),
    "facts": (InformationPoint, "facts_now"),
    "evaluate": (recall, "evaluate"),
    "journal": (DurableJournal, "append"),
    "encode": (authzen, "encode_answer"),
}


def plant(place: str, micros: float) -> None:
    """Let every call of a function take so much more of the processor, once."""
    owner, name = PLACES[place]
    inner: Callable[..., Any] = getattr(owner, name)

    def slower(*arguments: Any, **named: Any) -> Any:
        until = time.thread_time() + micros / 1e6
        while time.thread_time() < until:
            pass
        return inner(*arguments, **named)

    setattr(owner, name, slower)


def stall(millis: float) -> None:
    """Let every fiftieth call wait, without any processor time: the tail alone can tell."""
    inner, numbers = authzen.decode_evaluation, count(1)

    def slower(*arguments: Any, **named: Any) -> Any:
        if not next(numbers) % 50:
            time.sleep(millis / 1e3)
        return inner(*arguments, **named)

    authzen.decode_evaluation = slower


if __name__ == "__main__":
    if sys.argv[1] == "stall":
        stall(float(sys.argv.pop(2)))
        sys.argv.pop(1)
        run()
        sys.exit()
    plant(sys.argv.pop(1), float(sys.argv.pop(1)))
    run()
