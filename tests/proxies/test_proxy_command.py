"""`ruqsat proxy`: configurations are the tested files with other addresses, and its test finds the holes of real proxies."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ruqsat.cli.main import app
from ruqsat.errors import SettingsError
from ruqsat.proxies import configuration
from ruqsat.proxies.configuration import Address, read_address, render
from ruqsat.proxies.exchange import read_front
from ruqsat.proxies.matrix import Subject, confusing, run
from tests.conftest import ROOT
from tests.proxies.conftest import Site
from tests.proxies.front import (
    EXAMPLES,
    FRONT,
    KINDS,
    RECORDS,
    asked_port,
    free_port,
    moved,
    running_front,
    running_records,
)
from tests.proxies.test_planted_holes import HOLES, instead, without
from tests.sidecar import Sidecar

O1, O2 = "/patients/p-dana/labs/o1", "/patients/p-dana/labs/o2"
HERE, THERE, BEHIND = Address("127.0.0.1", 18080), Address("127.0.0.1", 28182), Address("127.0.0.1", 39000)


def subject(sidecar: Sidecar) -> Subject:
    """Return what the proxies are tested with: a doctor who may read o1 and not o2."""
    return Subject(sidecar.token("dr_aida"), O1, O2)


def command(port: int, sidecar: Sidecar, *more: str) -> tuple[int, str]:
    """Run the command on a proxy; return its exit code and what it printed."""
    words = ["proxy", "test", "--front", f"http://127.0.0.1:{port}", "--token", sidecar.token("dr_aida"), *more]
    told = CliRunner().invoke(app, words)
    return told.exit_code, told.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_is_the_file_that_the_tests_run(kind: str) -> None:
    """Under a line that says so, with the same addresses replaced in the same places."""
    files = render(kind, HERE, THERE, BEHIND)
    shipped = (EXAMPLES / KINDS[kind].config).read_text()
    head, _, text = next(iter(files.values())).partition("\n")

    assert head.startswith(f"# `ruqsat proxy config {kind}`")
    assert text == moved(shipped, {FRONT: 18080, asked_port(kind): 28182, RECORDS: 39000})
    assert [name for name in files if name.endswith(".lua")] == (["ruqsat.lua"] if kind == "haproxy" else [])


@pytest.mark.parametrize("kind", configuration.KINDS)
def test_a_configuration_holds_the_addresses_and_no_other(kind: str) -> None:
    """Names may stand for the sidecar and the system behind; Envoy then looks them up."""
    text = next(iter(render(kind, Address("192.0.2.1", 81), Address("sidecar.example", 82), BEHIND).values()))

    assert "192.0.2.1" in text
    assert "sidecar.example" in text
    assert not re.search(r"\b(8080|8182|8184|9000)\b", text)
    assert text.count("STRICT_DNS") == kind.startswith("envoy")
    if kind.startswith("envoy") or kind == "traefik":
        yaml.safe_load(text)


@pytest.mark.parametrize(
    "text",
    ["", "x", ":80", "x:", "x:0", "x:65536", "x:080", "x:٣", "a b:80", "x;y:80", "x\n:80", "x:80\n", "{a}:80", "-x:80",
     "http://x:80", "x/y:80", "[::1]:80", "1.2.3:80", "256.1.1.1:80", "x..y:80", '"x":80', "$x:80", "x.1:80"],
)  # fmt: skip
def test_what_is_no_address_gets_into_no_configuration(text: str) -> None:
    """Nothing but a name or an IPv4 address, and a port."""
    with pytest.raises(SettingsError, match="is no address"):
        read_address(text)


def test_a_front_with_a_name_is_refused() -> None:
    """A proxy that looks up where it listens may listen elsewhere."""
    with pytest.raises(SettingsError, match="listens on an IPv4 address"):
        render("nginx", Address("front.example", 80), THERE, BEHIND)


@pytest.mark.parametrize(
    "change", [("8182", "8183"), ("listen 127.0.0.1", "listen 0.0.0.0"), ("9000;", "9000; # 8080")]
)
def test_a_file_that_was_not_tested_is_not_written(
    change: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that names another address, or one in a place that would stay."""
    (tmp_path / "nginx").mkdir()
    (tmp_path / "nginx/nginx.conf").write_text((EXAMPLES / "nginx/nginx.conf").read_text().replace(*change))
    monkeypatch.setattr(configuration, "find_examples", lambda: tmp_path)

    with pytest.raises(SettingsError, match="not the one that was tested"):
        render("nginx", HERE, THERE, BEHIND)


def test_the_wheel_holds_what_is_written() -> None:
    """Every folder that a configuration comes from is packed where it is looked for."""
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    folders = {kind.folder for kind in configuration.KINDS.values()}

    assert {f"examples/{name}": f"ruqsat/examples/{name}" for name in folders}.items() <= packed[
        "force-include"
    ].items()


def test_config_writes_files_and_replaces_none(tmp_path: Path) -> None:
    """HAProxy's two lie side by side; what is there already stays as it is.  The test that is named is of this proxy."""
    words = ["proxy", "config", "haproxy", "--into", str(tmp_path / "new"), "--front", "127.0.0.1:8099"]
    told = CliRunner().invoke(app, words)
    again = CliRunner().invoke(app, words)
    without_folder = CliRunner().invoke(app, words[:3])

    assert told.exit_code == 0 and "ruqsat proxy test --front http://127.0.0.1:8099\n" in told.output
    assert {file.name for file in (tmp_path / "new").iterdir()} == {"haproxy.cfg", "ruqsat.lua"}
    assert isinstance(again.exception, SettingsError)
    assert isinstance(without_folder.exception, SettingsError)


def test_every_proxy_passes(site: Site) -> None:
    """Each check is good, and each was seen: the shipped files, behind the real proxies."""
    findings = run(read_front(f"http://127.0.0.1:{site.front.port}"), subject(site.sidecar))

    assert len(findings) > 50
    assert [finding for finding in findings if not finding.good] == []


def test_the_command_says_so(site: Site) -> None:
    """Exit code 0 and a line a check; nothing but reading was sent to the system behind."""
    code, told = command(site.front.port, site.sidecar)

    assert code == 0, told
    assert re.search(r"\d\d checks, 0 bad\n", told)
    assert {entry["method"] for entry in site.seen} == {"GET"}


PLANTED = HOLES | {
    "nginx asks about an open location only": ("nginx", instead("location / {", "location /x/ {")),
    "Envoy fails to ask": ("envoy", instead("prefix: \"/\" }", "prefix: \"/\" }\n"
        "                          typed_per_filter_config: { envoy.filters.http.ext_authz: { \"@type\": "
        "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, disabled: true } }")),
    "HAProxy switches to another protocol": ("haproxy", without("del-header Upgrade")),
    "Caddy switches to another protocol": ("caddy", without("request_header -Upgrade")),
    "Envoy keeps method overrides": ("envoy", without("- x-http-method-override")),
    "nginx keeps another target": ("nginx", without("X-Rewrite-URL")),
}  # fmt: skip


@pytest.mark.parametrize("hole", PLANTED)
def test_a_planted_hole_is_found(hole: str, sidecar: Sidecar, tmp_path: Path) -> None:
    """Exit code 1, and what is bad stands there with what was expected."""
    kind, plant = PLANTED[hole]
    with (
        running_records() as records,
        running_front(kind, tmp_path, sidecar.ports[KINDS[kind].asks], records.server_port, plant) as front,
    ):
        code, told = command(front.port, sidecar)

    assert code == 1, told
    assert re.search(r"^BAD    .*: expected .*, seen .*$", told, re.MULTILINE)


def test_nobody_there_is_no_result(sidecar: Sidecar) -> None:
    """A proxy that is not there is neither good nor bad: the command stops."""
    told = CliRunner().invoke(app, ["proxy", "test", "--front", f"http://127.0.0.1:{free_port()}", "--token", "x"])

    assert told.exception is not None
    assert "no answer from the proxy" in str(told.exception)


def test_machines_read_the_findings(site: Site) -> None:
    """With --json, a list of every check."""
    code, told = command(site.front.port, site.sidecar, "--json")

    assert code == 0
    assert {finding["group"] for finding in json.loads(told)} == {"status", "forgery", "path"}


@pytest.mark.parametrize(
    "words",
    [("--front", "x"), ("--front", "ftp://x"), ("--front", "http://a@x"), ("--front", "http://x/y"),
     ("--token", "a b"), ("--token", ""), ("--token", "a\r\nX-A: b"), ("--allowed", "x"), ("--allowed", "/"),
     ("--allowed", "/x?y"), ("--denied", "/x\r\nA: b"), ("--denied", "/x%41")],
)  # fmt: skip
def test_odd_words_are_refused(words: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be sent as it is meant is not sent."""
    monkeypatch.delenv("BEARER", raising=False)
    told = CliRunner().invoke(app, ["proxy", "test", "--token", "good", *words])

    assert isinstance(told.exception, SettingsError)


def test_confusing_targets_all_differ_from_the_plain_one() -> None:
    """None is the path that may pass, so each may be refused."""
    assert O1 not in confusing(O1, O2).values()
    assert len(set(confusing(O1, O2).values())) == len(confusing(O1, O2))
