"""``python -m ruqsat``."""

from ruqsat.cli.main import run

run()
