"""The evening: what each of them sees of the day, on the screen and on paper."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from examples.demo_day.day import Day, SurpriseError
from examples.demo_day.hospital import AIGUL, FOUND_UNCONSCIOUS, NEWCOMER, REFUSER, SERGEI, SINGER, WARD_OF_COURT

from ruqsat.messages import Language, page_text, word_of

READERS: tuple[tuple[str, str, Language, str], ...] = (
    ("pt-001", AIGUL, "kk", "self"), ("pt-002", SERGEI, "ru", "self"), ("pt-181", NEWCOMER, "en", "self"),
    ("pt-183", REFUSER, "kk", "self"), ("pt-061", SINGER, "ru", "self"),
    ("guardian-nurlan", WARD_OF_COURT, "ru", "legal_rep"),
)  # fmt: skip
"""Who reads whose access log, in which language, on which ground."""


def access_logs(day: Day) -> None:
    """Everybody reads the own log, or the ward's, in the own language."""
    day.settle()
    day.told["logs"] = {}
    for who, patient, language, basis in READERS:
        rows = day.log(who, patient, language, basis)
        day.told["logs"][patient] = rows
        title = page_text("title-ward" if basis == "legal_rep" else "title", language)
        day.say("", f"  {who}, {patient}: {title}")
        for row in rows:
            day.say(*(f"    {line}" for line in told_row(row, language)))


def told_row(row: dict[str, Any], language: Language) -> list[str]:
    """Return a row as it is read on a terminal."""
    if "withheld" in row:
        return [f"{row['at'][11:19]}  {row['withheld']}"]
    who = row["who"]
    by = ", ".join(filter(None, (who["person"], *(role["text"] for role in who["roles"]), who["organisation"])))
    what = f"{row['action']['text']}: {row['class']['text']}"
    for_ = ", ".join(each["text"] for each in row["purposes"])
    mark = f"  [{page_text('emergency', language)}]" if row["emergency"] else ""
    result = page_text("allowed" if row["allowed"] else "denied", language)
    why = row["ground"]["text"] if row["ground"] else row["reason"]["text"]
    return [f"{row['at'][11:19]}  {by}", f"          {what} ({for_}) → {result}: {why}{mark}"]


def officers_queue(day: Day) -> None:
    """What waits for the privacy office at three in the afternoon."""
    sessions, owed = day.told["queue"] = day.queue("dpo-assel")
    day.say("  to review, the first due first:")
    for each in sessions:
        late = " OVERDUE" if each["overdue"] else ""
        flags = f" anomaly: {', '.join(each['anomaly'])}" if each["anomaly"] else ""
        day.say(
            f"    {each['subject']} for {each['patient']} ({each['reason_code']}, {each['ward']}), until"
            f" {each['review_due']}{late}{flags}"
        )  # fmt: skip
    day.say("  owed to patients:")
    for each in owed:
        late = " OVERDUE" if each["overdue"] else ""
        day.say(f"    {each['kind']} of {each['patient']}, received {each['received_on']}, due {each['due']}{late}")


def information_answer(day: Day) -> None:
    """What the answer on what is on record says, as the patient reads it."""
    path = f"proceedings/{day.told['online']['id']}/answer"
    answer = day.call("pt-002", "GET", path, about=SERGEI, as_="read proceeding self").json()
    day.told["answer"] = answer
    classes = ", ".join(f"{word_of('class', each['class'], 'ru')}: {each['records']}" for each in answer["classes"])
    day.say(f"  {SERGEI}: {classes}")
    for each in answer["consents"]:
        day.say(f"    {each['operator']}: {each['effect']} {each['status']}, withdrawn {each['withdrawn_at']}")
    day.say(f"    {answer['storage_terms']}; {', '.join(answer['methods'])}")


def delivered(day: Day) -> None:
    """What patients and the office were told meanwhile, as their receiver has it."""
    day.settle()
    day.wait_until_told(SINGER, REFUSER, FOUND_UNCONSCIOUS, AIGUL)
    told = list(day.receiver.told.values())
    for patient in (AIGUL, FOUND_UNCONSCIOUS, REFUSER, SINGER):
        day.say(f"  because of {patient}:")
        for each in sorted((each for each in told if each["patient"] == patient), key=lambda each: each["facts"]["at"]):
            said = {name: text for name, text in each["facts"].items() if name in ("action", "by", "basis", "event")}
            day.say(f"    {each['facts']['at'][11:19]} to {each['audience']}: {each['kind']} {json.dumps(said)}")
    counted = Counter(each["audience"] for each in told)
    day.say(f"  {len(told)} notices, {day.receiver.forged} forged: {dict(counted)}")


def journal(day: Day) -> None:
    """The head of the journal, and whether it is as it was written."""
    state = day.status()["journal"]
    day.say(f"  {json.dumps(state)}")
    checked = day.sidecar.run("journal", "verify", str(day.sidecar.journal), "--key", day.sidecar.journal_key)
    day.told["verified"] = checked.returncode
    day.say(*(f"  {line}" for line in checked.stdout.splitlines()))
    if checked.returncode != 0:
        raise SurpriseError(checked.stdout + checked.stderr)


def on_paper(day: Day, folder: Path) -> None:
    """Write what can be printed or handed on into a folder."""
    pages = [
        (f"access-log-{patient}.{language}.html", who, f"patients/{patient}/access-log?lang={language}",
         patient, f"journal_read journal {basis}")
        for who, patient, language, basis in READERS
    ]  # fmt: skip
    day.settle()
    answer = f"proceedings/{day.told['online']['id']}/answer?format=html&lang="
    pages += [
        (f"answer-{SERGEI}.{language}.html", "pt-002", answer + language, SERGEI, "read proceeding self")
        for language in ("kk", "ru", "en")
    ]
    for name, who, path, patient, as_ in pages:
        got = day.call(who, "GET", path, about=patient, as_=as_, headers={"accept": "text/html"})
        (folder / name).write_bytes(got.content)
    for form, name in (("csv", "journal.csv"), ("fhir", "journal.fhir.ndjson")):
        (folder / name).write_bytes(day.call("dpo-assel", "GET", f"journal?format={form}").content)
    day.say(*(f"  {file}" for file in sorted(folder.iterdir()) if file.is_file()))
