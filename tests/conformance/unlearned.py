"""The planted bug: a sidecar whose own changes reach the store, and not what its memory is tested against."""

from ruqsat.cli.main import run
from ruqsat.core.facts import Position
from ruqsat.service.information_point import InformationPoint


def _learn_nothing(_point: InformationPoint, position: Position, _keys: tuple[str, ...]) -> Position:
    return position


if __name__ == "__main__":
    InformationPoint._learn = _learn_nothing  # type: ignore[method-assign]
    run()
