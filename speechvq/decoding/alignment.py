"""Edit operations between references and hypotheses, per utterance; the edit distance is jiwer's.

Stands between texts and `speechvq.decoding.scoring`. An empty reference is legitimate here: every
unit of its hypothesis is an insertion, and it adds nothing to the denominator. (`jiwer.wer("",
"a")` is 1 and `jiwer.wer("", "a b")` is 2, counts rather than rates; so jiwer is never asked for
a rate.)
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import jiwer
import numpy as np
from numpy.typing import NDArray

Pair = tuple[str | None, str | None]
"""One aligned position: (reference, hypothesis), None where a side has nothing."""
IntArray = NDArray[np.int64]
_SEPARATOR = "\x1f"  # Unicode's unit separator counts as white space, so no unit holds it
_COLUMNS = {"substitute": 0, "replace": 0, "delete": 1, "insert": 2}


class Unit(StrEnum):
    """What is counted.

    Text is brought to NFC first, and runs of white space count as one space.
    """

    WORD = "word"
    """Whatever stands between white space."""
    CHARACTER = "character"
    """Unicode code points, the spaces between words included, as jiwer's `cer` does."""
    LETTER = "letter"
    """Unicode code points without any spaces."""


@dataclass(frozen=True, kw_only=True)
class EditCounts:
    """Edit operations of U utterances, in one unit.

    Attributes:
        substitutions: (U,)
        deletions: (U,)
        insertions: (U,)
        reference_lengths: (U,) units in the references.
    """

    substitutions: IntArray
    deletions: IntArray
    insertions: IntArray
    reference_lengths: IntArray

    def __post_init__(self) -> None:
        arrays = (self.substitutions, self.deletions, self.insertions, self.reference_lengths)
        if any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays):
            raise ValueError(
                "The four counts must be vectors of one length, but their shapes are "
                f"{', '.join(str(array.shape) for array in arrays)}."
            )

    def __len__(self) -> int:
        return len(self.reference_lengths)

    @property
    def errors(self) -> IntArray:
        """(U,) substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    def select(self, rows: NDArray[np.bool_] | IntArray) -> EditCounts:
        """Returns the counts of some utterances, by mask (U,) or by position."""
        return EditCounts(
            substitutions=self.substitutions[rows],
            deletions=self.deletions[rows],
            insertions=self.insertions[rows],
            reference_lengths=self.reference_lengths[rows],
        )


def split_units(text: str, unit: Unit) -> list[str]:
    """Returns the words, characters or letters of a text, NFC-normalised."""
    words = unicodedata.normalize("NFC", text).split()
    match unit:
        case Unit.WORD:
            return words
        case Unit.CHARACTER:
            return list(" ".join(words))
        case Unit.LETTER:
            return list("".join(words))


def align(reference: str, hypothesis: str, unit: Unit) -> list[Pair]:
    """Returns a best alignment of two texts, position by position."""
    references, hypotheses = split_units(reference, unit), split_units(hypothesis, unit)
    pairs: list[Pair] = []
    for chunk in _align_all([references], [hypotheses])[0]:
        said = references[chunk.ref_start_idx : chunk.ref_end_idx]
        heard = hypotheses[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for index in range(max(len(said), len(heard))):
            pairs.append(
                (
                    said[index] if index < len(said) else None,
                    heard[index] if index < len(heard) else None,
                )
            )
    return pairs


def count_edits(references: Sequence[str], hypotheses: Sequence[str], unit: Unit) -> EditCounts:
    """Counts the edit operations of U utterances.

    Args:
        references: U texts; empty ones are allowed.
        hypotheses: U texts; empty ones are allowed.
        unit: What is counted.
    """
    if len(references) != len(hypotheses):
        raise ValueError(
            f"There must be as many hypotheses as references ({len(references)}), "
            f"but there are {len(hypotheses)}."
        )
    said = [split_units(text, unit) for text in references]
    heard = [split_units(text, unit) for text in hypotheses]
    counts = np.zeros((len(said), 3), dtype=np.int64)
    for row, chunks in enumerate(_align_all(said, heard)):
        for chunk in chunks:
            if chunk.type != "equal":
                size = max(
                    chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
                )
                counts[row, _COLUMNS[chunk.type]] += size
    return EditCounts(
        substitutions=counts[:, 0],
        deletions=counts[:, 1],
        insertions=counts[:, 2],
        reference_lengths=np.array([len(units) for units in said], dtype=np.int64),
    )


def count_confusions(
    references: Sequence[str], hypotheses: Sequence[str], unit: Unit
) -> Counter[Pair]:
    """Counts which unit was taken for which; None stands for deletions and insertions."""
    confusions: Counter[Pair] = Counter()
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        for said, heard in align(reference, hypothesis, unit):
            if said != heard:
                confusions[said, heard] += 1
    return confusions


def _align_all(
    references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]
) -> list[list[jiwer.AlignmentChunk]]:
    if not references:
        return []
    # The texts are split already: jiwer is to see the units as they are, spaces included.
    split = jiwer.ReduceToListOfListOfWords(word_delimiter=_SEPARATOR)
    output = jiwer.process_words(
        [_SEPARATOR.join(units) for units in references],
        [_SEPARATOR.join(units) for units in hypotheses],
        reference_transform=split,
        hypothesis_transform=split,
    )
    return output.alignments
