"""Search over HTTP: only for points that are registered for it, whole requests, tokens of the same search."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from ruqsat.core.personal import lifted
from ruqsat.errors import SettingsError
from ruqsat.web.enforcement_points import read_points
from tests.process.starter import Sidecar, question, serving

PUBLIC = "https://pdp.example.com"
METADATA = "/.well-known/authzen-configuration"
TARGETS = ("subject", "resource", "action")
FINDER, PLAIN = b"secret of the finder", b"secret of the plain one"


def searching(target: str, **changes: Any) -> dict[str, Any]:
    """A sound search in the demo world, without the searched entity's id."""
    whole = question()
    if target == "action":
        del whole["action"]
    else:
        del whole[target]["id"]
    return whole | changes


def post(sidecar: Sidecar, target: str, body: Any, **headers: str) -> httpx.Response:
    """Search."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return sidecar.call(
        "json", "POST", f"/access/v1/search/{target}", content=content,
        headers={"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()},
    )  # fmt: skip


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """The demo world of the health pack, and two registered points: one may search, one may not."""
    folder = tmp_path_factory.mktemp("search")
    points = folder / "points.toml"
    points.write_text(
        f'[finder]\nlisteners = ["json"]\nsecret_sha256 = "{sha256(FINDER).hexdigest()}"\nsearch = true\n'
        f'[plain]\nlisteners = ["json"]\nsecret_sha256 = "{sha256(PLAIN).hexdigest()}"\n'
    )
    settings = {"enforcement_points": str(points), "public_url": PUBLIC, "search_candidates_per_minute": "700"}
    with serving(folder, **settings) as process:
        yield process


def test_a_point_that_is_registered_for_it_finds_who_may(sidecar: Sidecar) -> None:
    """Dr Aida of the named hospital is found for Dana's results, the doctor of another hospital is not."""
    secret = {"x_ruqsat_secret": FINDER.decode()}
    subjects = post(sidecar, "subject", searching("subject"), **secret).json()["results"]
    records = post(sidecar, "resource", searching("resource"), **secret).json()["results"]
    actions = post(sidecar, "action", searching("action"), **secret).json()["results"]

    assert {"type": "user", "id": "dr_aida"} in subjects
    assert "dr_erlan" not in {each["id"] for each in subjects}
    assert {"type": "Record", "id": "o1"} in records
    assert {"name": "read"} in actions
    assert {"name": "delete"} not in actions


def test_an_organisation_is_not_found_as_a_person(sidecar: Sidecar) -> None:
    """What is public everybody of the directory may read; the hospital itself is no reader."""
    public = {"type": "Record", "id": "x", "properties": {"class": "public"}}
    found = post(sidecar, "subject", searching("subject", resource=public), x_ruqsat_secret=FINDER.decode()).json()

    ids = {each["id"] for each in found["results"]}
    assert "dr_aida" in ids
    assert "h1" not in ids


@pytest.mark.parametrize("target", TARGETS)
def test_nobody_else_searches(sidecar: Sidecar, target: str) -> None:
    """A point without the flag is 403, a stranger 401; neither is told anything of the world."""
    plain = post(sidecar, target, searching(target), x_ruqsat_secret=PLAIN.decode(), x_request_id="r-7")
    stranger = post(sidecar, target, searching(target), x_request_id="r-8")

    assert (plain.status_code, stranger.status_code) == (403, 401)
    assert (plain.headers["x-request-id"], stranger.headers["x-request-id"]) == ("r-7", "r-8")
    assert "dr_aida" not in plain.text + stranger.text


def test_the_journal_tells_the_searches_of_the_point(sidecar: Sidecar) -> None:
    """One entry a page, with the point's name and how much was found; not whom."""
    before = _searches(sidecar)
    found = post(sidecar, "subject", searching("subject"), x_ruqsat_secret=FINDER.decode()).json()["results"]

    (entry,) = _searches(sidecar)[len(before) :]
    assert (entry["point"], entry["target"], entry["found"]) == ("finder", "subject", len(found))
    assert (entry["action"], entry["patient"], entry["resource"]) == ("read", "p-dana", "o1")


def _searches(sidecar: Sidecar) -> list[dict[str, Any]]:
    lines = [line for file in sorted(sidecar.journal.glob("*.jsonl")) for line in file.read_text().splitlines()]
    entries = [lifted(line.encode()) for line in lines]
    return [entry for entry in (each.get("entry", each) for each in entries) if entry.get("kind") == "search"]


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("subject", b""), ("subject", b"["), ("subject", b"null"), ("subject", searching("subject", subject="x")),
        ("subject", searching("subject", subject={"id": "x"})), ("subject", searching("subject", subject={"type": 1})),
        ("subject", searching("subject", page={"limit": 0})), ("subject", searching("subject", page={"limit": "1"})),
        ("subject", searching("subject", page=[])), ("subject", searching("subject", page={"token": "made up"})),
        ("subject", searching("subject", page={"token": 7})), ("subject", searching("subject", action={"name": 1})),
        ("resource", searching("resource", resource={"type": "Record", "properties": {"labels": "x"}})),
        ("resource", searching("resource", resource={"type": "Record", "properties": {"parts": [{"id": "o1"}]}})),
        ("action", searching("action", context={"consistency_token": "made up"})),
        ("action", b'{"subject":{"type":"user","id":"a"},"subject":{"type":"user","id":"b"},"resource":{"type":"R","id":"1"}}'),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_read_is_400(sidecar: Sidecar, target: str, body: Any) -> None:
    """Wrong kinds, members twice, made-up tokens, several parts."""
    answer = post(sidecar, target, body, x_ruqsat_secret=FINDER.decode())

    assert answer.status_code == 400, answer.text


def test_a_page_token_with_other_entities_is_400(sidecar: Sidecar) -> None:
    """The token goes on with the same search, an id in the searched entity aside, and with no other."""
    secret = {"x_ruqsat_secret": FINDER.decode()}
    first = post(sidecar, "subject", searching("subject", page={"limit": 1}), **secret).json()
    paged = {"page": {"token": first["page"]["next_token"]}}

    same = post(sidecar, "subject", searching("subject") | paged, **secret)
    with_id = post(sidecar, "subject", question() | paged, **secret)
    assert (same.status_code, with_id.json()["results"]) == (200, same.json()["results"])
    for changes in (
        {"action": {"name": "search"}}, {"context": {"purpose": "COC"}}, {"context": {"purpose": "TREAT", "x": 1}},
        {"resource": question(record="o2")["resource"]}, {"subject": {"type": "service"}},
    ):  # fmt: skip
        assert post(sidecar, "subject", searching("subject", **changes) | paged, **secret).status_code == 400, changes
    assert post(sidecar, "action", searching("action") | paged, **secret).status_code == 400


def test_discovery_lists_search_where_somebody_may(sidecar: Sidecar, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the flag three addresses more; without it none, and each is 403."""
    told = sidecar.call("json", "GET", METADATA, headers={"x-ruqsat-secret": FINDER.decode()}).json()
    assert {f"search_{target}_endpoint" for target in TARGETS} <= set(told)

    with serving(tmp_path_factory.mktemp("closed"), public_url=PUBLIC) as closed:
        assert not [name for name in closed.call("json", "GET", METADATA).json() if name.startswith("search")]
        assert {post(closed, target, searching(target)).status_code for target in TARGETS} == {403}


def test_the_budget_of_a_point_ends(sidecar: Sidecar) -> None:
    """After so many candidates a minute: 403 that says why."""
    for _ in range(1_000):
        answer = post(sidecar, "subject", searching("subject"), x_ruqsat_secret=FINDER.decode())
        if answer.status_code != 200:
            break

    assert answer.status_code == 403
    assert "search_budget" in answer.text


def test_search_is_of_the_json_listener_alone(tmp_path: Path) -> None:
    """A point of another listener cannot be registered to search: a proxy searches nothing."""
    file = tmp_path / "points.toml"
    file.write_text('[p]\nlisteners = ["auth"]\nuid = [1]\nsearch = true\n')

    with pytest.raises(SettingsError, match="search"):
        read_points(file, ())
