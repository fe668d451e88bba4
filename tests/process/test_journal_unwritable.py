"""What a sidecar answers, and what its readiness says, while nothing can be written to its journal, and after."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.checker import entries_in
from tests.process.starter import NotStartedError, Sidecar, question, serving
from tests.process.test_degraded import wait_until

DENIED = {"decision": False, "reason": "deny.audit_unavailable"}


@contextmanager
def without_room(sidecar: Sidecar) -> Iterator[None]:
    """The process may make no file any longer than a byte: as on a disk that is full."""
    before = resource.prlimit(sidecar.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(sidecar.pid, resource.RLIMIT_FSIZE, before)


def told(sidecar: Sidecar) -> dict[str, object]:
    """The decision about dr_aida and its exact reason."""
    said = sidecar.evaluate().json()
    return {"decision": said["decision"], "reason": said["context"]["explain"]["reason"]}


def behind_a_proxy(sidecar: Sidecar) -> tuple[int, str | None]:
    """Status and reason of what nginx would be told about dr_aida."""
    headers = sidecar.bearer("dr_aida") | {
        "x-original-method": "GET", "x-original-uri": "/patients/p-dana/labs/o1", "x-original-host": "records",
    }  # fmt: skip
    answer = sidecar.call("auth", "GET", "/authz/nginx", headers=headers)
    return answer.status_code, answer.headers.get("x-ruqsat-reason")


def test_nothing_is_allowed_without_room_for_its_entry_and_everything_is_well_again_with_it(tmp_path: Path) -> None:
    """Denied on both listeners, not ready but alive; then as before, and no entry of an answered permit is missing."""
    with serving(tmp_path, json_explain="true") as sidecar:
        well = told(sidecar)
        assert (well["decision"], behind_a_proxy(sidecar)[0]) == (True, 200)

        with without_room(sidecar):
            assert told(sidecar) == DENIED
            assert behind_a_proxy(sidecar) == (403, "try_later")
            assert sidecar.evaluate(question("dr_erlan")).json()["decision"] is False
            not_ready = sidecar.call("control", "GET", "/health/ready")
            assert (not_ready.status_code, not_ready.json()["reasons"]) == (
                503,
                ["the journal cannot be written: broken"],
            )
            assert sidecar.call("control", "GET", "/status").json()["journal"]["trouble"] == "broken"
            assert sidecar.call("control", "GET", "/health/live").status_code == 200

        wait_until(lambda: told(sidecar) == well)
        assert behind_a_proxy(sidecar)[0] == 200
        assert sidecar.call("control", "GET", "/health/ready").status_code == 200
        allowed = sidecar.evaluate().json()["context"]["id"]
        assert sidecar.stop() == 0
    assert allowed in {entry.get("id") for entry in entries_in(sidecar.journal)}


def test_a_sidecar_that_starts_beside_an_unusable_journal_does_not_serve(tmp_path: Path) -> None:
    """A file stands where the folder should be: it ends and says so, and never listens."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(NotStartedError) as ended, serving(tmp_path, journal_dir=str(tmp_path / "taken")):
        pass
    assert ended.value.code == 2
    assert "journal" in ended.value.stderr
    assert "Traceback" not in ended.value.stderr
