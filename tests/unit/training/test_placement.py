"""Codebooks that start on the corpus's own sounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechvq.data.index import load_index
from speechvq.data.rows import RowReader
from speechvq.errors import DataError
from speechvq.models.build import create_pretrain_model
from speechvq.models.presets import create_gumbel, create_preset
from speechvq.models.pretrain_model import PretrainModel
from speechvq.training import placement
from speechvq.training.placement import collect_features, draw_utterances, place_quantizer
from tests.support.corpora import write_tone_corpus


def create_model(codebook_size: int) -> PretrainModel:
    architecture = replace(create_preset("tiny"), quantizer=create_gumbel("tiny"))
    architecture.quantizer.codebook_size = codebook_size
    torch.manual_seed(0)
    return create_pretrain_model(architecture)


def place(model: PretrainModel, corpus: Path) -> None:
    index = load_index([corpus], split="train")
    place_quantizer(model, index, seed=1, alpha=0.7, max_samples=16_000)


def measure_spread(model: PretrainModel, corpus: Path) -> list[float]:
    """Mean variance within a code of the channels that belong to each codebook."""
    index = load_index([corpus], split="train")
    rows = RowReader(index, capacity=4)
    features = []
    for position in range(len(index)):
        waveform = torch.from_numpy(rows.read_waveform(position))[None]
        features.append(model.encoder.compute_features(waveform, torch.tensor([waveform.size(1)])))
    frames = torch.cat([found[0][0] for found in features])  # (T, C)
    codes = model.quantizer.encode(frames[None])[0]  # (T, G)
    spread = []
    for g, part in enumerate(frames.chunk(codes.size(1), dim=1)):
        rest = part.clone()
        for code in codes[:, g].unique():
            rest[codes[:, g] == code] -= part[codes[:, g] == code].mean(0)
        spread.append(float(rest.square().mean()))
    return spread


def test_codes_of_a_new_model_stand_for_kinds_of_sound(tmp_path: Path) -> None:
    """Frames with one code are alike, more so than with codebooks in random directions. The first
    codebook has the lower frequencies, where the tones are; the second mostly hears noise.
    """
    corpus = write_tone_corpus(tmp_path / "tones", counts={"train": 8})
    model = create_model(12)
    before = measure_spread(model, corpus)
    place(model, corpus)
    after = measure_spread(model, corpus)
    assert after[0] < 0.5 * before[0]
    assert after[1] < 0.9 * before[1]


def test_placement_depends_on_seed_and_corpus_only(tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "tones", counts={"train": 4})
    first, second = create_model(8), create_model(8)
    place(first, corpus)
    torch.manual_seed(99)
    place(second, corpus)
    assert torch.equal(first.quantizer.projection.weight, second.quantizer.projection.weight)


def test_large_codebook_is_placed_on_more_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_tone_corpus(tmp_path / "tones", counts={"train": 20})
    monkeypatch.setattr(placement, "PLACING_SECONDS", 1.0)
    index = load_index([corpus], split="train")
    numbers = [
        len(collect_features(create_model(size), index, seed=1, alpha=0.7, max_samples=16_000))
        for size in (2, 100)
    ]
    assert numbers[0] < 100
    assert numbers[1] >= 400


def test_corpus_smaller_than_a_codebook_is_refused(tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "tones", counts={"train": 1})
    with pytest.raises(DataError, match="quantizer_init=random"):
        place(create_model(3000), corpus)


def test_languages_are_drawn_by_temperature(tmp_path: Path) -> None:
    """With alpha 0 a language of a tenth of the hours gives half of what is drawn first."""
    write_tone_corpus(tmp_path / "many", languages=["hin_Deva"], counts={"train": 40})
    write_tone_corpus(tmp_path / "few", languages=["tam_Taml"], counts={"train": 10})
    index = load_index([tmp_path / "many", tmp_path / "few"], split="train")
    tamil = index.languages.index("tam_Taml")
    drawn = []
    for seed in range(40):
        order = draw_utterances(index, seed, 0.0, 16_000, max_seconds=8.0)
        drawn.append(np.mean(index.language[order] == tamil))
    assert 0.4 < np.mean(drawn) < 0.6
