"""Which codes languages use, whatever the phones: shared codes, entropies, distances, families."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.code_counts import UNKNOWN, CodeCounts, choose_unit, form_units, match_units
from speechvq.analysis.divergence import compute_entropy, normalize
from speechvq.analysis.halves import compare_halves, thin_counts
from speechvq.analysis.language_tree import TreeComparison, compare_with_tree
from speechvq.analysis.similarity import Dendrogram, link_average
from speechvq.decoding.bootstrap import BootstrapUnit

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CodeUsage:
    """How J languages use C codes.

    Attributes:
        languages: Their codes.
        unit: What the null permutes as a whole.
        num_frames: Frames of each language after thinning to the smallest: n.
        num_used: Codes that occur.
        num_shared: Codes with at least `min_frames` frames in two languages or more.
        min_frames: That bound.
        num_shared_null: Mean of the same where language labels are permuted.
        entropy: (C,) bits, of the language given the code, languages weighing alike; NaN where the
            code does not occur. At most log2 J.
        mean_entropy: Its mean, weighted by use.
        mean_entropy_null: Mean of the same where language labels are permuted.
        entropy_p_value: Share of permutations that mix languages as little: small where codes tell
            languages apart.
        compared: K of the languages: those with two units or more, which have halves.
        distances: (K, K) bits: divergence between halves of two languages less that between
            halves of one, so that like languages are about 0 apart.
        dendrogram: Of the languages, by average linkage.
        tree: How far the distances follow the families.
    """

    languages: list[str]
    unit: BootstrapUnit
    num_frames: int
    num_used: int
    num_shared: int
    min_frames: int
    num_shared_null: float
    entropy: FloatArray
    mean_entropy: float
    mean_entropy_null: float
    entropy_p_value: float
    compared: list[str]
    distances: FloatArray
    dendrogram: Dendrogram
    tree: TreeComparison

    def to_json(self) -> dict[str, Any]:
        """Returns everything but the entropy of each code, as JSON values."""
        plain = asdict(self)
        del plain["entropy"]
        return {
            **plain,
            "distances": self.distances.tolist(),
            "dendrogram": {
                "merges": self.dendrogram.merges.tolist(),
                "order": [int(place) for place in self.dendrogram.order],
            },
        }


def measure_usage(
    counts: CodeCounts,
    rng: np.random.Generator,
    *,
    min_frames: int = 5,
    num_permutations: int = 200,
    num_splits: int = 16,
) -> CodeUsage:
    """Measures how languages use codes, over all frames, silence and unaligned ones included.

    Args:
        counts: Codes by utterance, of one codebook or all.
        rng: Source of thinning, splits and permutations.
        min_frames: From how many frames on a language uses a code.
        num_permutations: Of language labels, by speaker or utterance.
        num_splits: Splits into halves that distances are means of.

    Raises:
        ValueError: There is one language only.
    """
    languages = sorted(set(counts.languages.tolist()))
    if len(languages) < 2:
        raise ValueError("Code use is compared between languages, but there is one only.")
    unit = choose_unit(counts, languages)
    everything = merge_phones(counts)
    sides, names = [], []
    for language in languages:
        rows, found = form_units(everything, language, unit)
        sides.append(everything.sum_by(rows, len(found), [UNKNOWN]))  # (K, 1, C)
        names.append(found)
    totals = np.array([side.sum() for side in sides])
    rates = totals.min() / totals
    thinned = [thin_counts(side, rate, rng)[:, 0] for side, rate in zip(sides, rates, strict=True)]
    units = np.concatenate(thinned)  # (sum K, C)
    owners = np.repeat(np.arange(len(languages)), [len(side) for side in thinned])
    observed = _describe(units, owners, min_frames)
    null = [_describe(units, rng.permutation(owners), min_frames) for _ in range(num_permutations)]
    distances = _compare_languages(sides, names, num_splits, rng)
    known = _find_known(distances, [len(side) for side in sides])
    distances = distances[np.ix_(known, known)]
    compared = [languages[place] for place in known]
    mixed = np.array([one[2] for one in null])
    return CodeUsage(
        languages=languages,
        unit=unit,
        num_frames=int(totals.min()),
        num_used=int((units.sum(0) > 0).sum()),
        num_shared=observed[0],
        min_frames=min_frames,
        num_shared_null=float(np.mean([one[0] for one in null])),
        entropy=observed[1],
        mean_entropy=observed[2],
        mean_entropy_null=float(mixed.mean()),
        entropy_p_value=float((1 + (mixed <= observed[2]).sum()) / (1 + len(mixed))),
        compared=compared,
        distances=distances,
        dendrogram=link_average(distances),
        tree=compare_with_tree(distances, compared, rng),
    )


def merge_phones(counts: CodeCounts) -> CodeCounts:
    """Returns the same table without phones: every frame's phone is unknown."""
    cells = counts.cells.copy()
    cells[:, 1] = 0
    found, places = np.unique(cells, axis=0, return_inverse=True)
    sums = np.bincount(places.reshape(-1), weights=counts.counts).astype(np.int64)
    return CodeCounts(
        utterances=counts.utterances,
        languages=counts.languages,
        speakers=counts.speakers,
        sources=counts.sources,
        phones=np.array([UNKNOWN]),
        codes=counts.codes,
        cells=found,
        counts=sums,
    )


def _describe(
    units: NDArray[np.float32], owners: NDArray[np.int64], min_frames: int
) -> tuple[int, FloatArray, float]:
    """Shared codes, (C,) entropy of the language given the code, and its mean."""
    frames = np.zeros((int(owners.max()) + 1, units.shape[1]))
    np.add.at(frames, owners, units)
    shared = int(((frames >= min_frames).sum(0) >= 2).sum())
    use = normalize(frames)  # (J, C)
    entropy = compute_entropy(use.T)
    weights = use.mean(0)
    return shared, entropy, float((np.nan_to_num(entropy) * weights).sum())


def _find_known(distances: FloatArray, sizes: list[int]) -> list[int]:
    """Places of the languages that are left when those without distances are taken away, the
    smallest first.
    """
    known = list(range(len(distances)))
    while (unknown := np.isnan(distances[np.ix_(known, known)])).any():
        missing = unknown.sum(0).tolist()
        worst = max(range(len(known)), key=lambda at: (missing[at], -sizes[known[at]]))
        del known[worst]
    return known


def _compare_languages(
    sides: list[NDArray[np.float32]],
    names: list[NDArray[np.str_]],
    num_splits: int,
    rng: np.random.Generator,
) -> FloatArray:
    """(J, J) bits across less bits within; NaN where a language has one unit only."""
    matrix = np.zeros((len(sides), len(sides)))
    alone = np.zeros((1, 1), dtype=np.int64)
    for row in range(len(sides)):
        for column in range(row):
            first, second, num_common = match_units(names[row], names[column])
            within, across, _ = compare_halves(
                sides[row][first],
                sides[column][second],
                alone,
                np.inf,
                num_splits,
                rng,
                num_common=num_common,
            )
            matrix[row, column] = matrix[column, row] = float(across[0] - within[0])
    return matrix
