"""What codes say about phones: shares, PNMI and purities with chance and interval, articulation,
and whether codes that lie together in the codebook sound alike.

Chance is what the numbers of frames alone give: tables with the same totals of phones and of codes,
drawn as if codes were dealt out to frames at random. It removes all dependence, also that of a
frame on its neighbours; the controls of the code table keep that one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.phone_counts import PhoneCounts
from speechvq.analysis.phones import compute_cluster_purity, compute_phone_purity, compute_pnmi

FloatArray = NDArray[np.float64]
MAKER_NAMES = {"group": "model", "random": "random projection of MFCC", "kmeans": "k-means of MFCC"}
"""What scores of codes are called, by who made the codes."""
NUM_CHANCE_TABLES = 20
NUM_RESAMPLES = 200
_MIN_CHANCE_TABLES = 3
_MIN_RESAMPLES = 50
_MAX_CELLS = 20_000_000
"""Of all chance tables together; ten times as many of all bootstrap samples together."""
NUM_PERMUTATIONS = 999
_Z = 1.96


@dataclass(frozen=True, kw_only=True)
class CodePhoneScores:
    """How well one set of codes names phones.

    Attributes:
        name: Which codes.
        num_frames: Frames with a phone.
        num_phones: Phones that occur.
        num_codes: Codes, or combinations, that occur.
        perplexity: exp of the entropy of the codes on these frames.
        pnmi: I(phone; code) / H(phone).
        pnmi_low: Lower end of the 95 % interval.
        pnmi_high: Upper end.
        pnmi_error: Standard error of PNMI.
        pnmi_chance: Mean PNMI of random tables with the same totals.
        pnmi_chance_high: 97.5th percentile of these.
        pnmi_adjusted: (PNMI − chance) / (1 − chance): 0 for chance, 1 at best; the number to
            compare codebooks of unlike size by.
        phone_purity: See `compute_phone_purity`.
        phone_purity_chance: Share of the most frequent phone: what one code would give.
        cluster_purity: See `compute_cluster_purity`.
        unit: What the interval draws, "speaker" or "utterance".
        num_units: How many of them.
    """

    name: str
    num_frames: int
    num_phones: int
    num_codes: int
    perplexity: float
    pnmi: float
    pnmi_low: float
    pnmi_high: float
    pnmi_error: float
    pnmi_chance: float
    pnmi_chance_high: float
    pnmi_adjusted: float
    phone_purity: float
    phone_purity_chance: float
    cluster_purity: float
    unit: str
    num_units: int

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values; what is not a number is null."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


def score_codes(name: str, counts: PhoneCounts, *, seed: int) -> CodePhoneScores:
    """Computes all measures of one set of codes.

    Args:
        name: Which codes.
        counts: Their counts, at least one frame.
        seed: Of chance and intervals.
    """
    rng = np.random.default_rng(seed)
    table = counts.counts
    num_resamples = min(NUM_RESAMPLES, max(_MIN_RESAMPLES, 10 * _MAX_CELLS // table.size))
    chance = compute_chance(table, rng)
    error = compute_error(counts, rng, num_resamples=num_resamples)
    pnmi, mean = compute_pnmi(table), float(np.mean(chance))
    return CodePhoneScores(
        name=name,
        num_frames=counts.num_frames,
        num_phones=int((table.sum(1) > 0).sum()),
        num_codes=int((table.sum(0) > 0).sum()),
        perplexity=compute_perplexity(table.sum(0)),
        pnmi=pnmi,
        pnmi_low=float(np.clip(pnmi - _Z * error, 0, 1)),
        pnmi_high=float(np.clip(pnmi + _Z * error, 0, 1)),
        pnmi_error=error,
        pnmi_chance=mean,
        pnmi_chance_high=float(np.quantile(chance, 0.975)),
        pnmi_adjusted=(pnmi - mean) / (1 - mean) if mean < 1 else float("nan"),
        phone_purity=compute_phone_purity(table),
        phone_purity_chance=float(table.sum(1).max() / table.sum()),
        cluster_purity=compute_cluster_purity(table),
        unit=counts.unit,
        num_units=counts.num_units,
    )


def compute_chance(counts: NDArray[np.int64], rng: np.random.Generator) -> list[float]:
    """PNMI of chance tables, up to 20 of them, fewer where the table is huge.

    Args:
        counts: (P, V).
        rng: Source of randomness.
    """
    num_tables = min(NUM_CHANCE_TABLES, max(_MIN_CHANCE_TABLES, _MAX_CELLS // counts.size))
    return [compute_pnmi(draw_chance_table(counts, rng)) for _ in range(num_tables)]


def draw_chance_table(counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws a table with the same totals as if codes were dealt out to the frames at random.

    The distribution is that of a permutation of the frames' phones, without any frame.

    Args:
        counts: (P, V).
        rng: Source of randomness.

    Returns:
        (P, V), with the sums of rows and columns of `counts`.
    """
    left = counts.sum(0)  # (V,)
    rows = []
    for total in counts.sum(1).tolist():
        row = rng.multivariate_hypergeometric(left, total, method="marginals")
        rows.append(row)
        left = left - row
    return np.asarray(rows, dtype=np.int64)


def compute_error(
    counts: PhoneCounts, rng: np.random.Generator, *, num_resamples: int = NUM_RESAMPLES
) -> float:
    """Standard error of PNMI, drawing whole speakers or utterances again.

    Percentiles would not do: with fewer different frames a sample's PNMI is higher throughout, so
    that they need not even hold the value itself.

    Args:
        counts: With one unit the error is NaN.
        rng: Source of the samples.
        num_resamples: How many.
    """
    if counts.num_units < 2:
        return float("nan")
    values = []
    for _ in range(num_resamples):
        drawn = rng.integers(counts.num_units, size=counts.num_units)
        weights = np.bincount(drawn, minlength=counts.num_units)[counts.units]
        table = np.bincount(
            counts.pairs, weights=weights * counts.frames, minlength=counts.counts.size
        ).reshape(counts.counts.shape)
        if table.sum() > 0:
            values.append(compute_pnmi(table))
    known = np.array(values)[np.isfinite(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def compute_perplexity(counts: NDArray[np.int64]) -> float:
    """Exp of the entropy of a distribution given by its counts."""
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def compute_phone_given_code(counts: NDArray[np.int64]) -> FloatArray:
    """P(phone | code), (P, V); columns of codes without frames are 0."""
    return np.asarray(counts / np.maximum(counts.sum(0, keepdims=True), 1), dtype=np.float64)


def compute_code_given_phone(counts: NDArray[np.int64]) -> FloatArray:
    """P(code | phone), (P, V); rows of phones without frames are 0."""
    return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), 1), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class FeatureScore:
    """How much of one articulatory feature codes know.

    Attributes:
        name: panphon's name, such as `son` (sonorant).
        share: Share of the feature's variance over frames that the code takes away (η²).
        chance: The same for random tables with the same totals.
        num_frames: Frames of phones whose features are known.
    """

    name: str
    share: float
    chance: float
    num_frames: int


def score_features(
    counts: PhoneCounts, names: Sequence[str], features: Mapping[str, FloatArray], *, seed: int
) -> list[FeatureScore]:
    """Computes how much codes know about articulation.

    Args:
        counts: Phones and codes.
        names: F names of features.
        features: (F,) of each phone that has them: −1, 0 or 1, means for phones of several parts.
        seed: Of chance.

    Returns:
        One score a feature that varies, the best known first.
    """
    table, values = _select_known(counts, features)
    if not len(values) or table.sum() == 0:
        return []
    chance = [draw_chance_table(table, np.random.default_rng(seed + i)) for i in range(5)]
    scores = []
    for place, name in enumerate(names):
        share = _compute_eta_squared(table, values[:, place])
        if math.isfinite(share):
            null = [_compute_eta_squared(one, values[:, place]) for one in chance]
            scores.append(
                FeatureScore(
                    name=name,
                    share=share,
                    chance=float(np.mean(null)),
                    num_frames=int(table.sum()),
                )
            )
    return sorted(scores, key=lambda score: -score.share)


def compute_mean_features(
    counts: PhoneCounts, features: Mapping[str, FloatArray]
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Mean articulation of each code.

    Returns:
        (V, F) means over the frames whose phones have features, and (V,) how many these are.
    """
    table, values = _select_known(counts, features)
    totals = table.sum(0)
    means = table.T @ values / np.maximum(totals, 1)[:, None]
    return np.asarray(means, dtype=np.float64), totals


def _select_known(
    counts: PhoneCounts, features: Mapping[str, FloatArray]
) -> tuple[NDArray[np.int64], FloatArray]:
    known = [place for place, phone in enumerate(counts.phones) if phone in features]
    values = [features[counts.phones[place]] for place in known]
    return counts.counts[known], np.array(values, dtype=np.float64)


def _compute_eta_squared(table: NDArray[np.int64], values: FloatArray) -> float:
    total = table.sum()
    mean = (table.sum(1) @ values) / total
    variance = (table.sum(1) @ (values - mean) ** 2) / total
    if variance <= 1e-12:
        return float("nan")
    per_code = table.sum(0)
    means = (values @ table) / np.maximum(per_code, 1)
    return float((per_code @ (means - mean) ** 2) / total / variance)


@dataclass(frozen=True, kw_only=True)
class NeighbourScore:
    """Whether codes that lie together in the codebook stand for like sounds.

    Attributes:
        name: Which codebook.
        measure: What "like" means: "articulation" or "phones".
        rho: Spearman's correlation of the two distances over pairs of codes.
        null_high: 97.5th percentile of ρ when codes are shuffled.
        p_value: Share of shuffles (and the true order) with ρ at least as large.
        num_codes: Codes with enough frames.
    """

    name: str
    measure: str
    rho: float
    null_high: float
    p_value: float
    num_codes: int


def compare_distances(
    name: str,
    measure: str,
    vectors: FloatArray,
    sounds: FloatArray,
    *,
    seed: int,
    num_permutations: int = NUM_PERMUTATIONS,
) -> NeighbourScore | None:
    """Correlates distances of codes in the codebook with distances of what they stand for.

    Mantel's test (1967): the codes of one of the two distance matrices are shuffled.

    Args:
        name: Which codebook.
        measure: What `sounds` are.
        vectors: (V, D) entries of the codebook.
        sounds: (V, F) what each code stands for; Euclidean distances are taken. For distributions
            of phones give their square roots: the distance is Hellinger's.
        seed: Of the shuffles.
        num_permutations: How many.

    Returns:
        None with fewer than 5 codes, or where all distances of a kind are the same.
    """
    num_codes = len(vectors)
    if num_codes < 5:
        return None
    upper = np.triu_indices(num_codes, 1)
    first = _rank(_compute_distances(vectors)[upper])
    second = _rank(_compute_distances(sounds)[upper])
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    first = (first - first.mean()) / first.std()
    second = (second - second.mean()) / second.std()
    square = np.zeros((num_codes, num_codes))
    square[upper] = second
    square += square.T
    rng = np.random.default_rng(seed)
    rho = float(first @ second / len(first))
    null = np.empty(num_permutations)
    for place in range(num_permutations):
        order = rng.permutation(num_codes)
        null[place] = first @ square[np.ix_(order, order)][upper] / len(first)
    return NeighbourScore(
        name=name,
        measure=measure,
        rho=rho,
        null_high=float(np.quantile(null, 0.975)),
        p_value=float((1 + (null >= rho).sum()) / (1 + num_permutations)),
        num_codes=num_codes,
    )


def _compute_distances(points: FloatArray) -> FloatArray:
    squares = (points**2).sum(1)
    distances = squares[:, None] + squares - 2 * points @ points.T
    return np.asarray(np.sqrt(np.maximum(distances, 0)), dtype=np.float64)


def _rank(values: FloatArray) -> FloatArray:
    """Ranks from 0; equal values share the mean of theirs."""
    _, place, numbers = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(numbers)
    ranks = ends - (numbers + 1) / 2
    return np.asarray(ranks[place.reshape(-1)], dtype=np.float64)
