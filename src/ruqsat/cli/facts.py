"""``ruqsat facts``: everybody's facts from a file into the database, and out of it."""

import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ruqsat.cli.output import AsFormat, Format, console, plural, print_findings, print_json
from ruqsat.core.diagnostics import Diagnostic, Span
from ruqsat.core.facts_lines import Words, words_of
from ruqsat.core.facts_schema import line_schema
from ruqsat.core.pack import VOCABULARY
from ruqsat.core.vocabulary import parse_vocabulary
from ruqsat.errors import PolicyError
from ruqsat.settings import Settings, load_settings
from ruqsat.stores.facts_bulk import ERRORS_TOLD, Imported, Watch, opened_bulk
from ruqsat.stores.facts_file import FactsFile, written
from ruqsat.stores.policy_folder import find_pack, load_texts

app = typer.Typer(no_args_is_help=True, help="Import and export everybody's facts.")

PLAIN_SECONDS = 5.0
"""How often a line is written where there is no terminal to draw on."""

Url = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="`postgresql://…` or `sqlite:///file` (default: RUQSAT_DATABASE_URL, the place for a password).",
    ),
]


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON Lines, packed if its name ends in .gz.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all of it, against the database too, and change nobody's facts.")
    ] = False,
    database_url: Url = None,
    form: AsFormat = Format.TEXT,
) -> None:
    """Take over everybody that a file states, all at once; a run that was stopped goes on where it was."""
    settings = _settings(database_url)
    words = _words(settings)
    source = FactsFile(file)
    try:
        url = settings.database_url.get_secret_value()
        with opened_bulk(url) as bulk, _watching() as shown, _collecting_between(shown) as watch:
            bulk.be_the_only_import()
            report = bulk.import_file(source, words, trial=dry_run, watch=watch)
    finally:
        source.close()
    findings = [Diagnostic(Span(str(file), each.line), "bad-facts", each.found, each.do) for each in report.findings]
    if form is Format.JSON:
        print_json({"findings": findings, "report": report._replace(findings=())._asdict()})
    else:
        print_findings(findings, form)
        _tell(report, dry_run)
    raise typer.Exit(1 if findings else 0)


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="Where to; packed if the name ends in .gz, `-` is standard output.")],
    patient: Annotated[str | None, typer.Option("--patient", help="Only the facts of this patient.")] = None,
    database_url: Url = None,
) -> None:
    """Write everybody's facts, as of one moment; full records of consents stay in the database."""
    url = _settings(database_url).database_url.get_secret_value()
    with opened_bulk(url) as bulk, _watching() as watch, written(file) as out:
        subjects, patients, position = bulk.export(out, patient, watch)
    Console(stderr=True, highlight=False).print(
        f"{plural(subjects, 'subject')}, {plural(patients, 'patient')} as of {position.epoch}.{position.seq}"
    )


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of the lines of such a file, for an editor or another program."""
    print_json(line_schema())


@contextmanager
def _collecting_between(watch: Watch) -> Iterator[Watch]:
    """
    Look for cycles between batches only.

    Facts hold none, and the collector would walk through each batch again and again (it took half the
    time).  Statements do, and each holds the ids that it asked for: left lying, they grow with the file.
    """

    def collect(what: str, done: int, total: int) -> None:
        gc.collect()
        watch(what, done, total)

    gc.freeze()
    gc.disable()
    try:
        yield collect
    finally:
        gc.enable()
        gc.unfreeze()


def _settings(database_url: str | None) -> Settings:
    return load_settings(auth_listen="off", database_url=database_url)


def _words(settings: Settings) -> Words:
    texts = load_texts(find_pack(settings.pack))
    vocabulary, _ = parse_vocabulary(texts.get(VOCABULARY, b"").decode(), VOCABULARY)
    if vocabulary is None:
        raise PolicyError("the pack has no vocabulary that can be read; `ruqsat policy check` tells more")
    return words_of(vocabulary)


def _tell(report: Imported, trial: bool) -> None:
    out = console()
    if report.resumed_at:
        out.print(f"went on after line {report.resumed_at}, where an earlier run had come to")
    if report.findings:
        more = " or more" if len(report.findings) >= ERRORS_TOLD else ""
        out.print(f"{plural(len(report.findings), 'error')}{more}: nothing was changed")
    elif trial:
        out.print(f"{_people(report)}: good; nobody's facts were changed, the next run only takes them over")
    elif report.taken is not None:
        taken, (whole, feed) = report.taken, report.held_seconds
        out.print(f"{_people(report)}: {taken.new} new, {taken.merged} changed, {taken.unchanged} unchanged")
        if taken.set_aside:
            lines = ", ".join(map(str, taken.lines))
            out.print(f"{plural(taken.set_aside, 'statement')} set aside for what stands here (lines {lines} …)")
        if taken.position is not None:
            at = f"{taken.position.epoch}.{taken.position.seq}"
            out.print(f"in force at {at}; taken over in {whole:.1f} s, the feed was held for {feed * 1000:.0f} ms")


def _people(report: Imported) -> str:
    return f"{plural(report.subjects, 'subject')}, {plural(report.patients, 'patient')}"


@contextmanager
def _watching() -> Iterator[Watch]:
    """Draw a bar on a terminal; elsewhere write a line now and then."""
    err = Console(stderr=True, highlight=False, markup=False)
    if err.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[rate]}"), console=err, transient=True) as bar:
            task = bar.add_task("reading", total=None, rate="")
            began = time.monotonic()

            def draw(what: str, done: int, total: int) -> None:
                rate = _rate(what, done, time.monotonic() - began)
                bar.update(task, description=what, completed=done, total=total or None, rate=rate)

            yield draw
        return
    yield _Lines().tell


class _Lines:
    """Progress as lines: one at each new kind of work, and one every few seconds."""

    def __init__(self) -> None:
        self._began = self._told_at = time.monotonic()
        self._what = ""

    def tell(self, what: str, done: int, total: int) -> None:
        """Write one, if it is time."""
        now = time.monotonic()
        if what == self._what and now - self._told_at < PLAIN_SECONDS:
            return
        if what != self._what:
            self._began = now
        self._what, self._told_at = what, now
        left = (total - done) * (now - self._began) / done if done else 0
        tail = f" {100 * done // total} %, {_rate(what, done, now - self._began)}, {left:.0f} s left" if total else ""
        sys.stderr.write(f"{what}{tail}\n")


def _rate(what: str, done: int, seconds: float) -> str:
    if seconds <= 0 or not done:
        return "…"
    return f"{done / seconds:,.0f}/s" if what == "writing" else f"{done / seconds / 1e6:.1f} MB/s"
