"""The checker of every test that ends a process: is what callers were told in the journal, as they were told it?"""

from collections import Counter
from pathlib import Path
from typing import Any

from ruqsat.core.personal import lifted
from ruqsat.stores.journal_folder import list_segments
from tests.process.load import Heard


def entries_in(journal: Path) -> list[dict[str, Any]]:
    """Return every whole line of a journal with what its personal parts say, headers included, in order."""
    texts = [segment.path.read_bytes() for segment in list_segments(journal)]
    return [lifted(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith(b"\n")]


def not_as_told(journal: Path, heard: Heard) -> list[str]:
    """Return the ids that were answered and are not in the journal exactly once, as sent and as answered."""
    entries = entries_in(journal)
    kept = Counter((entry["id"], entry["allowed"]) for entry in entries if entry["kind"] == "decision")
    ids = Counter(entry["id"] for entry in entries if entry["kind"] == "decision")
    not_sent = {entry["id"] for entry in entries if entry["kind"] == "not_sent"}
    told = [(each, True) for each in heard.allowed] + [(each, False) for each in heard.denied]
    return [each[0] for each in told if kept[each] != 1 or ids[each[0]] != 1 or each[0] in not_sent]
