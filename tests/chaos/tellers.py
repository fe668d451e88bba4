"""Those who write to the registry until the process is gone, and know exactly what they were told."""

import asyncio
import json
import secrets
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import httpx

from tests.chaos.fleet import Tokens
from tests.chaos.world import Patient, document
from tests.registry.documents import CHECKED

PATH = "/v1/consents"


class Told(NamedTuple):
    """What a caller was told of one record: it has this version and this status."""

    consent: str
    patient: str
    version: int
    status: str


class Sent(NamedTuple):
    """A call that makes a record; ``answer`` is what it was told, without the token; None if nothing."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    answer: dict[str, Any] | None


class Memory:
    """Everything that callers sent and were told, over all lives of a process."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.sent: dict[str, Sent] = {}
        self.unanswered: set[str] = set()
        """Records that a call was under way for when the process ended."""
        self.refused: list[str] = []


class Teller:
    """One caller with a patient of its own: records, verifies, withdraws and supersedes at random."""

    def __init__(
        self, client: httpx.AsyncClient, tokens: Tokens, patient: Patient, memory: Memory, chance: Random,
        on_told: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._client, self._patient, self._memory, self._chance = client, patient, memory, chance
        self._on_told = on_told
        self._desk = tokens.bearer()
        self._number = 0
        self._records: dict[str, Told] = {}

    async def tell_until_gone(self) -> None:
        """Go on until there is no answer."""
        try:
            while True:
                await self._once()
        except (httpx.HTTPError, ConnectionError):
            return

    async def _once(self) -> None:
        active = [each for each in self._records.values() if each.status == "active"]
        drafts = [each for each in self._records.values() if each.status == "draft"]
        kind = self._chance.choice(("create", "draft", "verify", "withdraw", "supersede"))
        if kind == "verify" and drafts:
            await self._change(self._chance.choice(drafts), "verify", {"signature": CHECKED})
        elif kind == "withdraw" and active:
            await self._change(self._chance.choice(active), "withdraw", None)
        elif kind == "supersede" and active:
            await self._make(document(self._patient, self._next()), self._chance.choice(active))
        elif kind == "draft":
            await self._make(document(self._patient, self._next()) | {"verification": None})
        else:
            await self._make(document(self._patient, self._next()))

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _make(self, body: dict[str, Any], old: Told | None = None) -> None:
        key = secrets.token_hex(12)
        headers = self._desk | {"idempotency-key": key}
        path = PATH if old is None else f"{PATH}/{old.consent}/supersede"
        if old is not None:
            headers["if-match"] = f'"{old.version}"'
            self._memory.unanswered.add(old.consent)
        self._memory.sent[key] = Sent(path, headers, body, None)
        answer = await self._client.post(path, json=body, headers=headers)
        if answer.status_code != 201:
            self._refuse(answer, old)
            return
        said = {name: value for name, value in answer.json().items() if name != "token"}
        self._memory.sent[key] = Sent(path, headers, body, said)
        self._take(said)
        if old is not None:
            self._memory.unanswered.discard(old.consent)
            self._remember(Told(old.consent, old.patient, old.version + 1, "superseded"))
        self._on_told()

    async def _change(self, record: Told, event: str, body: dict[str, Any] | None) -> None:
        self._memory.unanswered.add(record.consent)
        headers = self._desk | {"if-match": f'"{record.version}"'}
        content = b"" if body is None else json.dumps(body).encode()
        answer = await self._client.post(f"{PATH}/{record.consent}/{event}", content=content, headers=headers)
        if answer.status_code != 200:
            self._refuse(answer, record)
            return
        self._memory.unanswered.discard(record.consent)
        self._take(answer.json())
        self._on_told()

    def _refuse(self, answer: httpx.Response, record: Told | None) -> None:
        """The store was away, or it could not be said whether it was done: this record is left alone from now on."""
        self._memory.refused.append(f"{answer.status_code} {answer.json()['title']}")
        if record is not None:
            self._records.pop(record.consent, None)
        if answer.status_code == 503:
            raise ConnectionError(answer.text)

    def _take(self, said: dict[str, Any]) -> None:
        self._remember(Told(said["consent"], said["patient"], said["version"], said["status"]))

    def _remember(self, told: Told) -> None:
        self._records[told.consent] = told
        self._memory.told.append(told)


async def repeat(client: httpx.AsyncClient, sent: Sent) -> dict[str, Any]:
    """Make the same call once more, and return its answer without the token."""
    answer = await client.post(sent.path, json=sent.body, headers=sent.headers)
    assert answer.status_code == 201, (answer.status_code, answer.text)
    return {name: value for name, value in answer.json().items() if name != "token"}


async def tell(tellers: list[Teller]) -> None:
    """Let all of them tell until the process is gone."""
    await asyncio.gather(*(teller.tell_until_gone() for teller in tellers))
