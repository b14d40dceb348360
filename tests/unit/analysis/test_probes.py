"""Probes: what is there is read, what is not is not, and no speaker is on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from speechvq.analysis.probes import (
    ProbeSettings,
    _deal_folds,
    _find_strata,
    _permute,
    fit_logistic,
    reduce_dimensions,
    run_probe,
)

QUICK = ProbeSettings(num_permutations=9, num_resamples=100, num_folds=3)


def create_speakers(
    rng: np.random.Generator, *, shift: float, speakers: int = 6, rows: int = 8, dim: int = 6
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of two languages, `shift` apart in one dimension; speakers differ in all others."""
    features, labels, groups = [], [], []
    for number in range(2 * speakers):
        own = rng.normal(size=dim) * 3
        own[0] = shift * (number % 2)
        features.append(own + rng.normal(size=(rows, dim)) * 0.5)
        labels += [f"language {number % 2}"] * rows
        groups += [f"speaker {number}"] * rows
    return np.concatenate(features), np.array(labels), np.array(groups)


def test_logistic_regression_is_at_its_minimum() -> None:
    """Zero gradient of the stated loss, written out in numpy."""
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(40, 3)), np.arange(40) % 4 % 3
    weight, bias = fit_logistic(features, targets, 3, 0.1)
    logits = features @ weight + bias
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    counts = np.bincount(targets)
    slope = (probs - np.eye(3)[targets]) / (3 * counts[targets])[:, None]
    assert features.T @ slope + 0.1 * weight == pytest.approx(np.zeros((3, 3)), abs=1e-5)
    assert slope.sum(0) == pytest.approx(np.zeros(3), abs=1e-5)


def test_a_class_that_was_not_seen_is_not_guessed() -> None:
    features, targets = np.random.default_rng(0).normal(size=(10, 2)), np.array([0, 2] * 5)
    weight, bias = fit_logistic(features, targets, 3, 0.1)
    assert 1 not in (features @ weight + bias).argmax(1).tolist()


def test_planted_language_is_read_on_new_speakers() -> None:
    features, labels, groups = create_speakers(np.random.default_rng(0), shift=6.0)
    found = run_probe(features, labels, groups, np.random.default_rng(1), QUICK)
    assert found.accuracy.value > 0.95
    assert found.skill.low > 0.7
    assert found.p_value == pytest.approx(0.1)
    assert found.null_high < found.accuracy.low
    assert found.chance == 0.5
    assert (found.num_samples, found.num_groups) == (96, 12)


def test_speakers_alone_are_not_mistaken_for_language() -> None:
    """With rows of a speaker on both sides any label of speakers could be learnt by heart."""
    apart, leaky = [], []
    settings = ProbeSettings(num_permutations=0, num_resamples=20, num_folds=3)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        features, labels, groups = create_speakers(rng, shift=0.0, speakers=4, dim=12)
        rows = np.arange(len(labels)).astype(str)
        apart.append(run_probe(features, labels, groups, rng, settings).accuracy.value)
        leaky.append(run_probe(features, labels, rows, rng, settings).accuracy.value)
    assert np.mean(leaky) > 0.9
    assert np.mean(apart) < 0.65


def test_folds_share_no_group_and_hold_all_classes() -> None:
    groups = np.repeat(np.arange(12), 5)
    targets = groups % 3
    folds = _deal_folds(_find_strata(targets, groups), groups, 4, np.random.default_rng(0))
    for group in range(12):
        assert len(set(folds[groups == group].tolist())) == 1
    for fold in range(4):
        assert set(targets[folds == fold].tolist()) == {0, 1, 2}


def test_groups_of_many_classes_are_dealt_by_size() -> None:
    """A speaker says many phones: what he says most often is no stratum."""
    groups = np.repeat(np.arange(8), [40, 40, 40, 40, 2, 2, 2, 2])
    targets = np.arange(len(groups)) % 3
    targets[groups == 7] = 2
    assert _find_strata(targets, groups).tolist() == [0] * 8
    folds = _deal_folds(_find_strata(targets, groups), groups, 4, np.random.default_rng(0))
    assert np.bincount(folds).tolist() == [42] * 4


def test_permutation_keeps_what_groups_share() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 3)
    by_group = _permute(groups % 2, groups, rng)
    assert (by_group.reshape(40, 3) == by_group[::3, None]).all()
    assert by_group.tolist() != (groups % 2).tolist()
    shuffled = rng.permutation(120)
    within = _permute(np.arange(120)[shuffled] % 3, groups[shuffled], rng)
    for group in range(40):
        assert sorted(within[groups[shuffled] == group].tolist()) == [0, 1, 2]


def test_one_speaker_of_two_languages_leaves_the_null_a_null() -> None:
    groups = np.repeat(np.arange(40), 3)
    targets = groups % 2
    targets[0] = 1 - targets[0]
    found = [_permute(targets, groups, np.random.default_rng(seed)) for seed in range(50)]
    assert np.mean([(one == targets).mean() for one in found]) < 0.6
    assert set(_find_strata(targets, groups).tolist()) == {0, 1}


def test_rare_classes_are_left_out_and_one_class_says_why() -> None:
    features, labels, groups = create_speakers(np.random.default_rng(0), shift=6.0)
    labels = labels.astype("U20")
    labels[groups == "speaker 3"] = "rare"
    labels[groups == "speaker 5"] = ""
    found = run_probe(features, labels, groups, np.random.default_rng(1), QUICK)
    assert found.left_out == ["rare"]
    assert found.num_groups == 10
    single = run_probe(features, ["a"] * 96, groups, np.random.default_rng(1), QUICK)
    assert single.reason == "1 classes have 2 groups, 2 are needed"
    assert np.isnan(single.accuracy.value)
    with pytest.raises(ValueError, match="for each row"):
        run_probe(features, labels[:-1], groups, np.random.default_rng(1), QUICK)


def test_components_keep_the_variance() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 20))
    reduced = reduce_dimensions(features, 3)
    assert reduced.shape == (50, 3)
    centered = features - features.mean(0)
    assert (reduced**2).sum() == pytest.approx((centered**2).sum())
    assert reduce_dimensions(features, None) is features
