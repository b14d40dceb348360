"""Low and high voices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from speechvq.analysis.pitch import group_by_pitch, measure_pitch
from speechvq.data.records import SAMPLE_RATE
from tests.support.code_tables import assign_shared, create_counts


def create_voice(hertz: float, seconds: float, level: float) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return level * sum(np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 6))


def measure(*parts: np.ndarray) -> float:
    return measure_pitch(np.concatenate(parts).astype(np.float32))


@pytest.mark.parametrize("hertz", [110.0, 220.0])
def test_the_pitch_of_a_voice(hertz: float) -> None:
    assert measure(create_voice(hertz, 0.8, 0.3)) == pytest.approx(hertz, rel=0.02)
    assert np.isnan(measure(create_voice(hertz, 0.4, 0.3)))


def test_the_louder_part_counts() -> None:
    quiet, loud = create_voice(100.0, 0.3, 0.01), create_voice(220.0, 0.6, 0.3)
    assert measure(quiet, loud) == pytest.approx(220.0, rel=0.02)
    assert measure(loud, quiet) == pytest.approx(220.0, rel=0.02)


def test_speakers_are_low_or_high_as_a_whole() -> None:
    counts = create_counts(
        np.random.default_rng(0), {"hin_Deva": {"x": 4}}, assign_shared(), utterances=3
    )
    names, speakers = counts.utterances.tolist(), np.unique(counts.speakers).tolist()
    pitch = {name: 120.0 if speakers[0] in name else 210.0 for name in names[:9]}
    pitch[names[0]] = 400.0  # one utterance of three
    pitch[names[4]] = float("nan")
    groups = group_by_pitch(counts, pitch)
    assert groups.tolist() == ["low"] * 3 + ["high"] * 6 + [""] * 3
    alone = replace(counts, speakers=np.full(len(names), ""))
    assert group_by_pitch(alone, pitch).tolist() == [
        *("high", "low", "low", "high", "", "high", "high", "high", "high", "", "", "")
    ]
    assert set(group_by_pitch(counts, {}).tolist()) == {""}
