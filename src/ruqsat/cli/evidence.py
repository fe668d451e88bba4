"""``ruqsat evidence``: a package for the authority about one person, and whether one is as it was made."""

import asyncio
import time
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from ruqsat.cli.output import console, plural
from ruqsat.core.evidence import MANIFEST, SIGNATURE, proved_lines, read_manifest, tells_nothing
from ruqsat.core.instant import parse_instant
from ruqsat.core.pack import VOCABULARY
from ruqsat.core.proceeding import Hour
from ruqsat.core.vocabulary import parse_vocabulary
from ruqsat.errors import JournalError, SettingsError
from ruqsat.service.evidence import Extent, Found, build_package, faults, sign, signer_of
from ruqsat.settings import Settings, load_settings
from ruqsat.stores.evidence_file import (
    find_consents,
    find_notices,
    find_others,
    find_proceedings,
    find_releases,
    find_writers,
    read_archive,
    write_archive,
)
from ruqsat.stores.journal_folder import list_segments, read_lines, writers_of
from ruqsat.stores.journal_key import read_verifier_key
from ruqsat.stores.journal_proofs import prove_lines
from ruqsat.stores.journal_prune import refuse_pruned
from ruqsat.stores.journal_verification import verify_folder
from ruqsat.stores.policy_folder import find_pack, load_texts
from ruqsat.stores.sql import SqlStore
from ruqsat.wiring import record_seal, working_days

app = typer.Typer(no_args_is_help=True, help="A package for the authority about one person.")


@app.command()
def export(
    patient: Annotated[str, typer.Option(help="Id of the patient.")],
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day at home.")],
    until: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The day after the last.")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The archive; nothing is overwritten.")],
    journal_dir: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a journal, once for each sidecar (default: RUQSAT_JOURNAL_DIR)."),
    ] = None,
    personal: Annotated[bool, typer.Option("--personal", help="Open what names people; needs the record key.")] = False,
    sign_key: Annotated[Path | None, typer.Option(help="Ed25519 private key, PEM, that signs the manifest.")] = None,
    database_url: Annotated[str | None, typer.Option("--database-url", help="Default: RUQSAT_DATABASE_URL.")] = None,
) -> None:
    """Put together what shows how one person's data were handled: consents, proceedings, policy, journal."""
    if since >= until:
        raise SettingsError("--from is the first day and --to the day after the last: put the earlier one first")
    settings = load_settings(auth_listen="off", database_url=database_url)
    seal = record_seal(settings) if personal else None
    if personal and seal is None:
        raise SettingsError("--personal opens sealed fields: set RUQSAT_RECORD_KEY or RUQSAT_RECORD_KEY_FILE")
    hour = _hour(settings)
    midnight = f"T00:00:00{hour.utc_offset_hours:+03d}:00"
    extent = Extent(patient, *(parse_instant(f"{day:%Y-%m-%d}{midnight}") for day in (since, until)))
    key = None if sign_key is None else _bytes(sign_key)
    found, writers = asyncio.run(_find(settings.database_url.get_secret_value(), extent))
    folders = list(dict.fromkeys(each.resolve() for each in journal_dir or [settings.journal_dir]))
    for folder in folders:
        refuse_pruned(folder, extent.since)
        _refuse_broken(folder)
    journal = chain.from_iterable(map(read_lines, folders))
    files = build_package(found, journal, extent, hour, seal, partial(prove_lines, folders))
    if key is not None:
        files[SIGNATURE] = sign(files, key)
    write_archive(output, files)
    signed = "signed" if key is not None else "not signed: digests alone show an alteration only beside another copy"
    console().print(f"{plural(len(files), 'file')} in `{output}`, {signed}")
    if not writers.issubset(chain.from_iterable(map(writers_of, folders))):
        console().print(
            "the database holds entries about this patient that are in none of these journals, and so not in it: name "
            "the folder of each sidecar with --journal-dir"
        )
    if tells_nothing(files):
        console().print("nothing about this patient is in it: see that id, days and journals are the right ones")


@app.command()
def verify(
    package: Annotated[Path, typer.Argument(help="The archive.")],
    key: Annotated[Path | None, typer.Option(help="Ed25519 public key, PEM, that must have signed it.")] = None,
    journal_key: Annotated[
        list[str] | None,
        typer.Option(help="Verifier key of a journal, or its file, that must have signed it."),
    ] = None,
) -> None:
    """Tell whether a package is as it was made; needs nothing but the package. Exit 1 if not."""
    files = read_archive(package)
    keys = tuple([read_verifier_key(each) for each in journal_key or ()])
    found = list(faults(files, None if key is None else _bytes(key), keys))
    out = console()
    for each in found:
        out.print(f"error: {each}")
    if found:
        raise typer.Exit(1)
    manifest, signer = read_manifest(files[MANIFEST]), signer_of(files)
    if manifest is not None:
        out.print(f"as it was made: {plural(len(manifest.files), 'file')}, {manifest.since} to {manifest.until}")
    proved, lines = proved_lines(files)
    trusted = "by the keys that were named" if keys else "by checkpoints whose signatures were not looked at"
    out.print(f"{proved} of {plural(lines, 'line')} of the journal proved, {trusted}")
    if signer is None:
        out.print("not signed: whoever holds it could have made it anew")
    elif key is None:
        out.print(f"signed by the key {signer}: make sure that it is the operator's, or name it with --key")
    else:
        out.print("signed by the key that was named")


def _refuse_broken(folder: Path) -> None:
    """Refuse a folder that holds no journal, or one from which something is missing: what it tells is not the whole."""
    begun = [each.number for each in list_segments(folder) if each.path.stat().st_size] if folder.is_dir() else []
    report = verify_folder(folder, first=min(begun, default=1))
    if not report.intact:
        first = report.findings[0]
        raise JournalError(
            f"`{folder / first.file}` is no evidence: {first.sentence}; see `ruqsat journal verify {folder}`, and name "
            "the folder of each sidecar, of several workers that of each worker, with --journal-dir"
        )


async def _find(url: str, extent: Extent) -> tuple[Found, frozenset[str]]:
    store, patient = await SqlStore.open(url, read_timeout_seconds=30), extent.patient
    try:
        proceedings, clock = await find_proceedings(store, patient)
        found = Found(
            await find_consents(store, patient), await find_others(store, patient), proceedings, clock,
            await find_releases(store), await find_notices(store, patient),
        )  # fmt: skip
        return found, await find_writers(store, patient, extent.since, extent.until)
    finally:
        await store.aclose()


def _hour(settings: Settings) -> Hour:
    vocabulary = parse_vocabulary(load_texts(find_pack(settings.pack))[VOCABULARY].decode(), VOCABULARY)[0]
    if vocabulary is None:
        raise SettingsError("the vocabulary of the pack cannot be read: run `ruqsat policy check`")
    return Hour(time.time_ns() // 1000, working_days(settings), vocabulary.switches.home_utc_offset_hours)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"`{path}` cannot be read: {error.strerror}") from error
