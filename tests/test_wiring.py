"""What the settings say reaches the part that it is said of; a process runs what it promised to run, and ends it."""

import ast
import asyncio
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import ruqsat
from ruqsat import wiring
from ruqsat.core.signature_finding import SignedContent
from ruqsat.core.vocabulary import Switches
from ruqsat.duties import begin_duties
from ruqsat.errors import SettingsError
from ruqsat.settings import Settings, load_settings
from ruqsat.stores.journal_segment import DurableJournal, LossyJournal
from ruqsat.stores.sql import SqlStore
from ruqsat.web.enforcement_points import EnforcementPoint
from ruqsat.web.ext_authz import GrpcListener
from ruqsat.wiring import Process, open_process
from tests.conftest import ROOT
from tests.process.checker import entries_in
from tests.process.starter import EVALUATION, question
from tests.sidecar import ADMITTED, COMPARED
from tests.signatures.bad import gost
from tests.signatures.fake_gost import FOUND
from tests.signatures.pki import DOCUMENT, RECEIVED, Cms, crl, instant, middle, root, signer

SOURCES = Path(ruqsat.__file__).parent


def settings_in(folder: Path, **more: Any) -> Settings:
    """Return the settings of a process that keeps everything in *folder*."""
    return load_settings(**{
        "database_url": f"sqlite:///{folder}/ruqsat.db", "journal_dir": folder / "journal", "auth_listen": "off",
        "policy_dir": Path(ADMITTED.name), "policy_compare_seconds": COMPARED,
    } | more)  # fmt: skip


@asynccontextmanager
async def opened(folder: Path, **more: Any) -> AsyncIterator[Process]:
    """Build a process with its demo world and leave it again; nobody listens."""
    async with open_process(settings_in(folder, **more), demo=True) as process:
        yield process


def running() -> set[str]:
    """Return what goes on beside the test that asks."""
    return {
        name for task in asyncio.all_tasks() if (name := getattr(task.get_coro(), "__qualname__", "")).endswith("_forever")
        or name.endswith(".forever")
    }  # fmt: skip


def asking(process: Process, listener: str) -> httpx.AsyncClient:
    """Return a client of one listener's application; close it."""
    (app,) = (each.app for each in process.listeners if each.name == listener)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ruqsat")


def test_every_setting_is_read_by_a_part_that_is_built() -> None:
    """A setting that is checked and then lost would be a promise to an operator that nobody keeps."""
    read = {
        node.attr
        for file in SOURCES.rglob("*.py") if file.name != "settings.py"
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Attribute) and "settings" in ast.unparse(node.value)
    }  # fmt: skip
    by_name = {f"{listener}_listen" for listener in ("json", "auth")}  # `getattr`, a listener after the other
    own = {
        name for name in Settings.model_fields if name.startswith(("token_key", "record_key", "notice_webhook_secret"))
    }

    assert set(Settings.model_fields) - read - by_name - own == set()


ALWAYS = {
    "InformationPoint.probe_forever", "BreakGlass.look_forever", "ProceedingClock.forever", "Delivery.forever",
    "Shipper.forever", "AdministrationPoint.watch_forever",
}  # fmt: skip


@pytest.mark.parametrize(("more", "differs"), [
    ({}, set()),
    ({"journal_ship": False}, {"Shipper.forever"}),
    ({"policy_poll_seconds": 0}, {"AdministrationPoint.watch_forever"}),
    ({"token_issuer": "i", "token_audience": "a", "token_jwks_url": "http://127.0.0.1:9/keys"}, {"PublishedKeys.refresh_forever"}),
], ids=str)  # fmt: skip
def test_a_process_does_by_itself_what_its_settings_say_and_nothing_after_its_end(
    more: dict[str, Any], differs: set[str], tmp_path: Path
) -> None:
    """Probes, overdue reviews, terms, notices, shipping, the pack, published keys; where it is off, it does not run."""

    async def story() -> tuple[set[str], set[str]]:
        async with opened(tmp_path, **more):
            while_open = running()
        return while_open, running()

    assert asyncio.run(story()) == (ALWAYS ^ differs, set())


def test_a_process_that_ended_leaves_database_and_journal_to_the_next(tmp_path: Path) -> None:
    """Each is one process's while it runs; an end that kept either would stop the next start."""

    async def story() -> list[Process]:
        kept = []
        for _ in range(2):
            async with opened(tmp_path) as process:
                kept.append(process)  # what nobody refers to any more would be closed by chance
        return kept

    assert len(asyncio.run(story())) == 2
    assert [entry["kind"] for entry in entries_in(tmp_path / "journal")].count("policy") == 2


def doors_of(process: Process) -> dict[str, list[EnforcementPoint]]:
    """Return whom each listener lets in."""
    apps = {each.name: each.app for each in process.listeners}
    apps |= {each.name: each._service for each in process.companions if isinstance(each, GrpcListener)}
    return {name: list(app._door.points) for name, app in apps.items()}


async def doors_opened(folder: Path, **more: Any) -> dict[str, list[EnforcementPoint]]:
    """Return the doors of a process with these settings and every listener."""
    every = {"auth_listen": "127.0.0.1:0", "grpc_listen": "127.0.0.1:0", "token_issuer": "i", "token_audience": "a",
             "token_algorithm": "HS256", "token_key": "k" * 40}  # fmt: skip
    async with opened(folder, **every | more) as process:
        return doors_of(process)


def test_a_point_is_let_in_where_it_is_registered_and_at_no_other_listener(tmp_path: Path) -> None:
    """Each listener has a door of its own."""
    listeners = ("json", "auth", "grpc", "control")
    (tmp_path / "points.toml").write_text(
        "".join(f'[of-{name}]\nlisteners = ["{name}"]\nsecret_sha256 = "{64 * "0"}"\n' for name in listeners)
    )
    found = asyncio.run(doors_opened(tmp_path, enforcement_points=tmp_path / "points.toml"))

    assert {name: [point.name for point in points] for name, points in found.items()} == {
        name: [f"of-{name}"] for name in listeners
    }


@pytest.mark.parametrize(("more", "wanted"), [
    ({}, (False, (), False)), ({"json_explain": True}, (True, (), False)), ({"json_search": True}, (False, (), True)),
    ({"json_capabilities": ("redact",)}, (False, ("redact",), False)),
], ids=str)  # fmt: skip
def test_whoever_reaches_the_json_listener_sees_and_can_do_what_the_settings_say_and_no_more(
    more: dict[str, Any], wanted: tuple[bool, tuple[str, ...], bool], tmp_path: Path
) -> None:
    """Exact reasons, duties, searches: nothing of it by itself, and none opens another."""
    (anybody,) = asyncio.run(doors_opened(tmp_path, **more))["json"]
    assert (anybody.explain, tuple(anybody.capabilities), anybody.search) == wanted


def test_signatures_are_held_against_the_lists_and_the_plug_in_of_the_settings(tmp_path: Path) -> None:
    """Revoked by a list of the folder: refused, and without the folder nobody asks; GOST counts by the plug-in alone."""
    (tmp_path / "root.pem").write_bytes(root().certificate.public_bytes(Encoding.PEM))
    lists = tmp_path / "lists"
    lists.mkdir()
    for name, made in (("root", crl(root())), ("middle", crl(middle(), signer().certificate.serial_number))):
        (lists / f"{name}.crl").write_bytes(made.public_bytes(Encoding.DER))
    trusting = {"signature_trust": tmp_path / "root.pem"}

    def found(signature: bytes, **more: Any) -> str | None:
        verifier = wiring._signatures(settings_in(tmp_path, **more))
        assert verifier is not None
        return verifier.verify(signature, SignedContent(DOCUMENT), instant(RECEIVED)).failure

    assert (found(Cms().der(), **trusting), found(Cms().der(), **trusting, signature_crls=lists)) == (None, "revoked")
    assert found(Cms().der(), signature_plugin="tests.signatures.fake_gost:make") == "not_trusted"
    assert found(gost(), **trusting) == "algorithm_not_supported"
    assert found(gost(), **trusting, signature_plugin="tests.signatures.fake_gost:make") == FOUND.failure
    assert wiring._signatures(settings_in(tmp_path)) is None


def test_terms_are_counted_by_the_days_that_the_operator_reviewed(tmp_path: Path) -> None:
    """A file names a Saturday as worked; one that cannot be read stops the start with the setting's name."""
    saturday, file = date(2026, 11, 21), tmp_path / "days.toml"
    file.write_text("extra_work = [2026-11-21]\n")

    assert wiring.working_days(settings_in(tmp_path, working_days=file)).is_working(saturday)
    assert not wiring.working_days(settings_in(tmp_path)).is_working(saturday)
    for text in ("extra_wrok = [2026-11-21]\n", "= 1"):
        file.write_text(text)
        with pytest.raises(SettingsError, match="RUQSAT_WORKING_DAYS cannot be used"):
            wiring.working_days(settings_in(tmp_path, working_days=file))


@pytest.mark.parametrize(("more", "kind", "reserve"), [
    ({}, DurableJournal, True), ({"journal_reserve_bytes": 0}, DurableJournal, False), ({"journal": "lossy"}, LossyJournal, False),
], ids=str)  # fmt: skip
def test_the_journal_is_of_the_kind_that_is_set(
    more: dict[str, Any], kind: type[object], reserve: bool, tmp_path: Path
) -> None:
    """Durable with blocks held for emergencies, unless the operator says otherwise."""

    async def story() -> tuple[type[object], bool]:
        journal = wiring._open_journal(settings_in(tmp_path, **more))
        try:
            return type(journal), journal.has_reserve
        finally:
            await journal.aclose()

    assert asyncio.run(story()) == (kind, reserve)


def test_a_journal_that_may_lose_is_told_as_one(tmp_path: Path) -> None:
    """An operator who asks is not told that it is durable."""

    async def story() -> str:
        async with opened(tmp_path, journal="lossy") as process, asking(process, "control") as client:
            return str((await client.get("/status")).json()["journal"]["mode"])

    assert asyncio.run(story()) == "lossy"


@pytest.mark.parametrize("replayable", [True, False])
def test_the_journal_keeps_the_facts_of_a_decision_only_where_it_is_to_be_replayable(
    replayable: bool, tmp_path: Path
) -> None:
    """Where the operator saves the space, or does not want them there, they are not in it."""

    async def story() -> bool:
        async with opened(tmp_path, journal_replayable=replayable) as process, asking(process, "json") as client:
            return bool((await client.post(EVALUATION, json=question())).json()["decision"])

    assert asyncio.run(story())
    assert ("facts" in {entry["kind"] for entry in entries_in(tmp_path / "journal")}) is replayable


def test_what_came_of_a_permit_can_be_told_at_once(tmp_path: Path) -> None:
    """Whose permit it is, the process itself remembers: nobody waits until the journal is shipped, or finds no decision."""

    async def story() -> int:
        async with opened(tmp_path, journal_ship=False) as process, asking(process, "json") as client:
            decision = (await client.post(EVALUATION, json=question())).json()["context"]["id"]
            return (await client.post("/v1/outcomes", json={"decision": decision, "outcome": "done"})).status_code

    assert asyncio.run(story()) == 201


ELSEWHERE = (
    "ruqsat_redis_",
    "ruqsat_shared_",
    "ruqsat_copies_distrusted",
    "ruqsat_fhir_lookup",
    "ruqsat_policy_behind",
)
"""Of a process with Redis, FHIR servers or releases in the database."""


def test_every_metric_that_the_operator_s_page_names_is_told(tmp_path: Path) -> None:
    """An alarm on a name that is never told would never ring."""
    named = set(re.findall(r"`(ruqsat_[a-z_]*[a-z])(?:\{[a-z,]*\})?`", (ROOT / "docs" / "operations.md").read_text()))

    async def story() -> str:
        async with opened(tmp_path) as process, asking(process, "control") as client:
            return (await client.get("/metrics")).text

    told = set(re.findall(r"^# TYPE (ruqsat_\w+) ", asyncio.run(story()), re.MULTILINE))
    assert len(named) > 30
    assert {name for name in named - told if not name.startswith(ELSEWHERE)} == set()


def test_notices_go_the_ways_and_as_often_as_the_settings_say(tmp_path: Path) -> None:
    """Patients by one channel, the office by another; the adapter of e-government is one where it is named."""

    async def story() -> tuple[str, str, int, set[str]]:
        async with AsyncExitStack() as stack:
            store = await SqlStore.open(f"sqlite:///{tmp_path}/ruqsat.db")
            stack.push_async_callback(store.aclose)
            journal = await asyncio.to_thread(wiring._open_journal, settings)
            stack.push_async_callback(journal.aclose)
            delivery = begin_duties(stack, settings, store, journal, None, Switches, lambda: 0).delivery
            ways = delivery._ways
            return ways.usual, ways.office, delivery._attempts, set(ways.channels)

    settings = settings_in(
        tmp_path, notice_channel="webhook", notice_office_channel="log", notice_attempts=7,
        notice_webhook_url="http://127.0.0.1:9/", notice_webhook_secret="whsec_" + b64encode(bytes(32)).decode(),
        notice_egov_adapter="ruqsat.channels.log:LogChannel",
    )  # fmt: skip
    assert asyncio.run(story()) == ("webhook", "log", 7, {"egov", "webhook", "log"})
