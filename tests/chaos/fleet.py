"""Sidecar processes on one PostgreSQL with Valkey beside them, each behind proxies of its own to both."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import jwt

from tests.chaos.proxy import ChaosProxy, proxy_to
from tests.chaos.world import Patient, populate
from tests.ground import GroundMissingError, PostgresServer, Server, missing, running_postgres, running_valkey
from tests.process.starter import MODULE, Sidecar, serving
from tests.sidecar import AUDIENCE, ISSUER

NAMESPACE = "chaos"
PLANTED = str(Path(__file__).with_name("planted.py"))
DESK = {"roles": ["registrar"], "org": "h1", "purpose_of_use": "PATADMIN", "sub": "reg_saltanat"}


class Tokens:
    """An issuer that every process of a run accepts."""

    def __init__(self) -> None:
        self._key = secrets.token_urlsafe(48)
        self.settings = {
            "token_issuer": ISSUER, "token_audience": AUDIENCE, "token_algorithm": "HS256", "token_key": self._key,
        }  # fmt: skip

    def bearer(self, claims: Mapping[str, Any] = DESK) -> dict[str, str]:
        """Return the header of somebody; by default of the registration desk of h1."""
        now = int(time.time())
        whole = {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 7200} | claims
        return {"authorization": f"Bearer {jwt.encode(whole, self._key, algorithm='HS256')}"}


class Node(NamedTuple):
    """One sidecar, and what stands between it and the others."""

    name: str
    sidecar: Sidecar
    sql: ChaosProxy
    redis: ChaosProxy
    control: httpx.AsyncClient


class Valkey:
    """A Valkey that can be killed and started again at the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, ExitStack()
        self.server: Server = self._stack.enter_context(running_valkey(folder))

    def restart(self) -> None:
        """Kill it, and start it with nothing in it."""
        self.server.process.kill()
        self.stop()
        self._stack = ExitStack()
        self.server = self._stack.enter_context(running_valkey(self._folder, port=self.server.port))

    def stop(self) -> None:
        """End it."""
        self._stack.close()


class Fleet(NamedTuple):
    """Everything that runs."""

    nodes: tuple[Node, ...]
    postgres: PostgresServer
    valkey: Valkey
    tokens: Tokens
    url: str

    def node(self, name: str) -> Node:
        """Return the node of that name."""
        return next(node for node in self.nodes if node.name == name)


@asynccontextmanager
async def fleet(
    names: Mapping[str, Sequence[str]] | Sequence[str],
    touched: list[Patient],
    untouched: list[Patient],
    **settings: str,
) -> AsyncIterator[Fleet]:
    """
    Start a sidecar for each name, or of each program if programs are given with them, and all that they need.

    What cannot run here skips the test, and fails it in CI.
    """
    programs = names if isinstance(names, Mapping) else dict.fromkeys(names, MODULE)
    tokens = Tokens()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="ruqsat-chaos-")))
        folder.chmod(0o755)  # noqa: ASYNC240 - nothing runs yet
        try:
            postgres = stack.enter_context(running_postgres(folder / "postgres", durable=True))
            valkey = Valkey(folder / "valkey")
        except GroundMissingError as error:
            missing("a fleet", error)
        stack.callback(valkey.stop)
        url = await asyncio.to_thread(postgres.new_truth)
        await populate(url, touched, untouched)

        async def start(name: str, program: Sequence[str]) -> Node:
            sql = await stack.enter_async_context(proxy_to(postgres.port))
            redis = await stack.enter_async_context(proxy_to(valkey.server.port))
            sidecar = await asyncio.to_thread(
                stack.enter_context,
                serving(
                    folder / name, program=program, redis_namespace=NAMESPACE, auth_listen="off",
                    database_url=url.replace(str(postgres.port), str(sql.port)),
                    redis_url=f"redis://127.0.0.1:{redis.port}/0", **tokens.settings, **settings,
                ),
            )  # fmt: skip
            control = httpx.AsyncClient(
                base_url=f"http://{sidecar.addresses['control']}", trust_env=False, timeout=3, headers=tokens.bearer()
            )
            await stack.enter_async_context(control)
            return Node(name, sidecar, sql, redis, control)

        # One after the other: the first admits the pack for all of them.
        nodes = [await start(name, program) for name, program in programs.items()]
        yield Fleet(tuple(nodes), postgres, valkey, tokens, url)
