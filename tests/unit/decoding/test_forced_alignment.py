import itertools
import sys

import numpy as np
import pytest
import torch

from speechvq.decoding.forced_alignment import align_labels, align_with_numpy, find_spans
from speechvq.decoding.greedy import decode_labels
from speechvq.errors import DataError


def make_log_probs(num_frames, num_labels, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_frames, num_labels, generator=generator).log_softmax(-1)


def collapse(path):
    return [label for label, _ in itertools.groupby(path) if label != 0]


def search_exhaustively(log_probs, labels):
    """The best of all paths that spell the labels."""
    num_frames, num_labels = log_probs.shape
    paths = (
        path
        for path in itertools.product(range(num_labels), repeat=num_frames)
        if collapse(path) == list(labels)
    )
    return max(paths, key=lambda path: sum(log_probs[t, label] for t, label in enumerate(path)))


@pytest.mark.parametrize("labels", [(1,), (1, 1), (2, 1, 2), (1, 2, 2), (2, 2, 2)])
def test_numpy_finds_the_best_of_all_paths(labels):
    for seed in range(5):
        log_probs = make_log_probs(6, 3, seed).numpy()
        path = align_with_numpy(log_probs, labels)
        assert tuple(path) == search_exhaustively(log_probs, labels)


def test_torchaudio_and_numpy_find_the_same_path():
    pytest.importorskip("torchaudio")
    generator = np.random.default_rng(1)
    for seed in range(30):
        log_probs = make_log_probs(60, 9, seed)
        labels = generator.integers(1, 9, size=int(generator.integers(1, 25))).tolist()
        path = align_labels(log_probs, labels)
        assert path.tolist() == align_with_numpy(log_probs.numpy(), labels).tolist()
        assert collapse(path.tolist()) == labels


def test_without_torchaudio_numpy_aligns(monkeypatch):
    log_probs = make_log_probs(40, 5, 1)
    expected = align_with_numpy(log_probs.numpy(), [1, 2, 2, 4])
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    assert align_labels(log_probs, [1, 2, 2, 4]).tolist() == expected.tolist()


def test_the_greedy_path_is_the_alignment_of_its_text():
    for seed in range(10):
        log_probs = make_log_probs(80, 6, seed)
        labels = decode_labels(log_probs[None], torch.tensor([80]))[0]
        assert align_labels(log_probs, labels).tolist() == log_probs.argmax(-1).tolist()


def test_spans_tell_labels_frames_and_probabilities():
    path = torch.tensor([0, 2, 2, 0, 2, 1, 0])
    log_probs = make_log_probs(7, 3, 1)
    spans = find_spans(log_probs, path)
    assert [(s.label, s.begin_frame, s.end_frame) for s in spans] == [
        (2, 1, 3),
        (2, 4, 5),
        (1, 5, 6),
    ]
    assert spans[0].probability == pytest.approx(float(log_probs[1:3, 2].exp().mean()))
    assert find_spans(log_probs[:0], path[:0]) == []


def test_no_labels_are_all_blank_and_too_many_are_refused():
    log_probs = make_log_probs(5, 3, 1)
    assert align_labels(log_probs, []).tolist() == [0] * 5
    assert collapse(align_labels(log_probs, [1, 1, 2, 1]).tolist()) == [1, 1, 2, 1]
    with pytest.raises(DataError, match="at least 6 frames"):
        align_labels(log_probs, [1, 1, 2, 2])
