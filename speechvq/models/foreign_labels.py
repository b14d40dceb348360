"""What the outputs of another project's CTC head stand for, and how they become a vocabulary of
ours: the blank first, then the unknown character, then the space between words, then the rest in
their order. Pure functions; `speechvq.models.interop_labels` reads the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.vocabulary import (
    BLANK,
    UNKNOWN,
    WORD_SEPARATOR,
    CharacterVocabulary,
    GraphemeVocabulary,
    SentencePieceVocabulary,
    Vocabulary,
    is_cluster,
)

ABSENT_BIAS = -1e4
"""Bias of a label that the other head has not: its probability is 0 in fp32 and in fp16."""


@dataclass(frozen=True, kw_only=True)
class ForeignLabels:
    """The outputs of another project's head.

    Attributes:
        tokens: One string an output, in their order.
        blank: Which of them is the blank.
        unknown: Which stands for characters that have no output; None where none does.
        separator: Which stands between words; None where none does.
    """

    tokens: tuple[str, ...]
    blank: int
    unknown: int | None
    separator: int | None


@dataclass(frozen=True)
class HeadLayout:
    """How a head of ours is made of another project's.

    Attributes:
        vocabulary: The labels of ours.
        rows: For each label the output of theirs; None where they have none.
        num_outputs: Outputs of theirs.
    """

    vocabulary: Vocabulary
    rows: tuple[int | None, ...]
    num_outputs: int

    @property
    def left_out(self) -> int:
        """Outputs of theirs that no label of ours has."""
        return self.num_outputs - len({row for row in self.rows if row is not None})


def arrange_characters(labels: ForeignLabels) -> HeadLayout:
    """The layout of a head whose outputs are tokens that stand for themselves.

    Args:
        labels: Their outputs.

    Returns:
        A layout with every output of theirs.

    Raises:
        ModelError: Two tokens are the same, or one has a name that means something else here.
    """
    # An output that is the blank as well must not be counted twice.
    unknown = None if labels.unknown == labels.blank else labels.unknown
    separator = None if labels.separator in (labels.blank, unknown) else labels.separator
    special = (labels.blank, unknown, separator)
    others = [index for index in range(len(labels.tokens)) if index not in special]
    names = [labels.tokens[index] for index in others]
    if not all(names):
        raise ModelError("a label must not be empty.")
    for name in (BLANK, UNKNOWN, WORD_SEPARATOR):
        if name in names:
            raise ModelError(
                f"the label {name!r} must be the blank, the unknown character or the space between "
                "words, as its name says, but is an ordinary one."
            )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ModelError(f"labels must differ from each other, but {repeated[0]!r} stands twice.")
    # Labels such as "<s>", which are written in several characters, are left to plain decoding.
    is_clusters = any(len(name) > 1 and is_cluster(name) for name in names)
    vocabulary = (GraphemeVocabulary if is_clusters else CharacterVocabulary)(names)
    return HeadLayout(vocabulary, (*special, *others), len(labels.tokens))


def arrange_pieces(
    vocabulary: SentencePieceVocabulary, *, blank: int, unknown: int | None
) -> HeadLayout:
    """The layout of a head with an output for each piece of a sentencepiece model.

    Args:
        vocabulary: Of that model.
        blank: Their output that is the blank.
        unknown: Their output for unknown characters, if it is not the blank.

    Returns:
        A layout without the outputs of control symbols, which stand for no text.
    """
    rows = (blank, unknown, *vocabulary.piece_ids)
    return HeadLayout(vocabulary, rows, vocabulary.num_pieces)


def lower_labels(labels: ForeignLabels) -> ForeignLabels:
    """The same outputs with tokens in lower case.

    Args:
        labels: Their outputs.

    Raises:
        ModelError: Two tokens become the same.
    """
    special = {labels.blank, labels.unknown, labels.separator}
    tokens = tuple(
        token if index in special else token.lower() for index, token in enumerate(labels.tokens)
    )
    if len(set(tokens)) < len(tokens):
        raise ModelError("the labels cannot be put into lower case: some become the same then.")
    return replace(labels, tokens=tokens)


def arrange_head(weight: Tensor, bias: Tensor, rows: Sequence[int | None]) -> tuple[Tensor, Tensor]:
    """Puts the outputs of a head into another order.

    Args:
        weight: (M, D).
        bias: (M,).
        rows: N outputs of theirs; None gets `ABSENT_BIAS`.

    Returns:
        (N, D) weight and (N,) bias.
    """
    ours = weight.new_zeros(len(rows), weight.size(1))
    our_bias = bias.new_full((len(rows),), ABSENT_BIAS)
    here = torch.tensor([i for i, row in enumerate(rows) if row is not None], dtype=torch.long)
    there = torch.tensor([row for row in rows if row is not None], dtype=torch.long)
    ours[here], our_bias[here] = weight[there], bias[there]
    return ours, our_bias
