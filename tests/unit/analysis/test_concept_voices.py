"""Concepts of whole utterances: by utterances, and never the same speaker on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from speechvq.analysis.concept_files import ConceptKind
from speechvq.analysis.concept_voices import (
    ShareTable,
    UtteranceLabels,
    divide_units,
    search_utterances,
)
from speechvq.nn.places import Place, Site

NUM_SPEAKERS, EACH, NUM_CODES = 16, 5, 40


def search(shares, labels, units, is_dev, **fields):
    one = UtteranceLabels(
        kind=ConceptKind.sex, names=("f", "m"), labels=labels, units=units, is_dev=is_dev
    )
    settings = {"num_permutations": 99, "min_utterances": 5, "seed": 1, "neurons": None} | fields
    return search_utterances(shares, [one], place=Place(1, Site.heads), head=2, **settings)


def create_voices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    units = np.repeat(np.arange(NUM_SPEAKERS), EACH)
    labels = units % 2
    shares = np.random.default_rng(0).uniform(0, 0.1, (len(units), NUM_CODES))
    return units, labels, shares


def test_halves_share_no_speaker_and_have_all_labels() -> None:
    units, labels, _ = create_voices()
    is_dev = divide_units(labels, units, np.random.default_rng(1))
    assert not set(units[is_dev]) & set(units[~is_dev])
    for side in (is_dev, ~is_dev):
        assert set(labels[side]) == {0, 1}
        assert len(set(units[side])) == NUM_SPEAKERS // 2


def test_a_code_of_a_sex_is_found_at_its_threshold() -> None:
    units, labels, shares = create_voices()
    shares[:, 11] = np.where(labels == 1, 0.4, 0.2) + shares[:, 11]
    is_dev = divide_units(labels, units, np.random.default_rng(1))
    neurons = np.random.default_rng(2).normal(size=(len(units), 3)).astype(np.float32)
    neurons[labels == 1, 1] -= 10.0
    rows, informedness = search(shares, labels, units, is_dev, neurons=neurons)
    row = rows[1]
    assert (row.concept, row.code, row.head) == ("m", 11, 2)
    assert (row.precision, row.recall, row.lift) == (1.0, 1.0, 2.0)
    assert informedness[1] == 1.0
    assert row.support == NUM_SPEAKERS * EACH // 4
    assert row.p <= 0.05
    assert row.neuron_precision == 1.0
    assert not row.is_rare
    assert search(shares, labels, units, is_dev, min_utterances=30)[0][1].is_rare


def test_codes_of_speakers_are_no_codes_of_a_sex() -> None:
    units, labels, shares = create_voices()
    shares[:] = 0.0
    for speaker in range(NUM_SPEAKERS):
        shares[units == speaker, speaker] = 0.9
    is_dev = divide_units(labels, units, np.random.default_rng(1))
    rows, informedness = search(shares, labels, units, is_dev)
    # Each code knows one speaker of dev, none of test.
    assert min(informedness) >= 0.25
    assert [row.dev_precision for row in rows] == [1.0, 1.0]
    assert max(row.precision for row in rows) <= 0.75
    assert min(row.p for row in rows) > 0.05


def test_thresholds_are_those_of_the_largest_informedness() -> None:
    shares = np.array([[0.9, 0.0], [0.6, 0.0], [0.5, 0.0], [0.1, 0.0]])
    thresholds, found = ShareTable(shares).choose_thresholds(np.array([True, False, True, False]))
    assert found.tolist() == [0.5, -1.0]
    assert thresholds[0] == 0.75
    assert np.isinf(thresholds[1])  # never there


@pytest.mark.parametrize("num_dev", [0, 5])
def test_too_few_speakers_are_rare(num_dev: int) -> None:
    units, labels, shares = create_voices()
    is_dev = np.arange(len(units)) < num_dev
    rows, _ = search(shares, labels, units, is_dev, num_permutations=3)
    assert len(rows) == 2
    assert all(row.is_rare for row in rows)
