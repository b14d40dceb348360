"""`recipes.demo` from sentences to the page, as a user starts it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from speechvq.demo.config import PLANS, DemoPreset


def _run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "recipes.demo", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_wrong_keys_write_nothing(tmp_path):
    result = _run(f"output={tmp_path / 'demo'}", "preset=huge", "wrokers=2")
    assert result.returncode == 2
    assert "preset=huge" in result.stderr
    assert "workers" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_line(tmp_path):
    pytest.importorskip("espeakng_loader", reason="needs the extra `demo`")
    pytest.importorskip("fairseq2", reason="needs the extra `train`")
    output = tmp_path / "demo"
    result = _run(f"output={output}", "preset=ci")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert str(output / "index.html") in result.stdout
    plan = PLANS[DemoPreset.ci]
    for language in plan.finetuned:
        metrics = json.loads((output / "evaluated" / language / "metrics.json").read_text())
        assert metrics["num_utterances"] == plan.num_test
        assert 0 <= metrics["wer"] <= 3
        assert metrics["shared_speakers"] == []
    summary = json.loads((output / "corpus" / "corpus.json").read_text())
    for split, count in (("train", plan.num_train), ("dev", plan.num_dev), ("test", plan.num_test)):
        assert set(summary["splits"][split]) == set(plan.languages)
        assert summary["splits"][split]["tam_Taml"]["num_utterances"] == count
    with (output / "speech" / "phones.tsv").open(encoding="utf-8") as file:
        paths = {row["path"] for row in csv.DictReader(file, delimiter="\t")}
    assert all((output / "speech" / path).is_file() for path in paths)

    # Started again, it does nothing over again but the page.
    page = (output / "index.html").read_bytes()
    again = _run(f"output={output}", "preset=ci")
    assert again.returncode == 0
    assert again.stdout.count("done before") == 8
    assert (output / "index.html").read_bytes() == page
