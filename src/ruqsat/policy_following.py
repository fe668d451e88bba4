"""Puts together what takes the policy from the database: where its bytes come from, and what follows its pointer."""

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ruqsat.core.facts import Position
from ruqsat.core.policy_release import POLICY
from ruqsat.service.administration_point import AdministrationPoint
from ruqsat.service.clock import SystemClock
from ruqsat.service.freshness import ALL, Freshness
from ruqsat.service.information_point import InformationPoint
from ruqsat.service.policy_follower import PolicyFollower
from ruqsat.service.policy_packs import PackLoader, ReleasedSource
from ruqsat.stores.policy_store import PolicyStore
from ruqsat.stores.sql import SqlStore

if TYPE_CHECKING:
    from ruqsat.stores.redis import RedisSharing

OnHint = Callable[[Position, Sequence[str]], None]


class PolicyFromDatabase:
    """
    The policy of one process, where it comes from the database.

    Attributes:
        source: What the process begins with.
        follower: What follows from then on; there is one once ``follow`` was called.
    """

    def __init__(self, store: SqlStore, redis: "RedisSharing | None", freshness: Freshness, clock: SystemClock) -> None:
        self._store, self._freshness, self._clock = PolicyStore(store), freshness, clock
        self._loader = PackLoader(self._store, redis.packs if redis is not None else None)
        self.source = ReleasedSource(self._store, self._loader)
        self.follower: PolicyFollower | None = None

    def follow(self, administration: AdministrationPoint, information: InformationPoint) -> PolicyFollower:
        """Return what follows the pointer, from what is in force now; probes wake it."""
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.follower = PolicyFollower(
            self._store, self._loader, administration, self._freshness, name, lambda: self._clock.now().hi
        )
        information.on_probe = self.follower.wake_if_behind
        return self.follower

    def hear(self, hear_of_facts: OnHint, position: Position, keys: Sequence[str]) -> None:
        """Take in a hint: for facts, and for the pointer."""
        hear_of_facts(position, keys)
        if self.follower is not None and (POLICY in keys or ALL in keys):
            self.follower.wake()
