"""Which labels are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from speechvq.data.index import CorpusIndex
from speechvq.models.vocabulary import build_character_vocabulary
from speechvq.self_training.config import SelfTrainConfig
from speechvq.self_training.doubtful import sort_doubtful
from speechvq.self_training.recognition import Recognition
from speechvq.self_training.selection import (
    Criteria,
    Reason,
    compute_agreements,
    create_criteria,
    decide,
    meets,
)

CRITERIA = Criteria(
    min_confidence=0.5,
    min_word_confidence=0.1,
    min_agreement=0.5,
    min_lm_score=-2.0,
    min_rate=1.0,
    max_rate=8.0,
    vocabulary=build_character_vocabulary(["abcd"]),
)
GOOD = Recognition(
    id="good",
    text="abcd ab",
    second_text="abcd ab",
    confidence=0.9,
    min_word_confidence=0.6,
    lm_score=-1.0,
)


@pytest.mark.parametrize(
    ("changes", "seconds", "reason"),
    [
        ({}, 2.0, None),
        ({"text": "", "second_text": "", "confidence": 0.0}, 2.0, Reason.NOTHING),
        ({"text": "abce ab"}, 2.0, Reason.UNKNOWN_LETTER),
        ({"text": "abc⁇ ab"}, 2.0, Reason.UNKNOWN_LETTER),
        ({}, 7.0, Reason.TOO_SLOW),
        ({}, 0.5, Reason.TOO_FAST),
        ({"confidence": 0.4}, 2.0, Reason.UNSURE),
        ({"min_word_confidence": 0.05}, 2.0, Reason.UNSURE_WORD),
        ({"second_text": "dd"}, 2.0, Reason.DISAGREEMENT),
        ({"lm_score": -2.5}, 2.0, Reason.IMPROBABLE),
        ({"lm_score": None, "second_text": None}, 2.0, None),
    ],
)
def test_every_criterion_must_hold(changes, seconds: float, reason: Reason | None) -> None:
    one = replace(GOOD, **changes)
    assert decide([one], {"good": seconds}, CRITERIA, 1.0)[0].reason == reason


def test_agreement_is_the_share_of_common_letters() -> None:
    pairs = [("abcd", "abcd"), ("abcd", "abc"), ("ab cd", "abcd"), ("ab", ""), ("", ""), ("a", "b")]
    found = [replace(GOOD, text=a, second_text=b) for a, b in pairs]
    assert compute_agreements(found) == [1.0, 0.75, 1.0, 0.0, 1.0, 0.0]
    assert compute_agreements([replace(GOOD, second_text=None)]) == [1.0]


def test_the_surest_come_first_up_to_the_share() -> None:
    sure = [0.6, 0.9, 0.7, 0.8, 0.3]
    found = [replace(GOOD, id=str(n), confidence=c) for n, c in enumerate(sure)]
    seconds = {"0": 2.0, "1": 2.0, "2": 2.0, "3": 4.0, "4": 6.0}
    decisions = decide(found, seconds, CRITERIA, 0.5)  # 8 of 16 s
    kept = [one.recognition.id for one in decisions if one.is_kept]
    assert kept == ["1", "2", "3"]
    assert decisions[0].reason is Reason.BELOW_SHARE
    assert decisions[4].reason is Reason.UNSURE
    assert not any(one.is_kept for one in decide(found, seconds, CRITERIA, 0.1))


def test_dev_is_alike_where_it_would_have_been_kept() -> None:
    seconds = {"good": 2.0, "a": 2.0, "b": 2.0}
    pool = [replace(GOOD, id="a", confidence=0.8), replace(GOOD, id="b", confidence=0.6)]
    decisions = decide(pool, seconds, CRITERIA, 0.5)
    for confidence, is_alike in ((0.85, True), (0.7, False), (0.4, False)):
        one = decide([replace(GOOD, confidence=confidence)], seconds, CRITERIA, 1.0)[0]
        assert meets(one, decisions) is is_alike


def test_rates_come_from_the_transcribed_speech() -> None:
    zeros = np.zeros(3, np.int32)
    index = CorpusIndex(
        files=(),
        languages=("hin_Deva",),
        ids=["a", "b", "c"],
        file=zeros,
        row_group=zeros,
        row=zeros,
        num_samples=np.array([16_000, 16_000, 32_000]),
        language=zeros,
        texts=["ab cd", "abcdab", "abcd"],  # 4, 6 and 2 letters a second
    )
    config = SelfTrainConfig(rate_margin=2.0, lm="lm")
    criteria = create_criteria(config, index, CRITERIA.vocabulary)
    assert criteria.min_rate == pytest.approx(1.0, abs=0.05)
    assert criteria.max_rate == pytest.approx(12.0, abs=0.1)
    assert create_criteria(SelfTrainConfig(), index, CRITERIA.vocabulary).min_lm_score is None
    assert criteria.min_lm_score == pytest.approx(-np.log(len(CRITERIA.vocabulary)))


def test_doubtful_segments_are_sorted_by_what_listening_mends() -> None:
    found = [
        replace(GOOD, id="nothing", text="", second_text="", confidence=0.0),
        replace(GOOD, id="long", confidence=0.4),
        replace(GOOD, id="dense", confidence=0.4),
        replace(GOOD, id="nearly", confidence=0.49),
        replace(GOOD, id="kept"),
    ]
    seconds = {"nothing": 2.0, "long": 4.0, "dense": 2.0, "nearly": 2.0, "kept": 2.0}
    doubtful = sort_doubtful(decide(found, seconds, CRITERIA, 1.0))
    assert [one.recognition.id for one in doubtful] == ["dense", "nearly", "long", "nothing"]


def test_impossible_keys_are_named_together() -> None:
    config = SelfTrainConfig(
        output="o", corpus=["c"], language=["hin_Deva"], agreement="lm", keep_share=[0.5, 1.5],
        min_confidence=1.5, start="teachers", rate_margin=0.5, min_lm_score=1.0, plan=True,
    )  # fmt: skip
    problems = " ".join(config.validate())
    for key in ("agreement=lm", "keep_share", "min_confidence", "start", "rate_margin", "plan"):
        assert f"`{key}`" in problems
    assert SelfTrainConfig(output="o", corpus=["c"], language=["hin_Deva"]).validate() == []
