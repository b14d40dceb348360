"""The page of a training run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("fairseq2")

from speechvq.training.report import write_run_report


def test_error_rates_of_languages_are_in_percent_as_the_headline(tmp_path: Path) -> None:
    line = {
        "split": "dev",
        "step": 5,
        "cer": 0.25,
        "wer": 1.0,
        "languages": {"hin_Deva": {"cer": 0.25, "wer": 1.0}},
    }
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    corpus = {"hours": 0.1, "languages": {"hin_Deva": {"hours": 0.1, "utterances": 3}}}
    summary = {"corpus": corpus, "best": {"cer": 0.25, "step": 5}, "steps": 5}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")

    page = write_run_report(tmp_path, title="Finetuning hin_Deva").read_text(encoding="utf-8")

    assert ">25.0 %</td>" in page
    assert ">100.0 %</td>" in page
    assert "CER on dev in %" in page
