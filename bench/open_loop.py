"""The client that loads a server from an open loop; it is the one of ``ruqsat bench``."""

from ruqsat.cli.load_client import LATE, Asked, KindOf, Run, at_rate, in_turns, quantile

__all__ = ["LATE", "Asked", "KindOf", "Run", "at_rate", "in_turns", "quantile"]
