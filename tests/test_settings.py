"""Settings: who wins, and what stops the start with one clear line."""

from pathlib import Path
from typing import Any

import pytest

from ruqsat.errors import SettingsError
from ruqsat.settings import load_settings
from tests.process.starter import run_cli, serving

OFF = {"auth_listen": "off"}
SECRET = "canary-secret-of-more-than-thirty-two-bytes"


def test_the_command_line_wins_over_environment_over_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source is overruled by the one above it."""
    file = tmp_path / "ruqsat.toml"
    file.write_text(
        'auth_listen = "off"\njson_listen = "127.0.0.1:1"\ncontrol_listen = "127.0.0.1:2"\ncache_entries = 7\n'
    )
    monkeypatch.setenv("RUQSAT_CONFIG", str(file))
    monkeypatch.setenv("RUQSAT_JSON_LISTEN", "127.0.0.1:3")
    monkeypatch.setenv("RUQSAT_CONTROL_LISTEN", "127.0.0.1:4")

    settings = load_settings(control_listen="127.0.0.1:5", cache_entries=None)

    assert (settings.control_listen, settings.json_listen, settings.cache_entries) == ("127.0.0.1:5", "127.0.0.1:3", 7)
    assert settings.journal == "durable"


TOKENS = {"token_issuer": "i", "token_audience": "a", "token_key": SECRET}


def test_a_file_of_settings_cannot_go_unread_for_the_case_of_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The points that it registers would not be asked for: a variable that names no file to us is refused."""
    file = tmp_path / "ruqsat.toml"
    file.write_text('auth_listen = "off"\nenforcement_points = "points.toml"\n')
    monkeypatch.setenv("ruqsat_config", str(file))

    with pytest.raises(SettingsError, match="ruqsat_config is no setting; did you mean `RUQSAT_CONFIG`"):
        load_settings(**OFF)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "forward-auth listener needs"), ({**OFF, "token_issuer": "i"}, "half configured"),
        ({**TOKENS, "token_audience": None}, "token_audience"), ({**TOKENS, "token_key": None}, "token_key"),
        ({**OFF, "record_key": SECRET, "record_key_file": "x"}, "record_key or record_key_file, not both"),
        ({**TOKENS, "token_key_file": "x"}, "not both"), ({**OFF, "journal": "fast"}, "RUQSAT_JOURNAL"),
        ({**OFF, "cache_entries": 0}, "RUQSAT_CACHE_ENTRIES"), ({**OFF, "lease_seconds": 1}, "twice probe_seconds"),
        ({**OFF, "json_capabilities": ["fly"]}, "RUQSAT_JSON_CAPABILITIES"), ({**OFF, "database_url": "mysql://x"}, "RUQSAT_DATABASE_URL"),
        ({**TOKENS, "token_algorithm": "none"}, "RUQSAT_TOKEN_ALGORITHM"), ({**OFF, "no_such": 1}, "NO_SUCH"),
        ({**OFF, "journal_name": "clinic.example/a"}, "journal_key_file and journal_name go together"),
        ({**OFF, "journal_name": "two words", "journal_key_file": "x"}, "RUQSAT_JOURNAL_NAME"),
        ({**OFF, "jurnal_dir": "x"}, "RUQSAT_JURNAL_DIR is no setting; did you mean `RUQSAT_JOURNAL_DIR`?"),
        ({**OFF, "public_url": "pdp"}, "RUQSAT_PUBLIC_URL: not of the form that is expected (address under which"),
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_that_cannot_be_used_is_named(given: dict[str, Any], named: str) -> None:
    """One sentence says which setting and what to write; a secret never stands in it."""
    with pytest.raises(SettingsError) as refused:
        load_settings(**given)

    assert named in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://h.example/x?t=1", "http://127.0.0.1:9/x", "http://[::1]", "http://localhost/x"]
)
def test_a_webhook_over_tls_or_on_this_machine_is_one(url: str) -> None:
    """Notices travel encrypted, or not at all beyond this machine."""
    assert load_settings(**OFF, notice_webhook_url=url, notice_webhook_secret=SECRET).notice_webhook_url == url


@pytest.mark.parametrize(
    "url",
    ["http://h.example/x", "http://localhost:x@h.example/", "http://127.0.0.1:9@h.example", "http://localhost.h.example/",
     "http://127.0.0.1?@h.example/", "ftp://localhost/", "https://h.example/#x"],
)  # fmt: skip
def test_a_webhook_that_only_looks_like_this_machine_is_none(url: str) -> None:
    """A name before an at sign is nobody's host."""
    with pytest.raises(SettingsError):
        load_settings(**OFF, notice_webhook_url=url, notice_webhook_secret=SECRET)


def test_a_misspelt_environment_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that would be lost without a word stops the start."""
    monkeypatch.setenv("RUQSAT_JORNAL", "lossy")

    with pytest.raises(SettingsError, match="RUQSAT_JORNAL is no setting; did you mean `RUQSAT_JOURNAL`"):
        load_settings(**OFF)


@pytest.mark.parametrize(
    "settings",
    [
        {"json_listen": "0.0.0.0:0"}, {"auth_listen": "0.0.0.0:0"}, {"control_listen": "[::]:0"}, {"json_listen": "example.org:1"},
        {"tls_certificate": __file__, "tls_key": __file__}, {"json_listen": "nowhere"}, {"token_issuer": "i"}, {"token_key": "short", "token_issuer": "i", "token_audience": "a",
         "token_algorithm": "HS256"}, {"pack": "/nonexistent"}, {"journal": "x"}, {"jornal": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_a_start_that_is_refused_is_one_line_and_exit_code_2(tmp_path: Path, settings: dict[str, str]) -> None:
    """Open addresses, half a token configuration, a missing pack: no traceback, nothing served."""
    done = run_cli(
        tmp_path,
        "serve",
        **{"auth_listen": "off", "json_listen": "127.0.0.1:0", "control_listen": "127.0.0.1:0"}
        | {"policy_dir": str(tmp_path / "policy")}
        | settings,
    )

    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error[")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "short" not in done.stderr or "shorter" in done.stderr


def test_a_record_key_that_is_none_stops_the_start_and_is_not_shown(tmp_path: Path) -> None:
    """Of another size, or in a file that is not there: one line that names the setting."""
    key, file = (
        run_cli(tmp_path, "serve", auth_listen="off", **{name: value})
        for name, value in (("record_key", SECRET), ("record_key_file", str(tmp_path / "nowhere")))
    )

    assert (key.returncode, "RUQSAT_RECORD_KEY: expected 32 random bytes" in key.stderr) == (2, True)
    assert (file.returncode, "RUQSAT_RECORD_KEY_FILE cannot be read" in file.stderr) == (2, True)
    assert SECRET not in key.stderr + key.stdout


def test_nothing_of_a_demo_is_there_without_its_word(tmp_path: Path) -> None:
    """No tokens of its own making stand in for the operator's, and nobody sees exact reasons."""
    refused = run_cli(tmp_path, "serve")
    assert (refused.returncode, "the forward-auth listener needs token_issuer" in refused.stderr) == (2, True)

    with serving(tmp_path, demo=False, auth_listen="off") as sidecar:
        assert "explain" not in sidecar.evaluate().json()["context"]
