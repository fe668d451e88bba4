"""Personal fields of records: a marker in each, and every byte that leaves or outlives the process searched for them."""

import asyncio
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import create_engine, select

from ruqsat.stores.sql_schema import metadata
from tests.chaos.canaries import REGISTRIES, Marked, Registry, marked, met
from tests.chaos.fleet import DESK, PLANTED, Fleet, Tokens, fleet
from tests.process.starter import EVALUATION, question, serving
from tests.registry.documents import BIN, OTHER, OWNER, REPRESENTATIVE
from tests.registry.record_documents import PATHS, family_consent
from tests.web.test_records import PEOPLE as WHO
from tests.web.test_records import WRITERS, current

PEOPLE: dict[str, dict[str, Any]] = {
    "desk": DESK,
    "other desk": DESK | {"sub": "reg_zarina", "org": "h2"},
    "owner": {"sub": "dana", "roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
    "physician": {"sub": "dr_aida", "roles": ["physician"], "org": "h1", "purpose_of_use": "TREAT"},
    "stranger": {"sub": "kamal", "roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
}
WATCHED = ("/metrics", "/status", "/health/ready", "/health/live", "/openapi.json")

Places = dict[str, bytes]


class Asked:
    """Calls of everybody about the records of one registry at one process, and each answer with its headers."""

    def __init__(self, base: str, tokens: Tokens, registry: Registry) -> None:
        self._client = httpx.Client(base_url=base, trust_env=False, timeout=20)
        self._tokens, self._registry = tokens, registry
        self.answers: Places = {}
        self.opened = b""

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _call(self, who: str, method: str, path: str, **call: Any) -> httpx.Response:
        headers = self._tokens.bearer(PEOPLE[who]) | call.pop("headers", {})
        answer = self._client.request(method, self._registry.path + path, headers=headers, **call)
        told = json.dumps(dict(answer.headers)).encode() + answer.content
        self.answers[f"{len(self.answers)} {who} {method} {path} {answer.status_code}"] = told
        return answer

    def everything(self, document: dict[str, Any]) -> None:
        """Record, repeat, break, read, list, verify, end: as those who may, and as those who may not."""
        key = {"idempotency-key": secrets.token_hex(12)}
        made = self._call("desk", "POST", "", json=document, headers=key)
        assert (made.status_code, made.json().get("items")) == (201, []), made.text
        self._call("desk", "POST", "", json=document, headers=key)
        self._call("desk", "POST", "", json=document | {"effect": "deny"}, headers=key)
        for field in document:
            self._call("desk", "POST", "", json={name: part for name, part in document.items() if name != field})
        nonsense = json.dumps(document).replace('"Qx', '"\\ud800Qx')
        self._call("desk", "POST", "", content=nonsense.encode())
        self._call("desk", "POST", "", json={"unknown": document, **document})
        self._call("desk", "POST", "", json=[document])
        draft = self._call("desk", "POST", "", json=document | {"verification": None}).json()["consent"]
        for who in PEOPLE:
            self._call(who, "GET", "", params={"patient": document["patient"]})
            self._call(who, "POST", "", json=document, headers={"prefer": "handling=strict"})
            for id_ in (made.json()["consent"], "no-such"):
                answer = self._call(who, "GET", f"/{id_}")
                if who in ("owner", "desk") and answer.status_code == 200:
                    self.opened += self.answers.popitem()[1]
                for event in ("verify", "enter-in-error", "supersede"):
                    self._call(who, "POST", f"/{id_}/{event}", json=document, headers={"if-match": '"7"'})
        self._call("desk", "POST", f"/{draft}/verify", json=document["verification"], headers={"if-match": '"1"'})
        newer = document | {"signature": document["signature"] | {"at": "2026-05-01T09:00:00+05:00"}}
        self._call("desk", "POST", f"/{draft}/supersede", json=newer, headers={"if-match": '"2"'})
        self._call("owner", "POST", f"/{made.json()['consent']}/withdraw")
        for path in WATCHED:
            self.answers[path] = self._client.get(path).content


def other_records(base: str, tokens: Tokens, owner: str) -> Places:
    """
    Write a record of each other kind down, read it as strangers do, and return the answers to those who see no name.

    *owner* is the number that the patient has in verified consents.
    """
    told: Places = {}
    with httpx.Client(base_url=base, trust_env=False, timeout=20) as client:

        def call(who: str, method: str, path: str, **call: Any) -> httpx.Response:
            claims = WHO[who] | {"sub": who, "amr": ["pwd", "mfa"], "auth_time": int(time.time())}
            answer = client.request(method, f"/v1/{path}", headers=tokens.bearer(claims), **call)
            told[f"{len(told)} {who} {method} {path}"] = json.dumps(dict(answer.headers)).encode() + answer.content
            return answer

        named = call("reg_saltanat", "POST", "consents", json=of(owner, family_consent("g-new")))
        assert named.status_code == 201, named.text
        consent = named.json()["consent"]
        for kind, path in PATHS.items():
            document = of(owner, current(kind) | ({"consent": consent} if kind == "delegation" else {}))
            made = call(WRITERS[kind], "POST", path, json=document)
            assert (made.status_code, made.json()["items"]) == (201, []), made.text
            call(WRITERS[kind], "POST", path, json=document | {"unknown": document})
            for who in ("kamal", "reg_zarina", "dr_aida"):
                call(who, "GET", f"{path}/{made.json()['id']}")
                call(who, "GET", path, params={"patient": document["patient"]})
    return told


def of(owner: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with the owner's number."""
    renamed: dict[str, Any] = json.loads(json.dumps(document).replace(OWNER, owner))
    return renamed


def unsealed(places: Places) -> set[str]:
    """Return where a name or a number of those records stands in clear."""
    return {
        place
        for place, content in places.items()
        for trace in ("CANARY", OWNER, REPRESENTATIVE, OTHER, BIN)
        if trace.encode() in content or trace.encode("utf-16-le") in content
    }


def decisions(addresses: Sequence[str], document: dict[str, Any]) -> Places:
    """Return what processes decide about the patient: with reasons, over the JSON listener."""
    told = {}
    for address in addresses:
        for who in ("dr_aida", "dr_erlan", "saule"):
            body = question(who, patient=document["patient"])
            answer = httpx.post(f"http://{address}{EVALUATION}", json=body, trust_env=False, timeout=20)
            told[f"decision at {address} about {who}"] = answer.content
    return told


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file under a folder: databases and logs of theirs, journals, output."""
    for path in folder.rglob("*"):
        if path.is_file() and "wheel" not in path.parts:
            yield str(path.relative_to(folder)), path.read_bytes()


def rows(url: str) -> Places:
    """Return every row of every table, as the driver reads them: what a page of a file holds may be compressed."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return {
                f"table {table.name}": b"\n".join(
                    b"|".join(each if isinstance(each, bytes) else str(each).encode() for each in row)
                    for row in connection.execute(select(table))
                )
                for table in metadata.sorted_tables
            }
    finally:
        engine.dispose()


async def redis_bytes(port: int) -> Places:
    """Return every key, its value as it is and as the server would write it to a disk, and its streams."""
    found: Places = {}
    async with Redis(port=port) as client:
        async for name in client.scan_iter():
            kind = await client.type(name)
            value = await (client.xrange(name) if kind == b"stream" else client.get(name))
            entries = b"".join(b"".join(fields.values()) for _, fields in value) if kind == b"stream" else value
            found[f"redis {name.decode()}"] = name + b"\n" + entries + b"\n" + await client.dump(name)
    return found


async def run(documents: dict[Registry, Marked]) -> tuple[Places, dict[Registry, bytes]]:
    """Let two processes live through everything; return all that is left of it, and what the owner could read."""
    places, opened = Places(), dict[Registry, bytes]()
    async with fleet(["a", "b"], [], [], log_level="debug") as running:
        one, two = running.nodes
        addresses = [node.sidecar.addresses["json"] for node in running.nodes]
        for registry, marked_ in documents.items():
            asked = Asked(str(one.control.base_url), running.tokens, registry)
            await asyncio.to_thread(asked.everything, marked_.document)
            told = await asyncio.to_thread(decisions, addresses, marked_.document) | asked.answers
            places |= {f"{registry.name}: {place}": content for place, content in told.items()}
            opened[registry] = asked.opened
            asked.close()
        owner = documents[REGISTRIES[0]].document["owner"]["iin"]
        places |= await asyncio.to_thread(other_records, str(one.control.base_url), running.tokens, owner)
        for patient in ("p-dana", "p-marat"):
            places |= await asyncio.to_thread(decisions, addresses, {"patient": patient})
        places |= {path: (await two.control.get(path)).content for path in WATCHED}
        await asyncio.sleep(0.5)  # what is offered to Redis goes there by and by
        places |= await redis_bytes(running.valkey.server.port)
        assert any(place.startswith("redis") and "facts" in place for place in places)
        for node in running.nodes:
            node.sidecar.send_signal()
            await asyncio.to_thread(node.sidecar.wait)
        places |= await asyncio.to_thread(left_behind, running)
    return places, opened


def left_behind(running: Fleet) -> Places:
    """Return what outlives the processes."""
    running.postgres.execute("CHECKPOINT")
    return rows(running.url.replace("postgresql://", "postgresql+psycopg://")) | dict(
        files(running.nodes[0].sidecar.folder.parent)
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_personal_field_is_anywhere_but_under_the_seal() -> None:
    """Not in Redis, a log, a metric, a status, an error, a decision, the journal, the feed, or any table or file in clear."""
    documents = {registry: marked(registry) for registry in REGISTRIES}
    places, opened = asyncio.run(run(documents))
    print(f"looked in {len(places)} places, {sum(map(len, places.values()))} bytes")

    for registry, marked_ in documents.items():
        print(f"{registry.name}: {len(marked_.markers)} fields")
        assert met(marked_.markers, places) == {}
        # They are kept, though: whoever may read the document reads every one of them.
        assert met(marked_.markers, {"opened": opened[registry]}) == {"opened": sorted(marked_.markers)}
    assert unsealed({kind: json.dumps(current(kind)).encode() for kind in PATHS}) == {*PATHS}
    assert unsealed(places) == set()
    for kind in ("journal", "stdout", "table consent_record", "table feed", "redis", "/metrics", "postgres/data/base"):
        assert any(kind in place and content for place, content in places.items()), kind


@pytest.mark.slow
def test_a_registry_that_does_not_seal_is_found_out(tmp_path: Path) -> None:
    """The same look finds the fields in the database of a sidecar with that bug."""
    marked_, tokens = marked(REGISTRIES[0]), Tokens()
    program = (PLANTED, "records not sealed")
    with serving(tmp_path, program=program, auth_listen="off", **tokens.settings) as sidecar:
        asked = Asked(f"http://{sidecar.addresses['control']}", tokens, REGISTRIES[0])
        answer = asked._call("desk", "POST", "", json=marked_.document)
        assert answer.status_code == 201, answer.text
        asked.close()
    found = met(marked_.markers, dict(files(tmp_path)))

    assert any("ruqsat.db" in place for place in found)
    assert set().union(*found.values()) >= {"owner.surname", "owner.iin", "representative.address"}
