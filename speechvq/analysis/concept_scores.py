"""How well codes, and neurons to compare with, stand for concepts: precision, recall, lift.

A concept is a set of frames: those with one label. A code stands for it with a precision (share of
its frames that have the label) and a recall (share of the label's frames that have the code), after
"Codebook Features" (arXiv 2310.17230), section 4.2. Which code stands for which concept has to be
found on other frames than those on which it is measured: `find_best_codes` on dev, `score_codes` on
test. A neuron is compared at the same recall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LEFT_OUT = -2
"""Label of frames of which nothing is known."""


@dataclass(frozen=True, kw_only=True)
class ConceptCounts:
    """Frames of each concept and code.

    Attributes:
        both: (L, V) long, frames that have label l and code c.
        codes: (V,) long, frames that have code c, with any label or none.
        labels: (L,) long, frames that have label l: the concept's support.
        num_frames: All.
    """

    both: Tensor
    codes: Tensor
    labels: Tensor
    num_frames: int


@dataclass(frozen=True, kw_only=True)
class ConceptScores:
    """How well one detector of each concept does.

    Attributes:
        chosen: (L,) long, the code or neuron.
        precision: (L,) float64; 0 where it never fires.
        recall: (L,) float64; 0 where the concept has no frames.
        support: (L,) long, frames of the concept.
        lift: (L,) float64, precision over the concept's share of all frames; 0 without frames.
    """

    chosen: Tensor
    precision: Tensor
    recall: Tensor
    support: Tensor
    lift: Tensor


class CodePairs:
    """Which codes each frame of one codebook has, each once, ready to be counted with many labels.

    Args:
        codes: (N, k) long, codes of one codebook; below 0: none.
        num_codes: V.
    """

    def __init__(self, codes: Tensor, num_codes: int) -> None:
        ordered = codes.sort(1).values
        is_new = ordered >= 0  # a code that fills several slots of a frame counts once
        is_new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
        self.num_codes = num_codes
        self.frames = np.asarray(is_new.nonzero()[:, 0])
        self.codes = np.asarray(ordered[is_new])

    def count(self, labels: Tensor, num_labels: int) -> ConceptCounts:
        """Counts frames with labels (N,), as `count_concepts` has them."""
        rows = np.asarray(labels, dtype=np.int64)
        rows = np.where(rows < 0, num_labels - 1 - rows, rows)  # unlabelled, then left out
        places = rows[self.frames] * self.num_codes + self.codes
        num_cells = (num_labels + 2) * self.num_codes
        both = torch.from_numpy(np.bincount(places, minlength=num_cells))
        both = both.view(num_labels + 2, self.num_codes)[:-1]
        sizes = torch.from_numpy(np.bincount(rows, minlength=num_labels + 2))
        return ConceptCounts(
            both=both[:-1],
            codes=both.sum(0),
            labels=sizes[:num_labels],
            num_frames=int(sizes[:-1].sum()),
        )


def count_concepts(
    codes: Tensor, labels: Tensor, *, num_codes: int, num_labels: int
) -> ConceptCounts:
    """Counts frames; of several codebooks each is counted on its own. Counts of parts may be added.

    Args:
        codes: (N, k) long, codes of one codebook; below 0: none.
        labels: (N,) long; −1: no label, counts against precision; `LEFT_OUT`: counts nowhere.
        num_codes: V.
        num_labels: L.
    """
    return CodePairs(codes, num_codes).count(labels, num_labels)


def find_best_codes(counts: ConceptCounts, *, min_recall: float) -> Tensor:
    """The code of the highest precision for each concept, among those of enough recall; the one of
    higher recall where several are as precise.

    Args:
        counts: Of frames that are for choosing.
        min_recall: A code with less is taken only where none has it.

    Returns:
        (L,) long.
    """
    precision = counts.both / counts.codes.clamp(min=1)
    recall = counts.both / counts.labels.clamp(min=1)[:, None]
    worth = torch.where(recall >= min_recall, precision.double() + 1.0, recall.double())
    return (worth + 1e-9 * recall).argmax(1)


def score_codes(counts: ConceptCounts, chosen: Tensor) -> ConceptScores:
    """Scores codes that were chosen elsewhere.

    Args:
        counts: Of frames that are for measuring.
        chosen: (L,) long, a code a concept.
    """
    hits = counts.both.gather(1, chosen[:, None])[:, 0]
    return _score(chosen, hits, counts.codes[chosen], counts.labels, counts.num_frames)


class NeuronTable:
    """Activations of M neurons, ordered once, so that any recall can be asked for.

    A neuron fires above the threshold that gives the recall; with `both_signs` there are M more
    detectors that fire below it.

    Args:
        activations: (N, M) float.
        labels: (N,) long; −1: no label, counts against precision.
        num_labels: L.
        both_signs: Whether small values may mean something as well.
    """

    def __init__(
        self, activations: Tensor, labels: Tensor, num_labels: int, *, both_signs: bool = True
    ) -> None:
        columns = activations.t().contiguous()  # (M, N)
        self.num_frames = len(labels)
        self._both_signs = both_signs
        self.support = torch.bincount(labels[labels >= 0], minlength=num_labels)
        self._ordered = _sort(columns)
        self._own = [_sort(columns[:, labels == label]) for label in range(num_labels)]

    def measure(self, recalls: Tensor, chosen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Hits and firings of each concept and detector at given recalls.

        Args:
            recalls: (L,) float.
            chosen: (L,) long, one detector a concept; None for all.

        Returns:
            Twice (L, M), (L, 2 M) or (L, 1) long: frames of the concept above (then below) the
            threshold, and all such frames.
        """
        hits, fired = [], []
        for label, recall in enumerate(recalls.tolist()):
            own = self._own[label]  # (M, n)
            size = own.size(1)
            number = min(size, max(1, round(recall * size))) if recall > 0 else 0
            found = torch.stack([self._count(table, own, number) for table in (own, self._ordered)])
            one = slice(None) if chosen is None else chosen[label : label + 1]
            hits.append(found[0, one])
            fired.append(found[1, one])
        return torch.stack(hits), torch.stack(fired)

    def _count(self, table: Tensor, own: Tensor, number: int) -> Tensor:
        """Frames of an ordered table (M, N) in which each detector fires whose threshold lets
        `number` of `own` (M, n) pass.
        """
        if number == 0:
            return torch.zeros(len(own) * (1 + self._both_signs), dtype=torch.long)
        high = own[:, [own.size(1) - number]]
        counts = [table.size(1) - torch.searchsorted(table, high)]
        if self._both_signs:
            counts.append(torch.searchsorted(table, own[:, [number - 1]], right=True))
        return torch.cat(counts)[:, 0]


def score_neurons(
    choosing: NeuronTable, measuring: NeuronTable, *, recalls: tuple[Tensor, Tensor]
) -> ConceptScores:
    """Scores the best neuron of each concept at the recall that a code has.

    Args:
        choosing: Frames that are for choosing the neuron.
        measuring: Frames that are for measuring it.
        recalls: (L,) of the codes on the two.

    Returns:
        Scores; `chosen` is the neuron's number, M added where small values are meant.
    """
    hits, fired = choosing.measure(recalls[0])
    chosen = (hits / fired.clamp(min=1)).argmax(1)  # (L,)
    hits, fired = measuring.measure(recalls[1], chosen)
    return _score(chosen, hits[:, 0], fired[:, 0], measuring.support, measuring.num_frames)


def _sort(columns: Tensor) -> Tensor:
    """Each row in rising order; numpy's sort is many times as fast as torch's."""
    return torch.from_numpy(np.sort(columns.numpy(), axis=1))


def _score(
    chosen: Tensor, hits: Tensor, fired: Tensor, support: Tensor, num_frames: int
) -> ConceptScores:
    precision = hits.double() / fired.clamp(min=1)
    share = support.double() / max(1, num_frames)
    return ConceptScores(
        chosen=chosen,
        precision=precision,
        recall=hits.double() / support.clamp(min=1),
        support=support,
        lift=torch.where(share > 0, precision / share.clamp(min=1e-30), 0.0),
    )
