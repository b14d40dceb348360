"""What can be read off representations by a linear probe, on speakers it has not heard.

A probe is regularised multinomial logistic regression. Its accuracy is measured on folds that share
no group (speaker; utterance where speakers are the target) with what it learnt from, as the mean of
the classes' recalls, so that chance is 1 / classes whatever their sizes. The null are permuted
labels, the interval is a bootstrap over groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechvq.analysis.intervals import Estimate, compute_interval

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_MAX_STEPS = 500
_SHARE_OF_MAIN_CLASS = 0.9
"""Rows that have their group's most frequent label, beyond which labels are those of groups."""


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How a probe is trained and judged.

    Attributes:
        l2: Weight of half the squared weights, beside the mean cross-entropy.
        num_components: Principal components that are kept where there are more dimensions, found
            without labels; None keeps all dimensions.
        num_folds: Folds; fewer where a class has fewer groups.
        min_groups: Groups that a class must have; others are left out and named.
        num_permutations: Of the null.
        num_resamples: Bootstrap samples of the groups.
        level: Of the interval.
        tolerance: Of the slope, where training ends.
    """

    l2: float = 1e-2
    num_components: int | None = 64
    num_folds: int = 5
    min_groups: int = 2
    num_permutations: int = 20
    num_resamples: int = 500
    level: float = 0.95
    tolerance: float = 1e-4


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What a probe reads; NaN where it could not be trained.

    Attributes:
        accuracy: Mean recall of the classes, with its interval over groups.
        classes: K classes that were told apart.
        left_out: Classes with too few groups.
        null_mean: Mean accuracy on permuted labels.
        null_high: Highest accuracy on permuted labels.
        p_value: Share of permutations that are read at least as well.
        num_samples: Rows.
        num_groups: Speakers or utterances.
        reason: Why it could not be trained; "" otherwise.
    """

    accuracy: Estimate = field(default_factory=Estimate)
    classes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    null_mean: float = np.nan
    null_high: float = np.nan
    p_value: float = np.nan
    num_samples: int = 0
    num_groups: int = 0
    reason: str = ""

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 1 / len(self.classes) if self.classes else float("nan")

    @property
    def skill(self) -> Estimate:
        """Accuracy on a scale from chance (0) to always right (1), to compare targets with other
        numbers of classes.
        """
        low, value, high = (
            (one - self.chance) / (1 - self.chance)
            for one in (self.accuracy.low, self.accuracy.value, self.accuracy.high)
        )
        return Estimate(value=value, low=low, high=high)


def run_probe(
    features: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    rng: np.random.Generator,
    settings: ProbeSettings | None = None,
) -> ProbeResult:
    """Trains and judges a probe.

    Args:
        features: (N, D): frames, or means over utterances.
        labels: (N,) what is to be read; "" where it is not known: left out.
        groups: (N,) what must not stand on both sides: speakers, or utterances.
        rng: Source of folds, permutations and samples.
        settings: How; None for the defaults.

    Returns:
        A result without numbers and with a reason where fewer than two classes have enough groups,
        or the features are not finite.

    Raises:
        ValueError: Rows do not match.
    """
    settings = settings or ProbeSettings()
    values = np.asarray(features, dtype=np.float64)
    names, group_names = np.asarray(labels, dtype=str), np.asarray(groups, dtype=str)
    if values.ndim != 2 or not len(values) == len(names) == len(group_names):
        raise ValueError(
            "There must be a label and a group for each row of `features`, but there are "
            f"{values.shape}, {names.shape} and {group_names.shape}."
        )
    classes, left_out = _choose_classes(names, group_names, settings.min_groups)
    if len(classes) < 2:
        reason = f"{len(classes)} classes have {settings.min_groups} groups, 2 are needed"
        return ProbeResult(classes=classes, left_out=left_out, reason=reason)
    kept = np.isin(names, classes)
    if not np.isfinite(values[kept]).all():
        reason = "the representations are not finite"
        return ProbeResult(classes=classes, left_out=left_out, reason=reason)
    values = reduce_dimensions(values[kept], settings.num_components)
    targets = np.searchsorted(classes, names[kept]).astype(np.int64)
    numbers = np.unique(group_names[kept], return_inverse=True)[1].astype(np.int64)
    hits = _cross_validate(values, targets, numbers, rng, settings)
    null = np.array(
        [
            _compute_recall(one, _cross_validate(values, one, numbers, rng, settings))
            for one in (_permute(targets, numbers, rng) for _ in range(settings.num_permutations))
        ]
    )
    observed = _compute_recall(targets, hits)
    return ProbeResult(
        accuracy=_bootstrap(observed, targets, hits, numbers, rng, settings),
        classes=classes,
        left_out=left_out,
        null_mean=float(null.mean()) if len(null) else np.nan,
        null_high=float(null.max()) if len(null) else np.nan,
        p_value=float((1 + (null >= observed).sum()) / (1 + len(null))),
        num_samples=len(values),
        num_groups=int(numbers.max()) + 1,
    )


def draw_rows(num_rows: int, limit: int, seed: int) -> IntArray:
    """Returns at most `limit` of the rows, in order.

    Args:
        num_rows: How many there are.
        limit: How many are wanted.
        seed: Of the draw.
    """
    return np.sort(np.random.default_rng(seed).permutation(num_rows)[:limit]).astype(np.int64)


def fit_logistic(
    features: FloatArray,
    targets: IntArray,
    num_classes: int,
    l2: float,
    tolerance: float = 1e-6,
) -> tuple[FloatArray, FloatArray]:
    """Fits multinomial logistic regression; classes weigh alike.

    Minimises the mean cross-entropy (over rows weighted so that every class has the same sum) plus
    `l2` / 2 · Σ weights². The bias is not regularised. Every step minimises Böhning's quadratic
    bound (1992, "Multinomial logistic regression algorithm"), one inverse for all, with Nesterov's
    momentum, started anew where it points uphill: no step size, and fast from `l2` of 0.001 on.

    Args:
        features: (N, D).
        targets: (N,) classes; a class may be missing, and is then never guessed.
        num_classes: K.
        l2: Above 0.
        tolerance: Largest slope at the end.

    Returns:
        Weights (D, K) and bias (K,).
    """
    counts = np.bincount(targets, minlength=num_classes)
    row_weights = 1 / ((counts > 0).sum() * counts[targets])  # (N,), sums to 1
    goals = np.eye(num_classes)[targets] * row_weights[:, None]
    absent = np.where(counts > 0, 0.0, -1e9)
    rows = np.concatenate([features, np.ones((len(features), 1))], axis=1)  # (N, D + 1)
    penalty = np.full((rows.shape[1], 1), l2)
    penalty[-1] = 0.0
    bound = (rows * row_weights[:, None]).T @ rows / 2 + np.diag(penalty[:, 0])
    inverse = np.linalg.inv(bound)
    weights = ahead = np.zeros((rows.shape[1], num_classes))
    momentum = 1.0
    for _ in range(_MAX_STEPS):
        logits = rows @ ahead + absent
        probs = np.exp(logits - logits.max(1, keepdims=True))
        probs *= (row_weights / probs.sum(1))[:, None]
        slope = rows.T @ (probs - goals) + penalty * ahead
        stepped = ahead - inverse @ slope
        if (slope * (stepped - weights)).sum() > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = stepped + (momentum - 1) / following * (stepped - weights)
        weights, momentum = stepped, following
        if np.abs(slope).max() < tolerance:
            break
    return weights[:-1], weights[-1] + absent


def reduce_dimensions(features: FloatArray, num_components: int | None) -> FloatArray:
    """Returns (N, min(D, components)): the directions of largest variance, found without labels.

    Args:
        features: (N, D).
        num_components: How many; None keeps the features.
    """
    if num_components is None or features.shape[1] <= num_components:
        return features
    centered = features - features.mean(0)
    _, directions = np.linalg.eigh(centered.T @ centered)
    return np.asarray(centered @ directions[:, ::-1][:, :num_components])


def _choose_classes(
    labels: NDArray[np.str_], groups: NDArray[np.str_], min_groups: int
) -> tuple[list[str], list[str]]:
    names = sorted(set(labels.tolist()) - {""})
    sizes = {name: len(np.unique(groups[labels == name])) for name in names}
    chosen = [name for name in names if sizes[name] >= min_groups]
    return chosen, [name for name in names if sizes[name] < min_groups]


def _find_main_classes(targets: IntArray, groups: IntArray) -> IntArray:
    """(number of groups,) the most frequent class of each group."""
    table = np.zeros((int(groups.max()) + 1, int(targets.max()) + 1), dtype=np.int64)
    np.add.at(table, (groups, targets), 1)
    result: IntArray = table.argmax(1).astype(np.int64)
    return result


def _find_strata(targets: IntArray, groups: IntArray) -> IntArray:
    """(number of groups,) the class of each group, where groups have one (a speaker's language);
    0 for all where they have several (a speaker's phones).
    """
    main = _find_main_classes(targets, groups)
    return main if _belongs_to_groups(targets, groups, main) else np.zeros_like(main)


def _belongs_to_groups(targets: IntArray, groups: IntArray, main: IntArray) -> bool:
    """Whether labels are those of groups; a few speakers of two languages change nothing."""
    return bool((main[groups] == targets).mean() > _SHARE_OF_MAIN_CLASS)


def _deal_folds(
    strata: IntArray, groups: IntArray, num_folds: int, rng: np.random.Generator
) -> IntArray:
    """(N,) fold of each row; the groups of each stratum are spread evenly, the largest first, so
    that folds have about as many rows.
    """
    folds = np.zeros(len(strata), dtype=np.int64)
    sizes = np.bincount(groups, minlength=len(strata))
    start = 0
    for name in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == name))
        members = members[np.argsort(-sizes[members], kind="stable")]
        folds[members] = (start + np.arange(len(members))) % num_folds
        start += len(members)
    return np.asarray(folds[groups])


def _cross_validate(
    features: FloatArray,
    targets: IntArray,
    groups: IntArray,
    rng: np.random.Generator,
    settings: ProbeSettings,
) -> NDArray[np.bool_]:
    """(N,) whether each row was read rightly by a probe that had not seen its group."""
    num_classes = int(targets.max()) + 1
    strata = _find_strata(targets, groups)
    smallest = int(np.bincount(strata)[np.unique(strata)].min())
    num_folds = max(2, min(settings.num_folds, smallest))
    folds = _deal_folds(strata, groups, num_folds, rng)
    hits = np.zeros(len(targets), dtype=bool)
    for fold in range(num_folds):
        test = folds == fold
        if test.all() or not test.any():
            continue
        mean, spread = features[~test].mean(0), features[~test].std(0)
        scaled = (features - mean) / np.where(spread > 0, spread, 1.0)
        weight, bias = fit_logistic(
            scaled[~test], targets[~test], num_classes, settings.l2, settings.tolerance
        )
        hits[test] = (scaled[test] @ weight + bias).argmax(1) == targets[test]
    return hits


def _permute(targets: IntArray, groups: IntArray, rng: np.random.Generator) -> IntArray:
    """Exchanges the labels of whole groups where groups have one label, else of the rows within
    each group.
    """
    main = _find_main_classes(targets, groups)
    if _belongs_to_groups(targets, groups, main):
        return np.asarray(rng.permutation(main)[groups])
    order = np.lexsort((rng.random(len(groups)), groups))
    permuted = np.empty_like(targets)
    permuted[np.argsort(groups, kind="stable")] = targets[order]
    return permuted


def _compute_recall(targets: IntArray, hits: NDArray[np.bool_]) -> float:
    """Mean recall of the classes that occur."""
    totals = np.bincount(targets)
    found = np.bincount(targets, weights=hits)
    return float((found[totals > 0] / totals[totals > 0]).mean())


def _bootstrap(
    value: float,
    targets: IntArray,
    hits: NDArray[np.bool_],
    groups: IntArray,
    rng: np.random.Generator,
    settings: ProbeSettings,
) -> Estimate:
    """Draws groups again, within each stratum, and keeps the probes' answers."""
    strata = _find_strata(targets, groups)
    shape = (len(strata), int(targets.max()) + 1)
    totals, found = np.zeros(shape), np.zeros(shape)
    np.add.at(totals, (groups, targets), 1)
    np.add.at(found, (groups, targets), hits)
    weights = np.zeros((settings.num_resamples, len(strata)))
    sizes = np.bincount(strata)
    for name in np.flatnonzero(sizes):
        size = int(sizes[name])
        weights[:, strata == name] = rng.multinomial(
            size, np.full(size, 1 / size), settings.num_resamples
        )
    counts = weights @ totals
    recalls = np.divide(weights @ found, counts, out=np.full_like(counts, np.nan), where=counts > 0)
    samples = np.nanmean(recalls, axis=1)
    interval = compute_interval(value, samples, int(sizes[sizes > 0].min()), settings.level)
    return Estimate(value=interval.value, low=max(interval.low, 0.0), high=min(interval.high, 1.0))
