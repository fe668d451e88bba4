"""Benches that neither the gate nor the report runs still measure; what they measure here says nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bench.report import population, read

from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "last"),
    [(("break_glass.py", "--tries", "2"), "without: n=2 opened in p50"),
     (("population.py", "--sizes", "100,200"), "200 patients in memory: ")],
    ids=["break_glass", "population"],
)  # fmt: skip
def test_it_measures_to_its_end(words: tuple[str, ...], last: str, tmp_path: Path) -> None:
    """Whatever was changed in the parts that it puts together by hand; the report can tell what it leaves."""
    left = tmp_path / "population.json"
    if words[0] == "population.py":
        words = (*words, "--results", str(left))
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / words[0], *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}, timeout=300,
    )  # fmt: skip

    assert done.returncode in (0, 1), done.stderr  # 1 is a figure that misses what is owed
    assert done.stdout.splitlines()[-1].strip().startswith(last), done.stdout + done.stderr
    if words[0] == "population.py":
        parts, others, _ = read(tmp_path, tmp_path)
        assert "200 patients in memory take" in population(parts["population"], others)


def test_one_figure_that_is_missed_hides_no_other(tmp_path: Path) -> None:
    """`make bench-micro` goes on, and ends with 1 all the same."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho ran "$1"\ncase "$1" in *evaluate_by_rules*) exit 1; esac\n')
    python.chmod(0o755)
    words = ("make", "-o", f"{tmp_path}/.run", "bench-micro", f"VENV={tmp_path}", f"BIN={tmp_path}")

    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode != 0 and done.stdout.count("ran bench/micro/") == 6, done


def test_locusts_page_offers_nothing_that_would_change_nothing() -> None:
    """The calls are prepared before: of another shape its page told only the name, and judged by that."""
    source = (ROOT / "bench" / "locustfile.py").read_text()

    assert re.findall(r'parser\.add_argument\("--([a-z-]+)"', source) == ["seconds", "callers"]
    assert "add = partial(parser.add_argument, include_in_web_ui=False)" in source
