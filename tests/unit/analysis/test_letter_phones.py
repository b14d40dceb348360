from __future__ import annotations

import numpy as np
import pytest
import torch

from speechvq.analysis.letter_phones import (
    AlignedWords,
    LetterPhones,
    load_g2p,
    name_segment,
    place_words,
    share_out,
)
from speechvq.analysis.phone_intervals import PhoneInterval
from speechvq.data.records import Utterance
from speechvq.decoding.forced_alignment import LabelSpan
from speechvq.models.directory import load_ctc_model

TIMES = (0.01 + 0.02 * np.arange(100)).astype(np.float32)


def create_word(text: str, frames: list[int], probability: float = 0.9):
    spans = [LabelSpan(3 + i, frame, frame + 1, probability) for i, frame in enumerate(frames)]
    return text, spans


def test_phones_share_the_rhythm_of_the_letters():
    same = share_out(["a", "b", "c"], [0.1, 0.3, 0.4], 0.0, 0.5)
    ends = [(one.begin_seconds, one.end_seconds) for one in same]
    assert np.array(ends) == pytest.approx(np.array([(0, 0.2), (0.2, 0.35), (0.35, 0.5)]))
    more = share_out(["a", "b", "c", "d"], [0.1, 0.3], 0.0, 0.4)
    assert [one.end_seconds for one in more] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    less = share_out(["a"], [0.1, 0.3], 0.0, 0.4)
    assert less == [PhoneInterval("a", 0.0, 0.4)]


def test_words_meet_or_have_silence_between_them():
    counts = AlignedWords()
    words = [create_word("ab", [10, 14]), create_word("c", [20]), create_word("d", [60], 0.2)]
    found = place_words(words, TIMES, num_seconds=2.0, g2p=list, min_confidence=0.5, counts=counts)
    assert [one.phone for one in found] == ["sil", "a", "b", "c", "sil", None, "sil"]
    edges = [one.begin_seconds for one in found]
    # Centres: a 0.21, b 0.29, c 0.41, d 1.21 s; margins of 0.04 s beside silence.
    assert edges == pytest.approx([0, 0.17, 0.25, 0.35, 0.45, 1.17, 1.25], abs=1e-6)
    assert found[-1].end_seconds == 2.0
    assert (counts.num_words, counts.num_kept) == (3, 2)
    assert counts.confidence_sum == pytest.approx(2.0)


def test_words_without_phones_are_unknown_and_no_words_are_silence():
    counts = AlignedWords()
    found = place_words(
        [create_word("x", [50])],
        TIMES,
        num_seconds=2.0,
        g2p=lambda word: [],
        min_confidence=0.0,
        counts=counts,
    )
    assert [one.phone for one in found] == ["sil", None, "sil"]
    arguments = {"num_seconds": 2.0, "g2p": list, "min_confidence": 0.5, "counts": counts}
    assert place_words([], TIMES, **arguments) == [PhoneInterval("sil", 0.0, 2.0)]


def test_a_recogniser_aligns_what_it_can(recognizer_directory):
    model = load_ctc_model(recognizer_directory)
    source = LetterPhones(model, 0.0, load=lambda language: list)
    waveform = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    row = Utterance(id="u", language="mdw_Latn", text="ab ba")
    found = source.find(row, waveform) or []
    assert [one.phone for one in found if one.phone != "sil"] == ["a", "b", "b", "a"]
    assert found[0].begin_seconds == 0.0
    assert found[-1].end_seconds == pytest.approx(1.0)
    assert all(one.begin_seconds <= one.end_seconds for one in found)
    assert source.counts["mdw_Latn"].num_words == 2
    for other in (
        Utterance(id="u", language="mdw_Latn"),
        Utterance(id="u", language="hin_Deva", text="ab"),
        Utterance(id="u", language="mdw_Latn", text="ab " * 50),
    ):
        assert source.find(other, waveform) is None
    assert source.to_json()["languages"]["mdw_Latn"]["utterances_not_aligned"] == 1
    without = LetterPhones(model, 0.0, load=lambda language: None)
    assert without.find(row, waveform) is None
    assert without.to_json()["languages_without_g2p"] == ["mdw_Latn"]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("phone", "name"),
    [
        ("g", "\u0261"),
        ("t̪ʰ", "t̪ʰ"),
        ("β", "β"),
        ("\u200d", None),
        ("ʰ", None),
        ("ऑ", None),
        ("്", None),
    ],
)
def test_what_rules_leave_over_is_no_phone(phone: str, name: str | None) -> None:
    assert name_segment(phone) == name


def test_epitran_has_rules_for_some_languages():
    pytest.importorskip("epitran")
    hindi = load_g2p("hin_Deva")
    assert hindi is not None
    assert hindi("काम")[:2] == ["k", "aː"]
    assert load_g2p("mdw_Latn") is None


def test_audio_shorter_than_a_frame_of_the_recogniser_is_not_aligned(recognizer_directory) -> None:
    aligner = LetterPhones(
        load_ctc_model(recognizer_directory).eval(), 0.0, load=lambda _: lambda word: list(word)
    )
    waveform = np.zeros(200, dtype=np.float32)
    row = Utterance(
        id="a", language="mdw_Latn", split="test", audio=b"", num_samples=200, text="ab", source="x"
    )
    assert aligner.find(row, waveform) is None
    assert aligner.counts["mdw_Latn"].num_failed == 1
