"""What a run heard of each language."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechvq.data.index import load_index
from speechvq.training.sampling import summarize_sampling
from tests.support.corpora import write_tone_corpus


def test_heard_seconds_of_all_intervals_are_held_against_the_plan(tmp_path: Path) -> None:
    index = load_index([write_tone_corpus(tmp_path / "tones")], split="train")
    hours = index.hours_by_language()

    def line(split: str, hindi: float, tamil: float) -> dict[str, object]:
        languages = {"hin_Deva": {"seconds": hindi}, "tam_Taml": {"seconds": tamil}}
        return {"step": 1, "split": split, "languages": languages}

    lines = [line("train", 30.0, 10.0), line("dev", 500.0, 1.0), line("train", 60.0, 20.0)]
    sampling = summarize_sampling(lines, index, alpha=0.0)
    assert sampling["hin_Deva"]["planned_share"] == 0.5
    assert sampling["hin_Deva"]["heard_share"] == 0.75
    assert sampling["tam_Taml"]["heard_hours"] == pytest.approx(30 / 3600, abs=1e-6)
    assert sampling["tam_Taml"]["passes"] == pytest.approx(30 / 3600 / hours["tam_Taml"], abs=1e-4)
