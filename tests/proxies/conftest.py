"""What the tests of the proxies share: each of them runs once for every proxy."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.proxies.front import KINDS, Front, running_front, running_records
from tests.sidecar import Sidecar, running_sidecar


class Site(NamedTuple):
    """A proxy, the sidecar that it asks, and the records server behind it."""

    front: Front
    sidecar: Sidecar
    records: Any

    @property
    def seen(self) -> list[dict[str, Any]]:
        """What reached the records server."""
        return self.records.seen


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The name of a proxy."""
    return str(request.param)


@pytest.fixture(scope="session")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that no test changes."""
    with running_sidecar(tmp_path_factory.mktemp("sidecar"), grpc_listen="127.0.0.1:0") as running:
        yield running


@pytest.fixture(scope="session")
def shared_site(kind: str, sidecar: Sidecar, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that no test changes; ``site`` begins each test with nothing seen."""
    with (
        running_records() as records,
        running_front(
            kind, tmp_path_factory.mktemp(kind), sidecar.ports[KINDS[kind].asks], records.server_port
        ) as front,
    ):
        yield Site(front, sidecar, records)


@pytest.fixture
def site(shared_site: Site) -> Site:
    """A site that the test must leave as it is."""
    shared_site.seen.clear()
    return shared_site


@pytest.fixture
def own_site(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site of the test's own, to be changed and broken."""
    folder = tmp_path_factory.mktemp(f"own-{kind}")
    with (
        running_sidecar(folder / "sidecar", grpc_listen="127.0.0.1:0") as sidecar,
        running_records() as records,
        running_front(kind, folder / "front", sidecar.ports[KINDS[kind].asks], records.server_port) as front,
    ):
        yield Site(front, sidecar, records)
