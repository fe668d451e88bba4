"""Every scenario again, against a running sidecar: its memory stale, warm and cold; and what fixtures may never do."""

import json
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from ruqsat.cli.conformance import read_scenarios
from ruqsat.core.conformance import situation_of
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.policy_set import PolicySet
from ruqsat.errors import RequestError
from ruqsat.service.answer import Answer, obligation_of
from ruqsat.web.fixtures import nobody, unknown
from ruqsat.web.wire import decode_answer, encode_answer
from tests.process.starter import (
    NotStartedError,
    Sidecar,
    environment,
    question,
    run_cli,
    serving,
)

HERE = Path(__file__).parent
SCENARIOS = HERE / "scenarios.yaml"
FILE = read_scenarios(SCENARIOS)
FIXTURES = "/test/fixtures"
FLAG = ("--test-fixtures",)
STATES = ["stale", "warm", "cold"]
AIDA = {"id": "dr_aida", "roles": ["physician"], "org": "h1"}


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A real process whose tests may set facts, time and switches."""
    # A long lease: what is counted here must not depend on how busy the machine is.
    with serving(tmp_path_factory.mktemp("fixtures"), demo=False, arguments=FLAG, lease_seconds="60") as process:
        yield process


def url_of(sidecar: Sidecar) -> str:
    """Where it listens for AuthZEN."""
    return f"http://{sidecar.addresses['json']}"


def run(folder: Path, sidecar: Sidecar, *words: str, file: Path = SCENARIOS) -> "subprocess.CompletedProcess[str]":
    """Run the scenarios of a file against a sidecar."""
    return run_cli(folder, "conformance", str(file), "--http", url_of(sidecar), *words, timeout=150)


def load(sidecar: Sidecar, **fixtures: Any) -> Any:
    """Load fixtures; return the answer."""
    return sidecar.call("json", "POST", FIXTURES, json=fixtures)


def cut(folder: Path, *changes: tuple[str, dict[str, Any]]) -> Path:
    """Write a file that holds the first scenario once as it is, and once with each change of its parts."""
    whole = yaml.safe_load(SCENARIOS.read_text())
    first = whole["scenarios"][0]
    whole["scenarios"] = [first] + [
        {**first, "id": name} | {part: {**first.get(part, {}), **new} for part, new in change.items()}
        for name, change in changes
    ]
    path = folder / "cut.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


def few(folder: Path, every: int, first: int = 0, text: str | None = None) -> Path:
    """Write a file that holds some of the scenarios of *text*, from the *first* on."""
    whole = yaml.safe_load(text or SCENARIOS.read_text())
    whole["scenarios"] = whole["scenarios"][first::every]
    path = folder / "few.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


@pytest.mark.slow
def test_every_scenario_is_met_over_http_stale_warm_and_cold(sidecar: Sidecar, tmp_path: Path) -> None:
    """All three askings of each; at least the second of each is answered from memory, and two from the store."""
    before = sidecar.call("control", "GET", "/status").json()["cache"]
    done = run(tmp_path, sidecar, "--json", "--seed", "54")
    after = sidecar.call("control", "GET", "/status").json()["cache"]

    said = json.loads(done.stdout)
    assert [each for each in said["scenarios"] if each["differences"]] == []
    assert (done.returncode, said["seed"], len(said["scenarios"])) == (0, 54, len(FILE.scenarios))
    assert after["hits"] - before["hits"] >= len(FILE.scenarios)
    assert after["fills"] - before["fills"] >= 2 * len(FILE.scenarios)


@pytest.mark.slow
def test_a_changed_expectation_is_told_with_expected_and_got(sidecar: Sidecar, tmp_path: Path) -> None:
    """Exit 1; the table and the machine form say what differed, and in which of the three askings."""
    text = SCENARIOS.read_text().replace("reason: allow.care_consent", "reason: allow.consent")
    wrong = few(tmp_path, 2, text=text)

    table, data = run(tmp_path, sidecar, file=wrong), run(tmp_path, sidecar, "--json", file=wrong)

    assert (table.returncode, data.returncode) == (1, 1)
    assert "stale, warm, cold: reason: expected 'allow.consent', got 'allow.care_consent'" in table.stdout
    failed = [each for each in json.loads(data.stdout)["scenarios"] if each["differences"]]
    assert json.loads(data.stdout)["failed"] == len(failed) > 0
    assert failed[0]["differed"] == STATES
    assert failed[0]["decision"]["reason"] == "allow.care_consent"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "wrong"),
    [("decision", "permit"), ("reason", "deny.default"), ("basis", "self"), ("obligations", ["review:72"]), ("applied", ["x"])],
)  # fmt: skip
def test_each_part_of_an_answer_is_compared(sidecar: Sidecar, tmp_path: Path, part: str, wrong: Any) -> None:
    """Decision, reason, basis, obligations and documents, in process and over HTTP."""
    file = cut(tmp_path, ("Z01", {"expect": {part: wrong}}))

    for done in (run(tmp_path, sidecar, "--json", file=file), run_cli(tmp_path, "conformance", str(file), "--json")):
        sound, changed = json.loads(done.stdout)["scenarios"]
        assert (done.returncode, sound["differences"]) == (1, [])
        assert len(changed["differences"]) == 1
        assert f"{part}: expected {wrong!r}, got" in changed["differences"][0]


@pytest.mark.slow
def test_stale_answers_are_seen(tmp_path: Path) -> None:
    """Planted: own changes are not learnt, so that memory answers from before them; the cold answers stay right."""
    with serving(tmp_path, demo=False, program=(str(HERE / "unlearned.py"),), arguments=FLAG) as spoilt:
        done = run(tmp_path, spoilt, "--json", file=few(tmp_path, 3))

    differed = [each["differed"] for each in json.loads(done.stdout)["scenarios"] if each["differences"]]
    assert done.returncode == 1
    assert sum("stale" in states for states in differed) > 7
    assert not any("cold" in states for states in differed)


@pytest.mark.slow
def test_stock_pycasbin_meets_every_scenario_in_the_same_sidecar(tmp_path: Path) -> None:
    """`--oracle`: the same answers, slowly; `/status` says who decides.  A third for every change, all in a soak."""
    every = 1 if os.environ.get("RUQSAT_TEST_LONGER", "1") != "1" else 3
    first = random.randrange(every)
    print(f"every {every} from {first} on")
    with serving(tmp_path, demo=False, arguments=(*FLAG, "--oracle")) as process:
        done = run(tmp_path, process, "--json", file=few(tmp_path, every, first))
        assert process.call("control", "GET", "/status").json()["decides"] == "stock pycasbin"

    assert [each for each in json.loads(done.stdout)["scenarios"] if each["differences"]] == []
    assert done.returncode == 0


@pytest.mark.slow
def test_it_is_the_oracle_that_decides(tmp_path: Path) -> None:
    """Planted: an oracle that denies everything is heard in every scenario, and before any fixture."""
    planted = (
        "from ruqsat.casbin.decider import OracleDecider; from ruqsat.core.decision import deny\n"
        "OracleDecider.decide = lambda *asked: deny('deny.planted')\nfrom ruqsat.cli.main import run; run()"
    )
    with serving(tmp_path, demo=False, program=("-c", planted), arguments=(*FLAG, "--oracle")) as process:
        assert process.evaluate().json()["context"]["explain"]["reason"] == "deny.planted"
        done = run(tmp_path, process, "--json", file=few(tmp_path, 8))

    said = json.loads(done.stdout)
    assert said["failed"] == len(said["scenarios"]) > 15


def test_whoever_looks_sees_that_fixtures_are_on(sidecar: Sidecar) -> None:
    """Status, readiness, a metric, the log and the first line of output say it."""
    assert sidecar.call("control", "GET", "/status").json()["test_fixtures"] is True
    ready = sidecar.call("control", "GET", "/health/ready")
    body = ready.json()
    assert "self" in body.pop("serves")
    assert (ready.status_code, body) == (200, {
        "status": "ready for tests only", "test_fixtures": True,
        "warning": "test fixtures: answers are not about real people",
    })  # fmt: skip
    assert "ruqsat_test_fixtures 1.0" in sidecar.call("control", "GET", "/metrics").text
    assert "test_fixtures_are_on" in sidecar.stderr
    assert sidecar.stdout.startswith("TEST FIXTURES ARE ON")


@pytest.mark.slow
def test_without_the_flag_there_is_nothing_of_it(tmp_path: Path) -> None:
    """The path is like any unknown one, on every listener; the run ends with one line and exit code 2."""
    with serving(tmp_path) as usual:
        for listener in ("json", "control"):
            there, nowhere = (usual.call(listener, "POST", path, json={}) for path in (FIXTURES, "/test/nonsense"))
            assert (there.status_code, there.content, dict(there.headers)) == (
                nowhere.status_code, nowhere.content, dict(nowhere.headers),
            )  # fmt: skip
        assert (load(usual).status_code, usual.call("auth", "POST", FIXTURES).status_code) == (404, 403)
        assert usual.evaluate().json()["decision"] is True
        assert usual.call("control", "GET", "/status").json()["test_fixtures"] is False
        assert usual.call("control", "GET", "/health/ready").json()["status"] == "ready"
        done = run(tmp_path, usual)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == (
        f"error[not-a-test-sidecar]: {url_of(usual)} takes no test fixtures: start it with `serve --test-fixtures`"
    )


@pytest.mark.slow
def test_a_process_that_serves_people_never_imports_it(tmp_path: Path) -> None:
    """Neither the fixtures nor pycasbin as a decider are in a process that was started without the flag."""
    looks = (
        "import asyncio, sys; from ruqsat.settings import load_settings; from ruqsat.wiring import open_process\n"
        "async def main():\n    async with open_process(load_settings(auth_listen='off')): pass\n"
        "asyncio.run(main()); print([n for n in sys.modules if 'fixtures' in n or n in ('casbin', 'ruqsat.casbin')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", looks],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        check=True,
        cwd=tmp_path,
    )

    assert done.stdout.strip() == "[]"


def test_only_the_command_line_turns_it_on(tmp_path: Path) -> None:
    """No variable and no file can; nor does it start where others could reach it, nor the oracle without it."""
    (tmp_path / "config.toml").write_text("test_fixtures = true\n")
    for words, settings in (
        ((), {"test_fixtures": "true"}),
        ((), {"config": str(tmp_path / "config.toml")}),
        (("--test-fixtures", "--json-listen", "0.0.0.0:0"), {}),
        (("--test-fixtures", "--control-listen", "0.0.0.0:0"), {}),
        (("--oracle",), {}),
    ):
        with pytest.raises(NotStartedError) as refused, serving(tmp_path, arguments=words, **settings):
            pass
        assert refused.value.code == 2, words
        assert len(refused.value.stderr.strip().splitlines()) == 1, words


def test_fixtures_replace_those_before(sidecar: Sidecar, policy_set: PolicySet) -> None:
    """Whoever was loaded before and is not named now is nobody; the moment and the switches go back as well."""
    scenario = next(each for each in FILE.scenarios if each.expect.reason == "allow.consent" and not each.policy)
    request, facts, now = situation_of(FILE, scenario, policy_set.vocabulary.switches)
    subjects, patients = [msgspec.to_builtins(facts.subject)], [msgspec.to_builtins(facts.patient)]

    def reason(**fixtures: Any) -> str:
        """Load, ask, and return the exact reason."""
        assert load(sidecar, **fixtures).status_code == 200
        told: str = sidecar.evaluate(msgspec.to_builtins(request)).json()["context"]["explain"]["reason"]
        return told

    assert reason(subjects=subjects, patients=patients, now=now.hi) == "allow.consent"
    assert reason(subjects=subjects, now=now.hi) == "deny.consent.none"
    assert reason(patients=patients, now=now.hi) == "deny.subject.inactive"
    assert reason(subjects=subjects, patients=patients, now="2036-11-24T10:00:00Z") == "deny.consent.expired"
    assert load(sidecar, policy={"small_cell_min": 9}).json()["switches"]["small_cell_min"] == 9
    assert load(sidecar).json()["switches"]["small_cell_min"] == 5


def test_memory_is_dropped_when_asked_and_only_then(sidecar: Sidecar) -> None:
    """What no fixture touched is answered from memory, until a fixture says `forget`."""

    def readings() -> int:
        """Ask about two whom nobody knows; return how often the store was read so far."""
        sidecar.evaluate(question(subject="x", patient="y"))
        fills: int = sidecar.call("control", "GET", "/status").json()["cache"]["fills"]
        return fills

    load(sidecar)
    first = readings()
    load(sidecar)
    assert readings() == first
    load(sidecar, forget=True)
    assert readings() == first + 1


def test_who_is_gone_is_decided_like_nobody(policy_set: PolicySet) -> None:
    """The facts that stand in for a subject or a patient who is gone decide as their absence does, in every scenario."""
    for scenario in FILE.scenarios:
        request, facts, now = situation_of(FILE, scenario, policy_set.vocabulary.switches)
        patient = request.resource.properties.patient if request.resource.properties is not None else None
        for gone, stand_in in (
            ({"subject": None}, {"subject": nobody(request.subject.id)}),
            ({"patient": None}, {"patient": unknown(patient) if patient is not None else None}),
        ):
            absent, replaced = (
                evaluate(policy_set, request, msgspec.structs.replace(facts, **each), now) for each in (gone, stand_in)
            )
            assert absent == replaced, scenario.id


def test_a_request_may_only_narrow_what_its_enforcement_point_can_do(sidecar: Sidecar, policy_set: PolicySet) -> None:
    """By default everything can be done; with fewer capabilities stated, what needs one more is denied."""
    scenario = next(each for each in FILE.scenarios if each.id == "J01")
    request, facts, now = situation_of(FILE, scenario, policy_set.vocabulary.switches)
    load(
        sidecar,
        subjects=[msgspec.to_builtins(facts.subject)],
        patients=[msgspec.to_builtins(facts.patient)],
        now=now.hi,
    )
    wire = msgspec.to_builtins(request)
    narrow = wire | {"context": wire["context"] | {"pep_capabilities": ["deidentify"]}}

    assert sidecar.evaluate(wire).json()["decision"] is True
    assert sidecar.evaluate(narrow).json()["context"]["explain"]["reason"] == "deny.obligation.unsupported"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"\xff", b'{"subjects": [{}]}', b'{"subject": []}', b'{"policy": {"no_such_switch": 1}}',
        b'{"policy": {"small_cell_min": "x"}}', b'{"now": "yesterday"}', b'{"now": "2026-11-24T10:00:00"}',
        b'{"patients": [{"id": "p", "consents": [{}]}]}',
    ],
)  # fmt: skip
def test_fixtures_that_cannot_be_read_change_nothing(sidecar: Sidecar, body: bytes) -> None:
    """400 with a sentence; the facts before stay."""
    load(sidecar, subjects=[AIDA])
    answer = sidecar.call("json", "POST", FIXTURES, content=body, headers={"content-type": "application/json"})

    assert (answer.status_code, answer.text != "") == (400, True)
    assert sidecar.evaluate().json()["context"]["explain"]["reason"] != "deny.subject.inactive"


def test_fixtures_are_json_and_posted(sidecar: Sidecar) -> None:
    """What a page in a browser could send without asking is refused; so is any other method."""
    assert sidecar.call("json", "POST", FIXTURES, content=b"{}").status_code == 400
    assert (
        sidecar.call("json", "POST", FIXTURES, content=b"{}", headers={"content-type": "text/plain"}).status_code == 400
    )
    assert sidecar.call("json", "GET", FIXTURES).status_code == 405


STRANGE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Z01", {"request": {"context": {"relationship": "friendship"}}}),
    ("Z02", {"request": {"context": {"cohort_size": "many"}}}),
    ("Z03", {"request": {"now": "yesterday"}}),
    ("Z04", {"given": {"consents": ["no_such"]}}),
    ("Z05", {"policy": {"no_such_switch": True}}),
    ("Z06", {"policy": {"btg": {"max_hours": "four"}}}),
    ("Z07", {"request": {"subject": ""}}),
)


def test_a_scenario_that_cannot_be_run_is_its_own_difference(sidecar: Sidecar, tmp_path: Path) -> None:
    """The others are run, in process and over HTTP; what is wrong is told."""
    file = cut(tmp_path, *STRANGE)

    for done in (run(tmp_path, sidecar, "--json", file=file), run_cli(tmp_path, "conformance", str(file), "--json")):
        sound, *strange = json.loads(done.stdout)["scenarios"]
        assert (done.returncode, sound["differences"], len(strange)) == (1, [], len(STRANGE))
        for each in strange:
            assert each["decision"] is None
            assert each["differences"][0].startswith("cannot be run: "), each
    assert "`no_such` is not in the file" in strange[3]["differences"][0]


FURTHER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("A91", {"policy": {"btg": {"require_episode": False}, "adolescent_shield": {"enabled": True, "from_age": 15}}}),
    ("A92", {"request": {"context": {"weather": {"rain": [1, 2, None]}, "own_episode": True, "supervised_by": "dr2_h1"}}}),
    ("A93", {"request": {"resource": {
        "class": "labs", "patient": "p1", "labels": None, "conf": "R", "type": "Observation", "id": "o7", "author": "dr_h1",
        "encounter": "e1", "created": "2026-01-01", "deidentified": False, "blocked": False, "self_consented": False,
    }}}),
    ("A94", {"request": {"purpose": None}}),
    ("A95", {"request": {"purpose": ["TREAT", "HPAYMT"], "http": "GET /x", "now": "2026-11-24T10:00:00Z"}}),
    ("A96", {"request": {"subject": "nobody_knows", "resource": {"patient": "p99", "class": "labs"}}}),
    ("A97", {"given": {"consents": ["c_h1"], "delegations": [], "btg": [], "reps": [], "store_down": True}}),
    ("A98", {"request": {"parts": [{"class": "labs", "id": "o1"}, {"class": "labs", "id": "o2", "patient": "p5"}], "atomic": True}}),
)  # fmt: skip


@pytest.mark.slow
def test_any_further_file_of_the_schema_is_run(sidecar: Sidecar, tmp_path: Path) -> None:
    """Whatever the schema admits: partial switches, free context, every key of a resource; both ways answer alike."""
    file = cut(tmp_path, *FURTHER)
    schema = json.loads((HERE / "scenarios.schema.json").read_text())
    Draft202012Validator(schema).validate(yaml.safe_load(file.read_text()))

    over_http = json.loads(run(tmp_path, sidecar, "--json", file=file).stdout)["scenarios"]
    in_process = json.loads(run_cli(tmp_path, "conformance", str(file), "--json").stdout)["scenarios"]

    assert [each["id"] for each in over_http if each["decision"] is None] == []
    assert [each["decision"] for each in over_http] == [each["decision"] for each in in_process]


@pytest.mark.slow
def test_instants_may_be_written_as_yaml_writes_them(tmp_path: Path) -> None:
    """The file without the quotes around its dates and instants, which YAML then reads by itself, is the same file."""
    text = yaml.safe_dump(yaml.safe_load(SCENARIOS.read_text())).replace("'20", "20").replace("'19", "19")
    bare = tmp_path / "bare.yaml"
    bare.write_text(
        "\n".join(line.removesuffix("'") if ": 20" in line or ": 19" in line else line for line in text.split("\n"))
    )
    read: Any = yaml.safe_load(bare.read_text())
    assert type(read["defaults"]["now"]).__name__ == "datetime"
    assert type(read["fixtures"]["patients"]["p1"]["birth_date"]).__name__ == "date"

    done = run_cli(tmp_path, "conformance", str(bare))

    assert done.returncode == 0, done.stdout[-2000:]


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Something that answers every call the same; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        """Answers."""

        def do_POST(self) -> None:
            """Answer as told."""
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def loaded(**changes: Any) -> bytes:
    """What a sidecar answers to a loading."""
    return json.dumps({"token": "t", "policy": "p", "switches": {}} | changes).encode()


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"{}"), (200, b"<html>"), (200, b"\xff"), (500, b""), (405, b""), (401, b""), (200, loaded()), (200, loaded(decision=True))],
)  # fmt: skip
def test_what_is_no_test_sidecar_ends_the_run(tmp_path: Path, status: int, body: bytes) -> None:
    """One line, exit code 2, whatever answers there."""
    with answering(status, body) as url:
        done = run_cli(tmp_path, "conformance", str(SCENARIOS), "--http", url)

    assert (done.returncode, done.stdout, len(done.stderr.strip().splitlines())) == (2, "", 1), done.stderr


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}", "127.0.0.1:{port}", "unix:/no/such", "gopher://x", "http://[", "http://x:y"]
)
def test_nobody_at_the_url_ends_the_run(tmp_path: Path, url: str) -> None:
    """Where nobody answers at the URL, the run ends with one line and exit code 2."""
    done = run_cli(tmp_path, "conformance", str(SCENARIOS), "--http", url.format(port=free_port()))

    assert (done.returncode, done.stdout, len(done.stderr.strip().splitlines())) == (2, "", 1), done.stderr


def test_a_sidecar_that_hides_its_reasons_ends_the_run() -> None:
    """An answer without the exact reason cannot be compared."""
    answer = Answer("a-1", Decision(True, "allow.self", "self"), "permitted", (), "p", "t")

    with pytest.raises(RequestError, match="no exact reason"):
        decode_answer(encode_answer(answer, explain=False))


def test_an_answer_is_read_back_as_it_was_decided(policy_set: PolicySet) -> None:
    """Every duty, with and without its parameter, survives the wire."""
    duties = (*policy_set.vocabulary.duties, "review:72", "redact:o2", "redact:c1/_history/1", "redact:a:b")
    plain = tuple(duty for duty in duties if duty != "review")
    decision = Decision(True, "allow.partial", "consent", "consent-01", ("R3",), plain, ("c_h1",))
    answer = Answer(
        "a-1", decision, "permitted", tuple(obligation_of("a-1", n, duty) for n, duty in enumerate(plain, 1)), "p", "t"
    )

    assert msgspec.structs.replace(decode_answer(encode_answer(answer, explain=True)), rule="consent-01") == decision
