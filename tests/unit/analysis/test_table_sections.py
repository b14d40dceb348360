"""From the files of an analysis to sections."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from speechvq.analysis.code_table import (
    CodeTable,
    CodeTableWriter,
    UtteranceFrames,
    open_code_table,
)
from speechvq.analysis.probes import ProbeSettings
from speechvq.analysis.representations import RepresentationWriter
from speechvq.analysis.sharing_rule import SharingRule
from speechvq.analysis.table_sections import create_layers_of_samples, create_sharing_of_table

RULE = SharingRule(num_resamples=30, num_permutations=19, num_splits=2)
PROBES = ProbeSettings(num_permutations=3, num_resamples=50)
LANGUAGES, PHONES = ("hin_Deva", "kan_Knda"), ("a", "e", "i", "o", "sil")


def write(directory: Path, *, has_codes: bool) -> CodeTable:
    """Six speakers a language; each phone has two codes and a direction, each language too."""
    rng = np.random.default_rng(0)
    groups = {"group": 1} if has_codes else {}
    path, row = directory / "codes.parquet", 0
    with (
        CodeTableWriter(path, groups) as table,
        RepresentationWriter(directory, [0, 3], share=0.5, seed=0) as samples,
    ):
        for number in range(24):
            language = LANGUAGES[number % 2]
            phones = rng.permutation(np.repeat(np.arange(5), 10))
            codes = (2 * phones + rng.integers(2, size=50))[:, None]
            one = UtteranceFrames(
                utterance=f"u{number}",
                language=language,
                speaker=f"x/{number % 12}",
                source="x",
                recording=f"r{number}",
                times=(0.02 * np.arange(50)).astype(np.float32),
                codes={"group": codes} if has_codes else {},
                phones=[PHONES[phone] for phone in phones],
            )
            table.add([one])
            noise = rng.normal(size=(50, 8)).astype(np.float32)
            told = noise + 6 * np.eye(8, dtype=np.float32)[phones]
            told[:, 6] += 5 * (number % 2)
            samples.add(one.utterance, row, [noise, told])
            row += 50
    return open_code_table(path)


def test_sharing(tmp_path: Path) -> None:
    section = create_sharing_of_table(write(tmp_path, has_codes=True), 1, rule=RULE, probes=PROBES)
    assert section.findings[0].startswith("Of 4 comparisons of a phone in two languages")
    assert "4 say that codes are shared" in section.findings[0]
    assert "n = 6 and 6 speakers" in section.findings[0]


def test_layers(tmp_path: Path) -> None:
    section = create_layers_of_samples(tmp_path, write(tmp_path, has_codes=False), 1, PROBES)
    numbers = json.loads(json.dumps(section.numbers))
    best = {
        name: [one["accuracy"]["value"] for one in found]
        for name, found in numbers["probes"].items()
    }
    assert best["language"][0] < 0.8 < 0.95 < best["language"][1]
    assert best["phone"][0] < 0.3 < 0.95 < best["phone"][1]
    assert best["family"][1] > 0.95
    assert any(text.startswith("No probe for source") for text in section.limits)
    assert set(numbers["likeness"]) == {"0", "3"}
    assert numbers["likeness"]["3"]["phones"] == ["a", "e", "i", "o"]


def test_what_is_missing_says_so(tmp_path: Path) -> None:
    table = write(tmp_path, has_codes=False)
    assert "no quantiser" in str(create_sharing_of_table(table, 1).missing)
    missing = create_layers_of_samples(tmp_path / "elsewhere", table, 1).missing
    assert missing == "no representations were kept."


def test_no_frame_says_so(tmp_path: Path) -> None:
    with CodeTableWriter(tmp_path / "codes.parquet", {"group": 1}):
        pass
    table = open_code_table(tmp_path / "codes.parquet")
    assert create_sharing_of_table(table, 1).missing == "there is no frame."


@pytest.mark.parametrize("is_broken", [False, True])
def test_what_cannot_be_probed_says_why(tmp_path: Path, is_broken: bool) -> None:
    """A language of one utterance, and a model that diverged."""
    rng = np.random.default_rng(0)
    with (
        CodeTableWriter(tmp_path / "codes.parquet", {}) as table,
        RepresentationWriter(tmp_path, [0], share=1.0, seed=0) as samples,
    ):
        for number in range(9):
            layer = rng.normal(size=(5, 4)).astype(np.float32)
            if is_broken:
                layer[2, 1] = np.nan
            language = "mdw_Latn" if number == 8 else LANGUAGES[number % 2]
            table.add(
                [
                    UtteranceFrames(
                        utterance=f"u{number}",
                        language=language,
                        speaker=None,
                        source="x",
                        recording="r",
                        times=np.arange(5, dtype=np.float32),
                        phones=list("aeioa"),
                    )
                ]
            )
            samples.add(f"u{number}", 5 * number, [layer])
    section = create_layers_of_samples(
        tmp_path, open_code_table(tmp_path / "codes.parquet"), 1, PROBES
    )
    if is_broken:
        assert "language: the representations are not finite" in str(section.missing)
    else:
        assert section.numbers["likeness"]["0"]["languages"] == list(LANGUAGES)
        assert section.numbers["likeness"]["0"]["phones"] == ["a", "e", "i", "o"]
    assert any("how like mdw_Latn is to other languages" in text for text in section.limits)
