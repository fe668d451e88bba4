"""A policy that changes while requests come: behind each real proxy, no answer is anybody's but the old set's or the new."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.admission.test_policy_in_force import ROOT, until, withdraw_first_rule
from tests.proxies.conftest import Site
from tests.proxies.front import KINDS, running_front, running_records
from tests.proxies.raw import ask, bearer
from tests.sidecar import running_sidecar

O1, O2 = "/patients/p-dana/labs/o1", "/patients/p-dana/labs/o2"
ENOUGH = 20
"""So many answers of each kind come before the change, and after it."""


class Asking(threading.Thread):
    """Asks one thing until it is told to end, and keeps the answers."""

    def __init__(self, site: Site, person: str, target: str) -> None:
        super().__init__(daemon=True)
        self._site, self._target, self._who = site, target, bearer(site.sidecar.token(person))
        self.told: list[int] = []
        self.ends = False

    def run(self) -> None:
        """Ask."""
        while not self.ends:
            self.told.append(ask(self._site.front.port, "GET", self._target, self._who).status)

    def more(self) -> Callable[[], bool]:
        """Return whether enough answers have come from now on."""
        begun = len(self.told)
        return lambda: len(self.told) >= begun + ENOUGH


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of the shipped pack, to edit."""
    folder = tmp_path / "pack"
    shutil.copytree(ROOT / "policies", folder / "policies")
    shutil.copy(ROOT / "model.conf", folder)
    return folder


@pytest.mark.slow
def test_policy_that_changes_under_load_answers_nothing_wrongly(kind: str, pack: Path, tmp_path: Path) -> None:
    """What both sets allow is always allowed, what both deny always denied; what turns, turns once and for good."""
    folders = {"pack": str(pack), "policy_dir": str(tmp_path / "p")}
    settings = folders | {"policy_poll_seconds": "0.1", "policy_compare_seconds": "0.5"}
    with (
        running_sidecar(tmp_path / "sidecar", grpc_listen="127.0.0.1:0", **settings) as sidecar,
        running_records() as records,
        running_front(kind, tmp_path / "front", sidecar.ports[KINDS[kind].asks], records.server_port) as front,
    ):
        site = Site(front, sidecar, records)
        own, sealed, turning = (Asking(site, *what) for what in (("dana", O1), ("dr_aida", O2), ("dr_aida", O1)))
        everybody = (own, sealed, turning)
        for each in everybody:
            each.start()
        for enough in [each.more() for each in everybody]:
            until(enough)
        withdraw_first_rule(pack)
        until(lambda: turning.told[-1] == 403)
        for enough in [each.more() for each in everybody]:
            until(enough)
        for each in everybody:
            each.ends = True
        for each in everybody:
            each.join(20)

    assert set(own.told) == {200}
    assert set(sealed.told) == {403}
    turned = turning.told.index(403)
    assert turning.told == [200] * turned + [403] * (len(turning.told) - turned)
    assert turned >= ENOUGH
    allowed = len(own.told) + turned
    assert [entry["target"] for entry in records.seen] == [O1] * allowed
