"""The control listener: health, status, and a withdrawal that stops the very next request."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from ruqsat.cli.consent import app
from ruqsat.errors import OutcomeUnknownError
from ruqsat.process_state import ProcessState
from tests.process.checker import entries_in
from tests.process.starter import Sidecar, question, run_cli, serving

WITHDRAW = "/v1/consents/c-dana-h1/withdraw"


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    """A real process with the demo world."""
    with serving(tmp_path) as process:
        yield process


def test_a_withdrawn_consent_opens_nothing_from_the_answer_on(sidecar: Sidecar) -> None:
    """The patient withdraws; the next evaluation is denied, also one that carries the token; the journal has it."""
    assert sidecar.evaluate().json()["decision"] is True

    answer = sidecar.call("control", "POST", WITHDRAW, headers=sidecar.bearer("dana"))

    assert answer.status_code == 200
    assert sidecar.evaluate().json()["decision"] is False
    assert sidecar.evaluate(question(consistency_token=answer.json()["token"])).json()["decision"] is False
    control = [entry for entry in entries_in(sidecar.journal) if entry.get("listener") == "control"]
    writes = [entry for entry in control if entry["kind"] != "change"]
    assert [entry["operation"] for entry in control if entry not in writes] == ["POST /v1/consents/{consent}/withdraw"]
    assert [(entry["subject"], entry["allowed"]) for entry in writes] == [("dana", True)]


def test_nobody_else_can_withdraw_and_learns_nothing(sidecar: Sidecar) -> None:
    """Without a token 401; with another's, the answer for a consent that exists and one that does not is the same."""
    missing = sidecar.call("control", "POST", WITHDRAW)
    assert (missing.status_code, missing.headers["www-authenticate"][:6]) == (401, "Bearer")

    real, unknown = (
        sidecar.call("control", "POST", path, headers=sidecar.bearer("dr_aida"))
        for path in (WITHDRAW, "/v1/consents/no-such/withdraw")
    )
    assert real.status_code == unknown.status_code == 403
    assert real.content == unknown.content
    assert real.headers["content-type"] == "application/problem+json"
    assert sidecar.evaluate().json()["decision"] is True


def test_the_command_line_withdraws_through_the_control_api(
    sidecar: Sidecar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    `ruqsat consent withdraw` needs the control address and a token; a refusal is one line and exit code 2.

    A proxy that the environment names is not asked: it would be handed the token.
    """
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    control, words = sidecar.addresses["control"], ("consent", "withdraw", "c-dana-h1", "--control")

    refused = run_cli(tmp_path, *words, control, "--token", sidecar.tokens["dr_aida"])
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1)
    assert refused.stderr.startswith("error[refused]")  # and not that nobody knows what became of it
    assert sidecar.evaluate().json()["decision"] is True

    done = run_cli(tmp_path, *words, control, "--token", sidecar.tokens["dana"])
    assert (done.returncode, done.stderr) == (0, "")
    assert sidecar.evaluate().json()["decision"] is False


@pytest.mark.parametrize("body", [b"<html>please sign in</html>", b'{"consent":"another","token":"t"}', b"{}"])
def test_what_is_no_control_api_withdraws_nothing(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """A page that answers 200, such as a proxy's to sign in at, is no withdrawal: the command fails and says so."""
    answer = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    monkeypatch.setattr(
        "ruqsat.cli.consent.open_client", lambda address: httpx.Client(base_url=address, transport=answer)
    )

    done = CliRunner().invoke(app, ["withdraw", "c-dana-h1", "--control", "http://127.0.0.1:1", "--token", "t"])

    assert (done.exit_code, isinstance(done.exception, OutcomeUnknownError), done.output) == (1, True, "")


def test_the_id_of_a_consent_leads_to_no_other_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in it is one segment of the path that is asked for."""
    asked: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return httpx.Response(404, json={"detail": "no such consent"})

    monkeypatch.setattr(
        "ruqsat.cli.consent.open_client",
        lambda address: httpx.Client(base_url=address, transport=httpx.MockTransport(answer)),
    )
    CliRunner().invoke(app, ["withdraw", "../patients/p?x#y", "--control", "http://127.0.0.1:1", "--token", "t"])

    assert asked == [b"/v1/consents/..%2Fpatients%2Fp%3Fx%23y/withdraw"]


def test_a_withdrawal_outlives_a_restart(tmp_path: Path) -> None:
    """What was answered is on disk: a process that starts again honours it."""
    with serving(tmp_path) as process:
        assert process.call("control", "POST", WITHDRAW, headers=process.bearer("dana")).status_code == 200
        process.kill()
    with serving(tmp_path) as process:
        assert process.evaluate().json()["decision"] is False


def test_health_and_status_tell_what_is_in_force(sidecar: Sidecar) -> None:
    """Live, ready, the policy digest, switches and freshness; no person stands in any of it."""
    sidecar.evaluate()
    assert sidecar.call("control", "GET", "/health/live").json() == {"status": "live"}
    assert sidecar.call("control", "GET", "/health/ready").json()["status"] == "ready"
    status = sidecar.call("control", "GET", "/status")
    assert status.json()["switches"]["require_care_relationship"] is True
    assert status.json()["lease_age_seconds"] < 5
    metrics = sidecar.call("control", "GET", "/metrics").text
    for name in ("ruqsat_decisions_total", "ruqsat_decision_seconds_bucket", "ruqsat_journal_sync_seconds_bucket",
                 "ruqsat_cache_hits_total", "ruqsat_lease_age_seconds"):  # fmt: skip
        assert name in metrics
    for text in (status.text, metrics):
        assert "dr_aida" not in text and "p-dana" not in text
    paths = sidecar.call("control", "GET", "/openapi.json").json()["paths"]
    assert "/v1/consents/{consent}/withdraw" in paths
    # Any of them may be asked for by what is no name of anything, and that is a 404.
    under_v1 = {
        (path, method): told["responses"]
        for path in paths
        if path.startswith("/v1/")
        for method, told in paths[path].items()
    }
    assert [each for each, responses in under_v1.items() if "404" not in responses] == []


@pytest.mark.parametrize(
    ("part", "what", "is_so", "reason"),
    [
        ("information", "lease", False, "no lease"),
        ("follower", "denies", True, "must apply"),
        ("journal", "healthy", False, "cannot be written: full"),
        ("journal", "is_hanging", True, "does not answer"),
        ("keys", "are_known", False, "no keys of the token issuer"),
        ("state", "_draining", True, "draining"),
    ],
)
def test_a_process_that_would_allow_nothing_is_not_ready(part: str, what: str, is_so: bool, reason: str) -> None:
    """Each reason by itself, and none where all is well; in degraded mode it is ready for what it still allows."""
    information = SimpleNamespace(lease=True, is_degraded=False, has_lease=lambda: information.lease)
    journal = SimpleNamespace(healthy=True, is_hanging=False, trouble="full")
    follower = SimpleNamespace(denies=False)
    rest: tuple[Any, ...] = (None, None, information, journal, None, None)
    state = ProcessState(*rest)
    keys = SimpleNamespace(are_known=True)
    state.follower, state.keys = follower, keys  # type: ignore[assignment]
    assert state.not_ready_because() == []

    parts = {"information": information, "journal": journal, "follower": follower, "keys": keys, "state": state}
    setattr(parts[part], what, is_so)
    (told,) = state.not_ready_because()
    assert reason in told
    information.is_degraded = True
    assert state.not_ready_because() == ([] if part == "information" else [told])


def test_what_is_not_there_is_a_problem_document_too(sidecar: Sidecar) -> None:
    """An unknown path and a wrong method are answered like every other refusal, and repeat nothing of the request."""
    for method, path, status, code in (
        ("GET", "/v1/canary", 404, "not-found"),
        ("DELETE", "/status", 405, "method-not-allowed"),
    ):
        answer = sidecar.call("control", method, path)

        assert (answer.status_code, answer.json()["title"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "canary" not in answer.text
