"""Every change over the control API is an entry of the journal before it is answered (order §16)."""

import asyncio
import hashlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from ruqsat.core.journaled import read_line
from ruqsat.core.request import Subject, SubjectProperties
from ruqsat.errors import JournalError
from ruqsat.service.entries import ChangeEntry, Named
from ruqsat.web import journaled_changes
from ruqsat.web.claims import Identity
from ruqsat.web.gate import ADMISSIONS, Admission, Admitted, Asked, note_written
from tests.mutants import plant
from tests.process.checker import entries_in
from tests.registry.corpus import changed
from tests.registry.documents import consent, verified
from tests.registry.record_documents import CHECK, PATHS, REVIEW, whole
from tests.web.facts_api import STATUS, ago
from tests.web.test_consents import CHECKED, LATER, etag
from tests.web.test_records import Api, current, serving

WRITES = ("post", "put", "patch", "delete")


class Call(NamedTuple):
    """A call of a writing route, as OpenAPI names it, and its answer."""

    operation: str
    who: str
    answer: httpx.Response


class Walk:
    """Calls every writing route with what it takes, on the demo world."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.calls: list[Call] = []

    def __call__(self, who: str, operation: str, body: Any = None, *ids: str, **options: Any) -> httpx.Response:
        """Call a route whose parameters are *ids*, in order."""
        method, path = operation.split(" ")
        for each in ids:
            path = path[: path.index("{")] + each + path[path.index("}") + 1 :]
        answer = self.api.call(who, method, path.removeprefix("/v1/"), **({"json": body} if body else {}), **options)
        assert answer.is_success, (operation, answer.text)
        self.calls.append(Call(operation, who, answer))
        return answer

    def consents(self) -> None:
        """Record, verify, replace, withdraw and take back consents."""
        desk, post = "reg_saltanat", "POST /v1/consents"
        first = self(desk, post, verified(), headers={"idempotency-key": "walk-0001"})
        newer = self(desk, f"{post}/{{consent}}/supersede", changed(LATER, verified()), first.json()["consent"],
                     headers=etag(first))  # fmt: skip
        self("dana", f"{post}/{{consent}}/withdraw", None, newer.json()["consent"])
        waits = self("dana", post, consent())
        self(desk, f"{post}/{{consent}}/verify", {"signature": CHECKED}, waits.json()["consent"], headers=etag(waits))
        wrong = self(desk, post, verified(operator=consent()["operator"], purposes=["TREAT"]))
        self(desk, f"{post}/{{consent}}/enter-in-error", None, wrong.json()["consent"], headers=etag(wrong))

    def records(self) -> None:
        """Write down, verify and end what is beside the consents."""
        named = self.api.name("g-new")
        somebody = whole("delegation")["delegate"] | {"subject": None}
        draft = whole("delegation", id="g-new", consent=named, delegate=somebody)
        made = self("dana", "POST /v1/delegations", draft)
        self.verify_and_end("delegation", "revoke", made, "reg_saltanat", "dana", CHECK | {"subject": "arman"})
        made = self("reg_saltanat", "POST /v1/representations", current("representation"))
        self.verify_and_end("representation", "end", made, "reg_saltanat", "reg_saltanat", CHECK)
        made = self("rec_marzhan", "POST /v1/statutory-requests", whole("request"))
        self.verify_and_end("request", "close", made, "rec_marzhan", "rec_marzhan", CHECK)

    def verify_and_end(
        self, kind: str, event: str, made: httpx.Response, checker: str, ender: str, check: dict[str, Any]
    ) -> None:  # fmt: skip
        """Verify and end a record."""
        path = f"POST /v1/{PATHS[kind]}/{{id_}}"
        self(checker, f"{path}/verify", check, made.json()["id"], headers=etag(made))
        self(ender, f"{path}/{event}", None, made.json()["id"])

    def sessions(self) -> None:
        """Open sessions, close and revoke them, find a misuse and give the right back."""
        path = "POST /v1/emergency-grants"
        misused, other = (self("ed_bolat", path, whole("grant")) for _ in range(2))
        closed = self("ed_bolat", f"{path}/{{id_}}/close", None, misused.json()["id"])
        self("dpo_assel", f"{path}/{{id_}}/revoke", None, other.json()["id"])
        judged = self("dpo_assel", f"{path}/{{id_}}/review", REVIEW | {"verdict": "misuse"}, misused.json()["id"],
                      headers=etag(closed))  # fmt: skip
        self("dpo_aigerim", f"{path}/{{id_}}/reinstate", {"note": "heard, and explained by the shift plan"},
             misused.json()["id"], headers=etag(judged))  # fmt: skip

    def facts(self) -> None:
        """Report patients, records, care and the directory."""
        self("reg_saltanat", "PUT /v1/patients/{id_}", STATUS, "p-new")
        label = {"type": "Observation", "org": "h1", "class": "labs", "labels": []}
        self("mis_h1", "PUT /v1/records/{patient}/{id_}", label, "p-new", "x7")
        stay = {"patient": "p-new", "org": "h1", "form_of_care": "emergency", "start": ago(10)}
        tie = {"patient": "p-new", "org": "h1", "kind": "attachment", "start": ago(10)}
        for path, said in (("episodes", stay), ("relationships", tie)):
            self("mis_h1", f"PUT /v1/{path}/{{id_}}", said, f"{path}-1")
            self("mis_h1", f"POST /v1/{path}", said | {"id": f"{path}-2"})
            many = [said | {"id": f"{path}-3"}, said | {"id": f"{path}-4", "patient": "p-dana"}]
            self("mis_h1", f"POST /v1/{path}/bulk", {"items": [*many, said | {"id": "no", "patient": "p-nobody"}]})
            self("mis_h1", f"POST /v1/{path}/{{id_}}/close", {"patient": "p-new", "org": "h1"}, f"{path}-1")
        for path, entry in (
            ("subjects", {"roles": ["registrar"], "org": "h1", "active": True}),
            ("organisations", {"category": "provider_medical", "undertaking": True, "active": True}),
        ):
            self("admin_timur", f"PUT /v1/{path}/{{id_}}", entry, f"new-{path}")
            self("admin_timur", f"POST /v1/{path}/{{id_}}/deactivate", None, f"new-{path}")

    def blocks_and_proceedings(self) -> None:
        """Block, lift, block again and destroy; open a proceeding, give it away, and move it."""
        said = {"patient": "p-dana", "record": "x1", "class": "labs", "ground": "violation_reported"}
        made = self("dpo_assel", "POST /v1/blocks", said | {"document_ref": "a-1"}).json()["id"]
        lift = {"ground": "not_confirmed", "document_ref": "a-2"}
        self("dpo_assel", "POST /v1/blocks/{id_}/lift", lift, made)
        self("dpo_assel", "POST /v1/blocks", said | {"document_ref": "a-3"})
        gone = {"demand_ref": "demand-1", "method": "overwritten"}
        self("dpo_aigerim", "POST /v1/blocks/{id_}/destroy", gone, made)
        demand = {"kind": "destruction", "patient": "p-dana", "org": "h1", "statement": "a violation"}
        begun = self("dana", "POST /v1/proceedings", demand)
        mine = self("dpo_assel", "POST /v1/proceedings/{id_}/assign", {"owner": "dpo_assel"}, begun.json()["id"],
                    headers=etag(begun))  # fmt: skip
        records = {"records": [{"id": "x2", "class": "labs"}]}
        self("dpo_assel", "POST /v1/proceedings/{id_}/{event}", records, begun.json()["id"], "block",
             headers=etag(mine))  # fmt: skip


def unjournaled(described: dict[str, Any], calls: list[Call], entries: list[dict[str, Any]]) -> list[str]:
    """Return the writing operations that no call made, and the calls that no entry tells: who, what, of which record."""
    all_of_them = {f"{m.upper()} {path}" for path, known in described.items() for m in known if m in WRITES}
    found = [f"{each}: never called" for each in sorted(all_of_them - {call.operation for call in calls})]
    left = [entry for entry in entries if entry["kind"] == "change"]
    for operation, who, answer in calls:
        told, event = answer.json(), answer.request.url.path.rpartition("/")[2]
        wanted = {"operation": operation.replace("{event}", event), "subject": who}
        wanted |= {name: told[name] for name in ("version", "status") if name in told}
        wanted |= {"resource": told.get("id") or told["consent"]} if "items" not in told else {}
        if "items" not in told:
            wanted["content"] = hashlib.sha256(answer.request.content).hexdigest()
        match = next((entry for entry in left if wanted.items() <= entry.items()), None)
        if match is None:
            found.append(f"{operation}: no entry")
        else:
            left.remove(match)
    return found


@pytest.mark.slow
def test_every_writing_route_leaves_an_entry(tmp_path: Path) -> None:
    """Of each operation of the OpenAPI document that writes: who, what, which record, its version, the body's digest."""
    for api in serving(tmp_path):
        walk = Walk(api)
        walk.facts()
        walk.consents()
        walk.records()
        walk.sessions()
        walk.blocks_and_proceedings()
        described = api.client.get("/openapi.json").json()["paths"]
        entries = entries_in(tmp_path / "journal")
        assert unjournaled(described, walk.calls, entries) == []

        changes = [entry for entry in entries if entry["kind"] == "change"]
        decisions = {entry["id"]: at for at, entry in enumerate(entries) if entry["kind"] == "decision"}
        for at, entry in enumerate(entries):
            if entry["kind"] == "change":
                assert decisions[entry["id"]] < at, "the decision comes before the change"
        bulk = [entry for entry in changes if entry["operation"].endswith("/episodes/bulk")]
        assert sorted((e["patient"], e["records"]) for e in bulk) == [
            ("p-dana", ["episodes-4"]), ("p-new", ["episodes-3"]),
        ]  # fmt: skip
        assert (
            len(changes) == len(walk.calls) + 2 + 1
        )  # two patients in each bulk; the consent that names the delegation
        lines = [line for file in (tmp_path / "journal").glob("*.jsonl") for line in file.read_bytes().splitlines(True)]
        assert {read_line(line).kind for line in lines} >= {"change", "decision", "policy"}  # type: ignore[union-attr]

        before = len(changes)
        refused = api.call("dana", "PUT", "subjects/nobody", json={"roles": [], "org": "h1", "active": True})
        again = api.call("reg_saltanat", "POST", "consents", json=verified(), headers={"idempotency-key": "walk-0001"})
        assert (refused.status_code, again.status_code) == (403, 201)
        after = [entry for entry in entries_in(tmp_path / "journal") if entry["kind"] == "change"]
        assert len(after) == before + 1, "a refusal changes nothing; a repeated call is told again"
        first = next(entry for entry in after if entry["operation"] == "POST /v1/consents")
        same = ("operation", "resource", "version", "status", "content")
        assert [first[name] for name in same] == [after[-1][name] for name in same], "and known for the same change"
        assert first["id"] != after[-1]["id"]


# ---- the seam by itself ---------------------------------------------------------------------------------------------


class Point:
    """A decision point whose journal may fail, or wait."""

    def __init__(self) -> None:
        self.kept: list[tuple[ChangeEntry, Named]] = []
        self.fails = False
        self.may_write = asyncio.Event()
        self.may_write.set()

    def stamped(self, change: ChangeEntry) -> ChangeEntry:
        """Return it as it is."""
        return change

    async def record(self, entry: ChangeEntry, named: Named) -> None:
        """Keep an entry, once it may be."""
        await self.may_write.wait()
        if self.fails:
            raise JournalError("no space left on device")
        self.kept.append((entry, named))


def let_in(request: Request, *patients: str) -> None:
    """Do what the gate does."""
    identity = Identity(Subject("user", "reg", SubjectProperties(("registrar",), "h1")), "PATADMIN")
    for patient in patients:
        asked = Asked("update", "update", patient, "r1", type="Consent")
        admitted = Admitted(identity, patient, "role_admin", True, f"d-{patient}")
        request.scope.setdefault(ADMISSIONS, []).append(Admission(asked, admitted, "update", None))


def application(point: Point, module: ModuleType = journaled_changes) -> FastAPI:
    """Build a small application behind the seam."""
    app = FastAPI()
    module.journal_changes(app, point)

    @app.post("/v1/things/{id_}/close")
    async def close(request: Request, id_: str) -> JSONResponse:
        await request.body()
        let_in(request, "p1")
        return JSONResponse({"id": id_, "version": 2, "status": "closed"})

    @app.post("/v1/things/bulk")
    async def bulk(request: Request) -> JSONResponse:
        let_in(request, "p1", "p2", "p3")
        note_written(request, {"p1": ("a", "b"), "p3": ("c",)})
        return JSONResponse({"items": []})

    @app.post("/v1/rogue")
    async def rogue() -> JSONResponse:
        return JSONResponse({"id": "x"})

    @app.post("/v1/refused")
    async def refused(request: Request) -> JSONResponse:
        let_in(request, "p1")
        return JSONResponse({}, 409)

    return app


def client(app: FastAPI) -> httpx.AsyncClient:
    """Return a client of it."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://control")


def test_no_answer_says_done_before_its_entry_lasts() -> None:
    """The answer waits for the journal; one that is sent first is noticed."""

    async def is_early(module: ModuleType) -> bool:
        point = Point()
        point.may_write.clear()
        async with client(application(point, module)) as http:
            task = asyncio.create_task(http.post("/v1/things/t1/close", json={"why": "over"}))
            await asyncio.wait([task], timeout=0.05)
            early = task.done()
            point.may_write.set()
            await task
            await asyncio.sleep(0.01)
            entry, named = point.kept[0]
        assert (entry.operation, entry.version, entry.status) == ("POST /v1/things/{id_}/close", 2, "closed")
        assert (named.subject, named.patient, named.resource) == ("reg", "p1", "t1")
        assert named.content == hashlib.sha256(task.result().request.content).hexdigest()
        return early

    assert not asyncio.run(is_early(journaled_changes))
    hasty = plant(journaled_changes, "await asyncio.wait(tasks)  # whoever", "return  # whoever")
    assert asyncio.run(is_early(hasty))


def test_a_change_that_cannot_be_journaled_is_not_answered_as_done() -> None:
    """503 and an outcome that is unknown; asked again, it is journaled, and so is what was owed; nothing twice."""

    async def go() -> None:
        point = Point()
        point.fails = True
        async with client(application(point)) as http:
            lost = await http.post("/v1/things/t1/close")
            assert (lost.status_code, lost.json()["title"]) == (503, "outcome-unknown")
            assert (await http.post("/v1/things/t2/close")).status_code == 503
            point.fails = False
            assert (await http.post("/v1/things/t1/close")).status_code == 200
            assert [named.resource for _, named in point.kept] == ["t1", "t2", "t1"]
            await asyncio.gather(*(http.post(f"/v1/things/u{n}/close") for n in range(9)))
            assert len(point.kept) == 12

    asyncio.run(go())


def test_a_call_about_many_has_an_entry_for_each_who_was_written() -> None:
    """Each can be erased alone: no entry names two, nor holds the digest of what was said of others."""

    async def go() -> None:
        point = Point()
        async with client(application(point)) as http:
            await http.post("/v1/things/bulk", json={})
            await http.post("/v1/refused")
        said = [(entry.id, named.patient, named.records, named.content) for entry, named in point.kept]
        assert said == [("d-p1", "p1", ("a", "b"), None), ("d-p3", "p3", ("c",), None)]

    asyncio.run(go())


@pytest.fixture
def described() -> dict[str, Any]:
    """Return what the small application says of itself, without what the check leaves out."""
    paths: dict[str, Any] = application(Point()).openapi()["paths"]
    return {path: known for path, known in paths.items() if path in ("/v1/things/{id_}/close", "/v1/rogue")}


def test_a_planted_route_beside_the_gate_or_the_seam_is_noticed(described: dict[str, Any]) -> None:
    """A route that asks nobody has no `who` in its entry, one that the seam passes by has none, one uncalled is named."""
    assert "rogue" in json.dumps(described)

    async def found(module: ModuleType, *paths: str) -> list[str]:
        point = Point()
        async with client(application(point, module)) as http:
            calls = [Call(f"POST {path}", "reg", await http.post(path.replace("{id_}", "t1"))) for path in paths]
        entries = [
            {"kind": entry.kind, "operation": entry.operation, "version": entry.version, "status": entry.status}
            | {name: getattr(named, name) for name in ("subject", "resource", "content")}
            for entry, named in point.kept
        ]  # fmt: skip
        return unjournaled(described, calls, entries)

    both = ("/v1/things/{id_}/close", "/v1/rogue")
    assert asyncio.run(found(journaled_changes, *both)) == ["POST /v1/rogue: no entry"]
    assert asyncio.run(found(journaled_changes, both[0])) == ["POST /v1/rogue: never called"]
    blind = plant(journaled_changes, 'scope["method"] not in CHANGES', 'scope["path"].endswith("/close")')
    assert asyncio.run(found(blind, both[0]))[-1] == "POST /v1/things/{id_}/close: no entry"
