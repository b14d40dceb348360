"""docs/results.md and the README's table come from the saved measurements."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "docs" / "make_results.py"
ENTRY = {
    "title": "A run",
    "date": "2026-01-02",
    "machine": "2 cores",
    "commands": ["speechvq a", "speechvq b"],
    "columns": ["language", "WER"],
    "rows": [["hin_Deva", "12.3 % | 4"]],
    "notes": ["One run."],
    "headline": [{"what": "WER", "figure": "12.3 %"}],
}


@pytest.fixture(scope="module")
def make_results():
    spec = importlib.util.spec_from_file_location("make_results", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _save(folder, **changes):
    content = {key: value for key, value in (ENTRY | changes).items() if value is not None}
    (folder / "one.json").write_text(json.dumps(content))


def test_an_entry_becomes_a_section_with_its_command(make_results, tmp_path):
    _save(tmp_path)
    text = make_results.format_results(make_results.load_entries(tmp_path))
    assert "## A run\n\n2026-01-02, 2 cores" in text
    assert "```sh\nspeechvq a\nspeechvq b\n```" in text
    assert "| hin_Deva | 12.3 % \\| 4 |" in text
    assert "- One run." in text


def test_the_readme_keeps_what_stands_around_the_table(make_results, tmp_path):
    _save(tmp_path)
    table = make_results.format_headline(make_results.load_entries(tmp_path))
    readme = f"before\n{make_results.BEGIN}\nold\n{make_results.END}\nafter\n"
    new = make_results.replace_headline(readme, table)
    assert new.startswith("before\n")
    assert new.endswith("\nafter\n")
    assert "| WER | 12.3 % | `speechvq a`<br>`speechvq b` |" in new
    assert "old" not in new
    with pytest.raises(SystemExit, match=r"README\.md must have"):
        make_results.replace_headline("no marks", table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"machine": None}, r"missing \['machine'\]"),
        ({"colour": "red"}, r"unknown \['colour'\]"),
        ({"rows": [["hin_Deva"]]}, "must have 2 cells"),
    ],
)
def test_malformed_entries_are_refused(make_results, tmp_path, changes, message):
    _save(tmp_path, **changes)
    with pytest.raises(SystemExit, match=message):
        make_results.load_entries(tmp_path)


def test_the_committed_pages_are_up_to_date():
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
