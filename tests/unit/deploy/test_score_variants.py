import pytest

from speechvq.data.text import get_normalizer
from speechvq.decoding.scoring import score_utterances
from speechvq.deploy.result_groups import DURATION_EDGES, group_scores, name_bin
from speechvq.deploy.score_variants import NoPunctuationNormalizer, ScoredText, score_variants
from speechvq.deploy.word_confidences import follow_normalization


def create_text(transcript, recognized, *, language="hin_Deva", prepared=None):
    basic = get_normalizer("basic")
    prepared = basic(transcript, language) if prepared is None else prepared
    return ScoredText(
        language=language,
        transcript=transcript,
        prepared=prepared,
        recognized=recognized,
        reference=basic(prepared, language),
        hypothesis=basic(recognized, language),
    )


def test_variants_stand_side_by_side_with_the_configured_one_first():
    texts = [create_text("नमस्ते, दुनिया।", "नमस्ते दुनिया"), create_text("हिन्दी है", "हिंदी है")]
    variants = {one.name: one for one in score_variants(texts, "basic-1")}
    assert list(variants) == ["configured", "plain", "no_punctuation", "tolerant"]
    assert variants["configured"].wer == 0.25
    assert variants["plain"].wer == 0.75
    assert variants["no_punctuation"].wer == 0.25
    assert variants["tolerant"].wer == 0
    assert [one.normalizer for one in variants.values()] == [
        "basic-1",
        "verbatim-1",
        "no_punctuation-1",
        "basic-1+tolerant-1",
    ]
    assert variants["plain"].wer_change == pytest.approx(2)
    assert variants["plain"].is_warning
    assert "2 punctuation marks and symbols (hypotheses: 0)" in variants["plain"].reason
    assert variants["tolerant"].is_warning
    assert "spelling" in variants["tolerant"].reason
    assert not variants["no_punctuation"].is_warning
    assert variants["no_punctuation"].reason == ""


def test_capitals_show_without_punctuation_and_no_tolerance_is_made_up():
    texts = [create_text("Hello, World", "hello world", language="eng_Latn")]
    variants = {one.name: one for one in score_variants(texts, "basic-1")}
    assert set(variants) == {"configured", "plain", "no_punctuation"}
    assert variants["no_punctuation"].wer == 1
    assert variants["no_punctuation"].wer_change is None  # the configured rate is 0


def test_transcripts_that_were_not_kept_are_told():
    kept = create_text("क, ख", "क ख")
    lost = create_text("क, ख", "क ख")
    lost = ScoredText(**{**vars(lost), "transcript": None})
    plain = score_variants([kept, lost], "basic-1")[1]
    assert (plain.references, plain.wer) == ("as prepared", 0)
    assert score_variants([kept, kept], "basic-1")[1].references == "as they came"


def test_punctuation_goes_and_letters_marks_and_inner_apostrophes_stay():
    normalize = NoPunctuationNormalizer()
    assert normalize("नमस्ते। (क्या?) 5% – don't ‘x’ l’eau") == "नमस्ते क्या 5 don't x l’eau"
    assert normalize("Ab\u200dc") == "Ab\u200dc"


def test_confidences_follow_their_words_through_normalisation():
    normalize = get_normalizer("basic")

    def follow(text, confidences):
        return follow_normalization(text, confidences, normalize(text), normalize)

    assert follow("a b", (0.5, 0.25)) == (0.5, 0.25)
    assert follow("A-b, – c", (0.5, 0.25, 0.125)) == (0.5, 0.5, 0.125)
    assert follow("a b", None) is None
    assert follow_normalization("a b", (0.5, 0.25), "ab", normalize) is None


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (0.0, "under 2 s"),
        (1.999, "under 2 s"),
        (2.0, "2 – 5 s"),
        (19.99, "15 – 20 s"),
        (20.0, "20 s and more"),
        (None, "not known"),
        (float("nan"), "not known"),
    ],
)
def test_bins_hold_their_lower_edge(seconds, name):
    assert name_bin(seconds, DURATION_EDGES, "s") == name


def test_groups_hold_every_utterance_once_in_order():
    texts = ["a"] * 6
    seconds = [30.0, 1.0, 2.0, 4.0, 12.0, 0.5]
    scores = score_utterances(texts, ["a", *["b"] * 5], normalizer="n", seconds=seconds)
    snrs = [None, -5.0, 100.0, 15.0, None, 10.0]
    found = {one.key: one.groups for one in group_scores(scores, ["x", "y"] * 3, snrs)}
    assert [(one.name, one.num_utterances) for one in found["durations"]] == [
        ("under 2 s", 2),
        ("2 – 5 s", 2),
        ("10 – 15 s", 1),
        ("20 s and more", 1),
    ]
    assert found["durations"][-1].wer.rate == 0
    assert [(one.name, one.num_utterances) for one in found["snr"]] == [
        ("under 0 dB", 1),
        ("10 – 20 dB", 2),
        ("60 dB and more", 1),
        ("not known", 2),
    ]
    assert [one.name for one in found["sources"]] == ["x", "y"]
