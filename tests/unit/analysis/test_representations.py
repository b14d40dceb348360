from __future__ import annotations

import numpy as np
import pytest

from speechvq.analysis.representations import (
    RepresentationWriter,
    choose_frames,
    list_layers,
    read_layer,
)
from speechvq.errors import DataError


def test_means_and_frames_come_back(tmp_path):
    rng = np.random.default_rng(0)
    layers = [[rng.normal(size=(n, 4)).astype(np.float32) for _ in range(2)] for n in (30, 7)]
    with RepresentationWriter(tmp_path, [0, 5], share=0.5, seed=1) as writer:
        writer.add("u0", 0, layers[0])
        writer.add("u1", 30, layers[1])
    assert list_layers(tmp_path) == [0, 5]
    rows = np.concatenate([choose_frames("u0", 30, 0.5, 1), 30 + choose_frames("u1", 7, 0.5, 1)])
    for place, number in enumerate([0, 5]):
        sample = read_layer(tmp_path, number)
        whole = np.concatenate([layers[0][place], layers[1][place]])
        assert sample.utterance_ids.tolist() == ["u0", "u1"]
        assert sample.frame_rows.tolist() == rows.tolist()
        np.testing.assert_array_equal(sample.frames, whole[rows].astype(np.float16))
        means = [layers[0][place].mean(0), layers[1][place].mean(0)]
        np.testing.assert_allclose(sample.utterances, means, atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"representations"}


def test_the_choice_is_of_the_utterance_alone():
    assert len(choose_frames("u", 10_000, 0.1, 1)) == pytest.approx(1000, abs=100)
    assert choose_frames("u", 50, 0.5, 1).tolist() == choose_frames("u", 50, 0.5, 1).tolist()
    assert choose_frames("u", 50, 0.5, 1).tolist() != choose_frames("u", 50, 0.5, 2).tolist()
    assert choose_frames("u", 5, 1.0, 1).tolist() == [0, 1, 2, 3, 4]


def test_a_run_that_fails_leaves_the_old_samples(tmp_path):
    with RepresentationWriter(tmp_path, [0], share=1.0, seed=1) as writer:
        writer.add("old", 0, [np.ones((2, 3), np.float32)])
    failing = RepresentationWriter(tmp_path, [0], share=1.0, seed=1)
    with pytest.raises(ValueError, match="longer"), failing:
        failing.add("new", 0, [np.ones((2, 3), np.float32)] * 2)
    assert read_layer(tmp_path, 0).utterance_ids.tolist() == ["old"]
    with pytest.raises(DataError, match="cannot be read"):
        read_layer(tmp_path, 3)
