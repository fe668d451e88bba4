"""The pages under docs/errors, read: how each spoils the pack, and what check then says."""

import re
from datetime import date

from ruqsat.cli.policy import findings_of_pack
from ruqsat.core.admission import try_cases
from ruqsat.core.diagnostics import Diagnostic
from ruqsat.core.pack import load_pack
from ruqsat.stores.policy_folder import load_texts
from tests.conftest import ROOT

PAGES = ROOT / "docs" / "errors"
REVIEW_DAY = date(2026, 11, 24)


def spoilt(page: str) -> dict[str, bytes]:
    """Return the shipped pack, spoilt as the page says."""
    texts = load_texts(ROOT)
    change = re.search(r"^`(\S+)` is changed:\n\n```diff\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    if change is not None:
        name, lines = change.group(1), change.group(2).splitlines()
        old, new = ("\n".join(line[2:] for line in lines if line[:2] == mark) for mark in ("- ", "+ "))
        new = re.sub(r"⟨(\d+) × (.*?)⟩", lambda many: int(many.group(1)) * many.group(2), new, flags=re.DOTALL)
        text = texts[name].decode()
        assert old in text, (name, old)
        texts[name] = (text.replace(old, new, 1) if old else text + new + "\n").encode()
    saved = re.search(r"^`(\S+)` is (taken away|emptied|(?:saved as|renamed to) `(\S+)`)\.$", page, re.MULTILINE)
    if saved is not None:
        name, how, codec = saved.groups()
        if how == "taken away":
            del texts[name]
        elif how == "emptied":
            texts[name] = b"# nothing\n"
        elif how.startswith("renamed"):
            texts[codec] = texts.pop(name)
        elif codec == "semicolons":
            texts[name] = re.sub(r",(?![^(]*\))", ";", texts[name].decode()).encode()
        else:
            # Old code pages lack some letters of ours; a program that saves so loses them.
            texts[name] = texts[name].decode().encode(codec, errors="replace")
    assert texts != load_texts(ROOT), "the page changes nothing"
    return texts


def findings_of(texts: dict[str, bytes]) -> list[Diagnostic]:
    """Return what check and the cases say of a pack."""
    findings, _ = findings_of_pack(texts, REVIEW_DAY)
    policy_set, _ = load_pack(texts)
    return [*findings, *(try_cases(texts, policy_set)[1] if policy_set is not None else ())]
