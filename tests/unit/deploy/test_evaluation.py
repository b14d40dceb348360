import json
from pathlib import Path

import jiwer
import pytest

from speechvq.data.audio import decode_flac
from speechvq.data.corpus import read_utterances
from speechvq.data.length_batches import batch_by_length
from speechvq.data.records import Utterance
from speechvq.data.text import get_normalizer
from speechvq.decoding.calibration import collect_words, compute_calibration
from speechvq.decoding.config import EvaluateConfig
from speechvq.deploy.evaluation import (
    evaluate,
    score_recognizer,
)
from speechvq.deploy.evaluation_files import read_results
from speechvq.deploy.evaluation_report import create_report, describe
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.score_variants import normalize_hypothesis
from speechvq.deploy.word_confidences import Recognized, recognize_with_confidences
from speechvq.errors import ConfigError, DataError, ModelError


@pytest.fixture
def configure(corpus, recognizer_directory, tmp_path):
    def create(**changes):
        values = {
            "corpus": str(corpus),
            "model": str(recognizer_directory),
            "output": str(tmp_path / "out"),
            "device": "cpu",
        }
        return EvaluateConfig(**{**values, **changes})

    return create


def read_metrics(config):
    return json.loads((Path(config.output) / "metrics.json").read_text("utf-8"))


def write(monkeypatch, answer):
    """Have every utterance recognised as what `answer` returns."""

    def recognize(recognizer, waves, language):
        texts = [answer() for _ in waves]
        return [Recognized(text=text, confidences=(0.5,) * len(text.split())) for text in texts]

    monkeypatch.setattr("speechvq.deploy.evaluation.recognize_with_confidences", recognize)


def test_leaves_three_files_whose_numbers_agree(configure):
    config = configure(language=["hin_Deva"])
    evaluate(config)
    metrics = read_metrics(config)
    results, counts = read_results(config.output)
    said = [result.reference for result in results]
    heard = [result.hypothesis for result in results]
    assert len(results) == metrics["num_utterances"] == 5
    assert metrics["num_untranscribed"] == 1
    assert any(heard)
    assert metrics["wer"] == pytest.approx(jiwer.wer(said, heard))
    assert metrics["cer"] == pytest.approx(jiwer.cer(said, heard))
    assert metrics["words"]["errors"] == counts["words"].errors.sum()
    low, high = metrics["cer_interval"]
    assert low <= metrics["cer"] <= high
    assert metrics["normalizer"] == "basic-1"
    assert metrics["model_digest"].startswith("sha256:")
    assert metrics["real_time_factor"] > 0
    assert metrics["hours"] * 3600 == pytest.approx(sum(result.seconds for result in results), 1e-3)
    assert list(metrics["speakers"]) == ["shin/b", "shin/c"]
    assert metrics["interval"]["unit"] == metrics["interval_unit"] == "utterance"
    assert sum(part["num_utterances"] for part in metrics["durations"].values()) == 5
    assert list(metrics["snr"]) == ["not known"]
    assert list(metrics["sources"]) == ["shin"]
    page = (Path(config.output) / "report.html").read_text("utf-8")
    assert "2 speakers, and 5 are needed" in page
    assert ">Sources<" not in page
    assert "data:audio/flac;base64," in page
    assert "नमस्ते" in page


def test_without_a_language_all_heads_with_text_are_scored(configure):
    metrics = score_recognizer(configure()).to_metrics()
    assert list(metrics["languages"]) == ["hin_Deva", "mdw_Latn"]
    parts = metrics["languages"].values()
    assert sum(part["words"]["errors"] for part in parts) == metrics["words"]["errors"]
    mean = sum(part["wer"] for part in parts) / 2
    assert metrics["wer_mean_over_languages"] == pytest.approx(mean)


def test_batches_change_nothing(configure):
    found = [score_recognizer(configure(batch_seconds=size)).results for size in (0.5, 3.0, 1e3)]
    assert found[0] == found[1] == found[2]
    assert len({result.hypothesis for result in found[0]}) > 3


def test_limit_and_where(configure, tmp_path):
    config = configure(limit=2)
    assert [one.id for one in score_recognizer(config).results] == [
        "hin_Deva/test-0",
        "hin_Deva/test-1",
        "mdw_Latn/test-0",
        "mdw_Latn/test-1",
    ]
    config = configure(where="source=smdw,speaker=c", output=str(tmp_path / "where"))
    assert {one.speaker for one in score_recognizer(config).results} == {"smdw/c"}


def test_warnings_tell_of_shared_speakers_and_letters_that_cannot_be_written(configure):
    evaluation = score_recognizer(configure(language=["mdw_Latn"]))
    assert evaluation.shared_speakers == ["smdw/b"]
    assert evaluation.unwritable == {"w": 1}
    text = "\n".join(evaluation.list_warnings())
    assert "smdw/b" in text
    assert "w (1)" in text
    assert "5 utterances are few" in text


def test_blank_collapse_is_told_with_advice(configure, monkeypatch):
    write(monkeypatch, lambda: "")
    evaluation = score_recognizer(configure())
    assert evaluation.to_metrics()["wer"] == 1
    assert evaluation.to_metrics()["num_empty_hypotheses"] == 10
    assert "all frames blank" in evaluation.list_warnings()[0]


def test_examples_are_apart_and_say_something(configure, monkeypatch):
    answers = iter(["", "नमस्ते दुनिया", "", "x", "कल मिलेंगे", *[""] * 9])
    write(monkeypatch, lambda: next(answers))
    # One utterance a batch: the answers come in the corpus's order.
    config = configure(language=["hin_Deva"], batch_seconds=0.01)
    evaluation = score_recognizer(config)
    worst, best = evaluation.choose_examples(2)
    assert len(worst) == len(best) == 2
    assert not set(worst) & set(best)
    rates = evaluation.scores.words.errors / evaluation.scores.words.reference_lengths
    assert max(rates[best]) <= min(rates[worst])
    assert evaluation.results[worst[0]].hypothesis == "x"
    assert [len(rows) for rows in evaluation.choose_examples(0)] == [0, 0]


def test_same_configuration_may_run_again_another_may_not(configure):
    evaluate(configure())
    before = read_metrics(configure())
    evaluate(configure(batch_seconds=1.0))
    assert read_metrics(configure())["wer"] == before["wer"]
    with pytest.raises(ConfigError, match=r"`limit` is 1 now and was 0"):
        evaluate(configure(limit=1))


def test_foreign_results_are_not_overwritten(configure):
    config = configure()
    Path(config.output).mkdir()
    (Path(config.output) / "metrics.json").write_text('{"loss": 1}')
    with pytest.raises(ConfigError, match="holds other results"):
        evaluate(config)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"language": ["ben_Beng"]}, ModelError, "hin_Deva, mdw_Latn, tam_Taml"),
        ({"language": ["tam_Taml"]}, DataError, "none of the 2 utterances has a transcript"),
        ({"language": ["tam_Taml"], "split": "train"}, DataError, "hin_Deva, mdw_Latn"),
        ({"split": "dev"}, DataError, r"has \(test, train\)"),
        ({"language": ["hin_Deva"], "where": "speaker=z"}, DataError, "speaker=z"),
        ({"where": "speaker=z"}, DataError, "nothing to score"),
        ({"where": "colour=z"}, DataError, "where"),
        ({"normalizer": "whisper"}, DataError, "whisper"),
        ({"limit": -1, "batch_seconds": 0.0}, ConfigError, "(?s)`limit`.*`batch_seconds`"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_written(
    configure, tmp_path, changes, error, message
):
    with pytest.raises(error, match=message):
        score_recognizer(configure(**changes))
    assert not (tmp_path / "out").exists()


def test_an_encoder_is_no_recognizer(configure, encoder_directory):
    with pytest.raises(ModelError, match="no recogniser yet"):
        score_recognizer(configure(model=str(encoder_directory)))


def test_batches_hold_every_utterance_once_and_no_more_than_asked():
    lengths = [1, 30, 2, 2, 15, 7, 7, 3, 1, 90] * 20
    rows = [
        Utterance(id=str(number), language="hin_Deva", num_samples=16_000 * length)
        for number, length in enumerate(lengths)
    ]
    batches = list(batch_by_length(iter(rows), 60.0))
    assert sorted(row.id for batch in batches for row in batch) == sorted(row.id for row in rows)
    for batch in batches:
        padded = len(batch) * max(row.num_seconds for row in batch)
        assert padded <= 60 or len(batch) == 1
    padded = sum(len(batch) * batch[0].num_seconds for batch in batches)
    assert padded < 1.15 * sum(lengths)


def test_sign_for_unknown_letters_survives_normalisation():
    normalizer = get_normalizer("basic")
    assert normalizer("a⁇b", "eng_Latn") != "a⁇b"
    assert normalize_hypothesis("A⁇b  c", normalizer, "eng_Latn") == "a⁇b c"


def test_confidences_in_the_file_give_the_calibration_again(configure):
    config = configure()
    evaluate(config)
    metrics = read_metrics(config)
    results, _ = read_results(config.output)
    assert all(len(one.confidences or ()) == len(one.hypothesis.split()) for one in results)
    confidences, correct, unknown = collect_words(
        (one.reference, one.hypothesis, one.confidences) for one in results
    )
    assert unknown == metrics["num_words_without_confidence"] == 0
    found = compute_calibration(confidences, correct)
    written = metrics["calibration"]["all"]
    assert (
        written["num_words"]
        == found.num_words
        == sum(len(one.hypothesis.split()) for one in results)
    )
    assert written["ece"] == pytest.approx(found.ece, abs=1e-5)
    assert set(metrics["calibration"]) == {"all", "hin_Deva", "mdw_Latn"}
    assert found.mean_confidence > 0


def test_confidences_are_those_of_the_recogniser(corpus, recognizer_directory):
    recognizer = Recognizer.load(recognizer_directory, device="cpu")
    rows = list(read_utterances(corpus, splits=["test"], languages=["hin_Deva"]))
    waves = [decode_flac(row.audio) for row in rows]
    found = recognize_with_confidences(recognizer, waves, "hin_Deva")
    assert [one.text for one in found] == recognizer.recognize(waves, "hin_Deva")
    words = [recognizer.transcribe(wave, "hin_Deva").words for wave in waves]
    assert any(words)
    for one, expected in zip(found, words, strict=True):
        assert one.confidences == pytest.approx([word.confidence for word in expected])


def test_many_speakers_are_drawn_as_speakers(configure, monkeypatch):
    names = iter(f"v{number % 5}" for number in range(10))
    monkeypatch.setattr("speechvq.deploy.evaluation.name_speaker", lambda row: next(names, "v0"))
    evaluation = score_recognizer(configure())
    metrics = evaluation.to_metrics()
    assert metrics["interval"]["unit"] == "speaker"
    assert metrics["interval"]["num_units"] == 5
    assert metrics["cer_interval"] != metrics["cer_interval_over_utterances"]
    assert evaluation.describe_interval() == "over 5 speakers"
    assert "95 % over 5 speakers" in describe(evaluation)
    page = create_report(evaluation, {}).render()
    assert "over 5 speakers (" in page
    assert ">Sources<" in page
