import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechvq.decoding.greedy import decode_greedy, decode_labels


class _Letters:
    def decode(self, ids):
        return "".join("-abcdef"[index] for index in ids)


def decode_slowly(path, blank_id):
    """The definition: merge repeats, then drop blanks."""
    return [label for label, _ in itertools.groupby(path) if label != blank_id]


def to_logits(paths, num_labels):
    width = max(map(len, paths))
    logits = torch.randn(len(paths), width, num_labels, generator=torch.Generator().manual_seed(1))
    for row, path in enumerate(paths):
        for frame, label in enumerate(path):
            logits[row, frame, label] = 10
    return logits


@settings(max_examples=150, deadline=None)
@given(
    paths=st.lists(st.lists(st.integers(0, 3), min_size=0, max_size=9), min_size=1, max_size=4),
    blank_id=st.integers(0, 3),
)
def test_equals_the_definition_at_all_lengths(paths, blank_id):
    if not any(paths):
        return
    logits = to_logits(paths, 4)
    lengths = torch.tensor([len(path) for path in paths])
    expected = [decode_slowly(path, blank_id) for path in paths]
    assert decode_labels(logits, lengths, blank_id) == expected


def test_padding_has_no_influence():
    logits = to_logits([[1, 1, 0, 1, 2], [3, 3, 0]], 4)
    lengths = torch.tensor([5, 3])
    logits[1, 3:] = 100.0 * torch.eye(4)[torch.tensor([2, 1])]
    together = decode_labels(logits, lengths)
    alone = [
        decode_labels(logits[row : row + 1, :length], torch.tensor([length]))[0]
        for row, length in enumerate([5, 3])
    ]
    assert together == alone == [[1, 1, 2], [3]]


def test_text_and_all_blank():
    logits = to_logits([[1, 2, 2, 0, 2], [0, 0, 0, 0, 0]], 4)
    texts = decode_greedy(logits, torch.tensor([5, 5]), _Letters())
    assert texts == ["abb", ""]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(B, T, N\)"):
        decode_labels(torch.zeros(2, 3), torch.tensor([3, 3]))
    with pytest.raises(ValueError, match="lengths"):
        decode_labels(torch.zeros(2, 3, 4), torch.tensor([3]))
