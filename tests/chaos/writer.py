"""Whoever grants and withdraws at random, and knows of every acknowledgement when it came."""

import asyncio
import secrets
from collections.abc import Callable
from random import Random
from typing import Any

import httpx

from tests.chaos.checker import boottime
from tests.chaos.fleet import Fleet, Node
from tests.chaos.verdict import Write
from tests.chaos.world import Patient, document

PATH = "/v1/consents"
_LATER = (503, 500, 502)


class Writer:
    """
    Writes at one sidecar or another of a fleet, until it is told how each write ended.

    ``is_up``: which nodes may be asked; one that stands still would only take time.
    """

    def __init__(self, fleet: Fleet, chance: Random, record: Callable[[Write], None]) -> None:
        self._fleet, self._chance, self._record = fleet, chance, record
        self._numbers: dict[str, int] = {}
        self.is_up: Callable[[Node], bool] = lambda _: True
        self.repeated = 0

    async def grant(self, patient: Patient, at: Node | None = None) -> str:
        """Record a verified consent and return its id."""
        number = self._numbers[patient.id] = self._numbers.get(patient.id, 0) + 1
        headers = {"idempotency-key": secrets.token_hex(12)}
        begun = boottime()
        try:
            node, told = await self._until_told(at, 201, PATH, json=document(patient, number), headers=headers)
        except asyncio.CancelledError:
            self._record(Write(patient.id, "grant", "", begun, float("inf")))
            raise
        self._record(Write(patient.id, "grant", node.name, begun, boottime()))
        return str(told["consent"])

    async def withdraw(self, patient: Patient, consent: str, at: Node | None = None) -> None:
        """Withdraw one."""
        begun = boottime()
        node, _ = await self._until_told(at, 200, f"{PATH}/{consent}/withdraw")
        self._record(Write(patient.id, "withdraw", node.name, begun, boottime()))

    async def _until_told(self, at: Node | None, wanted: int, path: str, **call: Any) -> tuple[Node, Any]:
        while True:
            up = [node for node in self._fleet.nodes if self.is_up(node)] or list(self._fleet.nodes)
            node = at or self._chance.choice(up)
            try:
                answer = await node.control.post(path, **call)
            except httpx.HTTPError:
                self.repeated += 1
            else:
                if answer.status_code == wanted:
                    return node, answer.json()
                assert answer.status_code in _LATER, answer.text
                self.repeated += 1
            await asyncio.sleep(0.1)

    async def live(self, patient: Patient, delta: float) -> None:
        """Grant and withdraw one patient's consent in turn, for ever; it stays withdrawn for longer than *delta* often."""
        while True:
            consent = await self.grant(patient)
            await asyncio.sleep(self._chance.uniform(0, 1))
            await self.withdraw(patient, consent)
            await asyncio.sleep(self._chance.uniform(0.2, 2.5) * delta)
