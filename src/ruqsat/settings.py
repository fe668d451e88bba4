"""
Settings: command line over environment (``RUQSAT_…``) over a TOML file (``RUQSAT_CONFIG``) over defaults.

A bad value stops the start with one line that names the setting, what was
found in kind, and what to write.  Settings that would leave a door half open
are refused together.  Values are never printed: some are secrets.
"""

import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource
from pydantic_settings import SettingsError as SourceError

from ruqsat.core.diagnostics import nearest
from ruqsat.core.vocabulary import BLOCKING_DUTIES
from ruqsat.errors import SettingsError


class Settings(BaseSettings):
    """Everything an operator can set; one instance, read once, passed on."""

    model_config = SettingsConfigDict(
        env_prefix="RUQSAT_", extra="forbid", frozen=True, hide_input_in_errors=True, toml_file=None
    )

    pack: Path | None = Field(None, description="folder that holds `model.conf` and `policies/`")
    policy_source: Literal["folder", "store", "database"] = Field(
        "folder",
        description="`folder`: the pack as it is edited; `store`: released in policy_dir; `database`: in database_url",
    )
    policy_dir: Path = Field(Path("var/policy"), description="folder of the last good pack and of the releases")
    policy_poll_seconds: float = Field(1.0, ge=0, le=3600, description="how often the pack is looked at; 0 is never")
    policy_compare_seconds: float = Field(
        10.0, ge=0.5, le=600, description="how long a pack may be compared with stock pycasbin before it is in force"
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///var/ruqsat.db"), description="`sqlite:///file` or `postgresql://…`"
    )
    redis_url: SecretStr | None = Field(
        None,
        description="`redis://…`, `rediss://…`, `unix://…` or `redis+sentinel://host,host/service`; none: no Redis",
    )
    redis_namespace: str = Field(
        "main", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="lower case, digits, hyphens: one for each database"
    )
    redis_encrypt: bool = Field(True, description="what Redis holds is encrypted, not only sealed")
    journal_dir: Path = Field(Path("var/journal"), description="folder of the journal's segments")
    journal: Literal["durable", "lossy"] = Field("durable", description="`durable`, or `lossy` for measurements only")
    journal_name: str | None = Field(
        None,
        pattern=r"^[^\s+]{1,200}$",
        description="name in its checkpoints, such as `clinic.example/a`",
    )
    journal_key_file: Path | None = Field(
        None, description="Ed25519 private key, PEM, that signs the journal's checkpoints; none: none are written"
    )
    journal_checkpoint_seconds: float = Field(
        60.0, ge=0.1, le=86_400, description="how often the open segment of the journal is signed"
    )
    journal_reserve_bytes: int = Field(
        1_048_576,
        ge=0,
        le=1 << 30,
        description="how much of the disk is held for entries of emergencies; 0: nothing",
    )
    journal_replayable: bool = Field(
        True, description="the journal keeps whole questions and the facts they were decided by, for `journal replay`"
    )
    journal_ship: bool = Field(True, description="the journal goes into the database, and people are told of it")
    journal_keep_days: int = Field(
        90,
        ge=1,
        le=100_000,
        description="`ruqsat journal prune` deletes shipped segments that are older",
    )
    journal_archive_dir: Path | None = Field(
        None, description="folder of archived segments: `ruqsat journal archive`, `verify`, `erase` and `expire`"
    )
    journal_online_days: int = Field(
        61,
        ge=1,
        le=100_000,
        description="`ruqsat journal archive` archives segments that are older, and then removes their rows",
    )
    journal_retention_days: int = Field(
        1096,
        ge=1,
        le=100_000,
        description="`ruqsat journal expire` removes archived segments, and delivered notices, that are older",
    )
    notice_channel: Literal["egov", "webhook", "log"] = Field(
        "egov", description="how patients and representatives are told, unless another way was chosen for one"
    )
    notice_office_channel: Literal["webhook", "log"] = Field("log", description="how the privacy office is told")
    notice_webhook_url: str | None = Field(
        None,
        pattern=r"^(https://[^\s#]+|http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]+)?(/[^\s#]*)?)$",
        description="where notices are POSTed: `https://…`",
    )
    notice_webhook_secret: SecretStr | None = Field(
        None, description="what notices are signed with: `whsec_` and 24 to 64 bytes in base64"
    )
    notice_webhook_secret_file: Path | None = Field(None, description="file holding the secret of the webhook")
    notice_egov_adapter: str | None = Field(
        None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="`module:factory` of the way to e-gov cabinets"
    )
    notice_attempts: int = Field(100, ge=1, le=10_000, description="so often a notice is tried before it is given up")
    workers: int = Field(1, ge=1, le=64, description="processes that decide; more than one need PostgreSQL")
    json_listen: str = Field("127.0.0.1:8181", description="AuthZEN JSON: `host:port`, `unix:/path` or `off`")
    auth_listen: str = Field("127.0.0.1:8182", description="forward-auth: `host:port`, `unix:/path` or `off`")
    grpc_listen: str = Field("off", description="Envoy's ext_authz over gRPC: `host:port`, `unix:/path` or `off`")
    control_listen: str = Field("127.0.0.1:8183", description="control API: `host:port`, `unix:/path` or `off`")
    json_explain: bool = Field(False, description="enforcement points of the JSON listener may see exact reasons")
    json_capabilities: tuple[str, ...] = Field((), description="blocking duties that they can carry out")
    json_search: bool = Field(False, description="callers of the JSON listener may search: who has access to what")
    search_candidates_per_minute: int = Field(
        6000, ge=1, le=10_000_000, description="how many candidates each enforcement point may look at by searching"
    )
    enforcement_points: Path | None = Field(
        None, description="file of the enforcement points: who may ask, how it proves to be the one, what it can do"
    )
    fhir_servers: Path | None = Field(
        None, description="file of the FHIR servers that are asked whose a record is, by base; none: none are asked"
    )
    tls_certificate: Path | None = Field(None, description="certificate chain of the TCP listeners, PEM")
    tls_key: Path | None = Field(None, description="its private key, PEM")
    tls_client_ca: Path | None = Field(None, description="authorities of client certificates, which are then demanded")
    public_url: str | None = Field(
        None,
        pattern=r"^https://[^\s?#]+$",
        description="address under which callers know the JSON listener, for discovery",
    )
    token_issuer: str | None = Field(None, description="`iss` of accepted tokens")
    token_audience: str | None = Field(None, description="`aud` of accepted tokens")
    token_algorithm: Literal["HS256", "RS256", "PS256", "ES256", "EdDSA"] = Field(
        "RS256", description="`HS256`, `RS256`, `PS256`, `ES256` or `EdDSA`: of the one key"
    )
    token_key: SecretStr | None = Field(
        None, description="HS256: shared secret, 32 bytes or more; RS256: public key, PEM"
    )
    token_key_file: Path | None = Field(None, description="file holding the token key")
    token_jwks_url: str | None = Field(
        None,
        pattern=r"^(https://[^\s#]+|http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]+)?(/[^\s#]*)?)$",
        description="where the issuer publishes its keys (JWKS): `https://…`, instead of a token key",
    )
    token_algorithms: tuple[Literal["RS256", "PS256", "ES256", "EdDSA"], ...] = Field(
        ("RS256", "PS256", "ES256", "EdDSA"),
        min_length=1,
        description="algorithms that published keys may be used with",
    )
    record_key: SecretStr | None = Field(
        None, description="what personal fields of records are encrypted with: 32 bytes in base64"
    )
    record_key_file: Path | None = Field(None, description="file holding the record key")
    record_key_previous: SecretStr | None = Field(
        None, description="the record key before this one, while records are still sealed under it"
    )
    record_key_previous_file: Path | None = Field(None, description="file holding the record key before this one")
    working_days: Path | None = Field(
        None, description="TOML file of the reviewed days that the national calendar lacks: `extra_off`, `extra_work`"
    )
    signature_trust: Path | None = Field(
        None, description="PEM file, or folder of certificates, that signatures are verified against; none: none are"
    )
    signature_crls: Path | None = Field(None, description="folder of the authorities' lists of revoked certificates")
    signature_plugin: str | None = Field(
        None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="`module:factory` of a verifier, such as for GOST"
    )
    cache_entries: int = Field(50_000, ge=1, le=10_000_000, description="subjects and patients kept in memory")
    lease_seconds: float = Field(5.0, ge=1, le=60, description="Δ: how long facts may be used without hearing from SQL")
    probe_seconds: float = Field(1.0, ge=0.1, le=30, description="P: how often SQL is asked")
    max_in_flight: int = Field(
        512, ge=1, le=100_000, description="requests under way at once; of more, `max_waiting` wait for a place"
    )
    max_waiting: int = Field(
        2, ge=0, le=100_000, description="requests that wait, for 20 ms at most; more are turned away at once"
    )
    max_connections: int = Field(
        2048, ge=1, le=100_000, description="connections of each listener; more are closed at once"
    )
    degraded: Literal["last-known", "deny"] = Field(
        "last-known", description="the store away for longer than a lease: `last-known` facts go on deciding, or `deny`"
    )
    max_stale_seconds: float = Field(900.0, ge=0, le=900, description="how long last known facts go on deciding")
    drain_seconds: float = Field(15.0, ge=0, le=300, description="how long a stop waits for requests in flight")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level written")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Rank the sources: command line, environment, file."""
        file = os.environ.get("RUQSAT_CONFIG")
        sources = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, Path(file))) if file else sources

    @field_validator("json_capabilities")
    @classmethod
    def _known_capabilities(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in BLOCKING_DUTIES]
        if unknown:
            raise ValueError("expected a list of " + ", ".join(BLOCKING_DUTIES))
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: SecretStr) -> SecretStr:
        kind, _, rest = value.get_secret_value().partition("://")
        if kind not in ("sqlite", "postgresql", "postgres") or not rest.strip("/"):
            raise ValueError("expected `sqlite:///file` or `postgresql://…`")
        return value

    @model_validator(mode="after")
    def _whole_security_settings(self) -> "Settings":
        given = {
            "token_issuer": self.token_issuer,
            "token_audience": self.token_audience,
            "token_key, token_key_file or token_jwks_url": self.token_key or self.token_key_file or self.token_jwks_url,
        }
        missing = [name for name, value in given.items() if not value]
        if missing and len(missing) < len(given):
            raise ValueError(f"tokens are half configured: set {', '.join(missing)} too")
        if sum(map(bool, (self.token_key, self.token_key_file, self.token_jwks_url))) > 1:
            raise ValueError("set one of token_key, token_key_file and token_jwks_url, not both")
        if self.record_key and self.record_key_file:
            raise ValueError("set record_key or record_key_file, not both")
        if self.record_key_previous and self.record_key_previous_file:
            raise ValueError("set record_key_previous or record_key_previous_file, not both")
        if (self.record_key_previous or self.record_key_previous_file) and not (
            self.record_key or self.record_key_file
        ):
            raise ValueError(
                "record_key_previous without record_key seals nothing: set record_key or record_key_file too"
            )
        if self.signature_crls and not self.signature_trust:
            raise ValueError("signature_crls without signature_trust revokes what nothing trusts: set both")
        if (self.journal_key_file is None) != (self.journal_name is None):
            raise ValueError("checkpoints are half configured: journal_key_file and journal_name go together")
        if self.notice_webhook_secret and self.notice_webhook_secret_file:
            raise ValueError("set notice_webhook_secret or notice_webhook_secret_file, not both")
        has_secret = bool(self.notice_webhook_secret or self.notice_webhook_secret_file)
        if has_secret != (self.notice_webhook_url is not None):
            raise ValueError("the webhook is half configured: notice_webhook_url goes with notice_webhook_secret")
        if "webhook" in (self.notice_channel, self.notice_office_channel) and not self.notice_webhook_url:
            raise ValueError("the channel `webhook` needs notice_webhook_url and notice_webhook_secret")
        if missing and (self.auth_listen != "off" or self.grpc_listen != "off"):
            raise ValueError(
                "the forward-auth listener needs token_issuer, token_audience and one of token_key, "
                "token_key_file and token_jwks_url (or set auth_listen and grpc_listen to `off`)"
            )
        if (self.tls_certificate is None) != (self.tls_key is None) or (self.tls_client_ca and not self.tls_key):
            raise ValueError("TLS is half configured: tls_certificate and tls_key go together, tls_client_ca with them")
        if self.probe_seconds * 2 > self.lease_seconds:
            raise ValueError("lease_seconds must be at least twice probe_seconds")
        return self

    def token_key_bytes(self) -> bytes:
        """
        Return the key that tokens are verified with.

        Raises:
            SettingsError: the key file cannot be read.
        """
        if self.token_key is not None:
            return self.token_key.get_secret_value().encode()
        if self.token_key_file is None:
            raise SettingsError("RUQSAT_TOKEN_KEY is not set")
        try:
            return self.token_key_file.read_bytes().strip()
        except OSError as error:
            raise SettingsError(f"RUQSAT_TOKEN_KEY_FILE cannot be read: {error.strerror}") from error

    def record_key_bytes(self) -> bytes | None:
        """
        Return the key of the records as it is written down, None where none is set.

        Raises:
            SettingsError: the key file cannot be read.
        """
        return _secret_bytes(self.record_key, self.record_key_file, "RUQSAT_RECORD_KEY_FILE")

    def notice_webhook_secret_bytes(self) -> bytes | None:
        """
        Return the secret of the webhook as it is written down, None where none is set.

        Raises:
            SettingsError: the file cannot be read.
        """
        return _secret_bytes(
            self.notice_webhook_secret, self.notice_webhook_secret_file, "RUQSAT_NOTICE_WEBHOOK_SECRET_FILE"
        )

    def record_key_previous_bytes(self) -> bytes | None:
        """
        Return the record key before this one as it is written down, None where none is set.

        Raises:
            SettingsError: the key file cannot be read.
        """
        return _secret_bytes(self.record_key_previous, self.record_key_previous_file, "RUQSAT_RECORD_KEY_PREVIOUS_FILE")


def _secret_bytes(secret: SecretStr | None, file: Path | None, name: str) -> bytes | None:
    if secret is not None:
        return secret.get_secret_value().encode()
    try:
        return None if file is None else file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{name} cannot be read: {error.strerror}") from error


def load_settings(**overrides: Any) -> Settings:
    """
    Read the settings; *overrides* (the command line) win.

    Raises:
        SettingsError: one line for each setting that cannot be used, secrets not shown.
    """
    try:
        _refuse_unknown_environment()
        _refuse_missing_file()
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(dict(part)) for part in error.errors(include_input=False))) from None
    except SourceError as error:
        field = re.search(r'field "(\w+)"', str(error))
        raise SettingsError(f"{f'RUQSAT_{field[1].upper()}' if field else 'a setting'}: expected a JSON list") from None
    except OSError as error:
        raise SettingsError(f"RUQSAT_CONFIG cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"RUQSAT_CONFIG is not TOML: {error}") from error


def _refuse_unknown_environment() -> None:
    known = {"RUQSAT_" + name.upper() for name in Settings.model_fields} | {"RUQSAT_CONFIG"}
    names = [name for name in os.environ if name.upper().startswith("RUQSAT_")]
    # The file's name is read as it is written here alone: in small letters it would name a file that nobody reads.
    unknown = sorted(name for name in names if name.upper() not in known or name.upper() == "RUQSAT_CONFIG" != name)
    if unknown:
        raise SettingsError(f"{unknown[0]} is no setting" + _nearest(unknown[0].upper(), known))


def _nearest(name: str, known: Iterable[str]) -> str:
    hint = nearest(name, known)
    return f"; {hint}" if hint else "; docs/operations.md lists them"


def _refuse_missing_file() -> None:
    file = os.environ.get("RUQSAT_CONFIG")
    if file and not Path(file).is_file():
        # The reader of such files takes a missing one for an empty one: every setting in it would be lost.
        raise SettingsError(f"RUQSAT_CONFIG: there is no file `{file}`")


def _sentence(part: dict[str, Any]) -> str:
    if part["type"] == "extra_forbidden":
        name = f"RUQSAT_{str(part['loc'][0]).upper()}"
        return f"{name} is no setting" + _nearest(name, ("RUQSAT_" + each.upper() for each in Settings.model_fields))
    message = str(part["msg"]).removeprefix("Value error, ")
    if part["type"] == "string_pattern_mismatch":
        message = "not of the form that is expected"
    message = message[:1].lower() + message[1:]
    names = [str(name) for name in part["loc"] if isinstance(name, str)]
    if not names:
        return message
    return f"RUQSAT_{names[0].upper()}: {message} ({Settings.model_fields[names[0]].description})"
