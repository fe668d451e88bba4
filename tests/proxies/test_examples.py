"""The shipped examples are what is tested, and they fit together as they stand."""

import pytest

from ruqsat.settings import Settings
from tests.proxies.front import EXAMPLES, FRONT, KINDS, RECORDS, SIDECAR, asked_port, moved, running_front


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_files_name_the_default_addresses(kind: str) -> None:
    """The files and the records server name the sidecar's default address and each other's."""
    shipped = (EXAMPLES / KINDS[kind].config).read_text()

    assert Settings.model_fields["auth_listen"].default == f"127.0.0.1:{SIDECAR}"
    port = asked_port(kind)
    assert f'"127.0.0.1:{RECORDS}"' in (EXAMPLES / "records_server.py").read_text()
    here = moved(shipped, {FRONT: 1, port: 2, RECORDS: 3})
    assert not any(str(port) in here for port in (FRONT, port, RECORDS))


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_files_serve_loopback_only(kind: str) -> None:
    """An example listens on loopback, and keeps no door of its own open beside the front."""
    shipped = (EXAMPLES / KINDS[kind].config).read_text()

    assert "0.0.0.0" not in shipped
    assert "port_value: 9901" not in shipped
    assert ("admin off" in shipped) is (kind == "caddy")


def test_configuration_without_a_port_cannot_be_moved() -> None:
    """A copy is only taken for the shipped file if every port in it was found."""
    with pytest.raises(AssertionError, match="8182"):
        moved("listen 8080; server 9000;", {8080: 1, 8182: 2, 9000: 3})


@pytest.mark.parametrize(("in_ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_missing_proxy_is_never_silent(
    in_ci: str, outcome: type[BaseException], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that is not installed fails the run in CI, and elsewhere skips with what to install."""
    monkeypatch.setenv("CI", in_ci)
    monkeypatch.setitem(KINDS, "nginx", KINDS["nginx"]._replace(find=lambda: None))

    with (
        pytest.raises(outcome, match="apt-get install nginx"),
        running_front("nginx", tmp_path_factory.mktemp("x"), 1, 2),
    ):
        pass
