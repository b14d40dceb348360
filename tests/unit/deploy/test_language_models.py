"""Language models in the recogniser, in evaluations, and their weights."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.records import Utterance
from speechvq.decoding.config import BeamSettings, EvaluateConfig, TrainLmConfig, TuneLmConfig
from speechvq.decoding.hypotheses import EMPTY
from speechvq.decoding.language_model import load_language_model
from speechvq.decoding.lm_training import train_language_model
from speechvq.deploy.decoding_weights import read_tuned_settings, save_tuned_settings
from speechvq.deploy.evaluation import evaluate, score_recognizer
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.text_decoder import create_text_decoder
from speechvq.deploy.tuning import describe, tune_language_model
from speechvq.errors import ConfigError, DataError, ModelError
from speechvq.models.directory import load_ctc_model, save_model

pytest.importorskip("kaldingram")
pytest.importorskip("flashlight.lib.text")

MBOSHI = ["wáre ngá", "obe la", "ngá", "moro adi", "baa", "lá obɛ", "obe la ngá", "moro adi baa"]
HINDI = ["नमस्ते दुनिया", "यह एक वाक्य है", "यह पानी है", "एक वाक्य", "यह एक"]


@pytest.fixture(scope="module")
def lms(tmp_path_factory):
    root = tmp_path_factory.mktemp("lms")
    directories = {}
    for name, language, unit, lines in (
        ("word", "mdw_Latn", "word", MBOSHI),
        ("character", "mdw_Latn", "character", MBOSHI),
        ("hindi", "hin_Deva", "word", HINDI),
    ):
        text = root / f"{name}.txt"
        text.write_text("\n".join([*lines, *lines[:3]]), "utf-8")
        directories[name] = str(root / name)
        train_language_model(
            TrainLmConfig(
                language=language, unit=unit, order=2, text=[str(text)], output=str(root / name)
            )
        )
    return directories


@pytest.fixture
def model_directory(recognizer_directory, tmp_path):
    """A copy that may be written to."""
    save_model(tmp_path / "model", load_ctc_model(recognizer_directory))
    return tmp_path / "model"


@pytest.fixture(scope="module")
def dev_corpus(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dev") / "corpus"
    rng = np.random.default_rng(5)
    with CorpusWriter(directory, normalizer="basic-1") as writer:
        for split in ("dev", "test"):
            for number, text in enumerate(MBOSHI[1:6]):
                audio = rng.normal(0, 0.1, 9_000 + 2_000 * number).astype(np.float32)
                writer.add(
                    Utterance(
                        id=f"{split}{number}", language="mdw_Latn", split=split, text=text,
                        audio=encode_flac(audio), num_samples=len(audio), source="x",
                    )
                )  # fmt: skip
    return str(directory)


def read_wave(seed=1, length=16_000):
    return np.random.default_rng(seed).normal(0, 0.1, length).astype(np.float32)


@pytest.mark.parametrize("decoder", ["beam", "reference"])
def test_recognizer_writes_words_of_the_lexicon(recognizer_directory, lms, decoder):
    plain = Recognizer.load(recognizer_directory, device="cpu")
    recognizer = Recognizer.load(
        recognizer_directory, device="cpu", lm=lms["word"], decoder=decoder
    )
    waves = [read_wave(seed, 8_000 + 3_000 * seed) for seed in range(4)]
    texts = recognizer.recognize(waves, "mdw_Latn")
    assert any(texts)
    words = {word for line in MBOSHI for word in line.split()}
    assert {word for text in texts for word in text.split()} <= words
    assert texts != plain.recognize(waves, "mdw_Latn")
    # Heads without a language model are as they were.
    assert recognizer.recognize(waves, "hin_Deva") == plain.recognize(waves, "hin_Deva")
    for alone, wave in zip(texts, waves, strict=True):
        assert recognizer.recognize([wave], "mdw_Latn") == [alone]
        assert recognizer.transcribe(wave, "mdw_Latn").text == alone
    silence = np.zeros(16_000, np.float32)
    assert recognizer.search([silence, waves[0]], "mdw_Latn")[0] == [EMPTY]
    assert recognizer.recognize([], "mdw_Latn") == recognizer.search([], "mdw_Latn") == []


def test_both_searches_find_the_same(recognizer_directory, lms):
    wave = read_wave(3)
    for name in ("word", "character"):
        found = [
            Recognizer.load(recognizer_directory, device="cpu", lm=lms[name], decoder=decoder)
            for decoder in ("beam", "reference")
        ]
        texts = [one.search([wave], "mdw_Latn")[0][0].text for one in found]
        assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ["word", "character"])
def test_where_the_acoustics_hear_nothing_no_model_makes_words_up(recognizer_directory, lms, name):
    model = load_ctc_model(recognizer_directory)
    vocabulary = model.vocabularies["mdw_Latn"]
    decoder = create_text_decoder(vocabulary, "mdw_Latn", lm=load_language_model(lms[name]))
    logits = torch.zeros(20, len(vocabulary))
    logits[:10, 0], logits[10:, 5] = 0.1, 9.0  # blank is barely best, then something is heard
    eager = BeamSettings(lm_weight=0.0, word_score=20.0)
    assert decoder.decode(logits[:10].log_softmax(dim=-1), eager) == [EMPTY]
    assert decoder.decode(logits.log_softmax(dim=-1), eager)[0].text


def test_a_language_model_of_another_script_is_refused(recognizer_directory, lms, tmp_path):
    summary = Path(lms["hindi"]) / "summary.json"
    other = tmp_path / "disguised"
    other.mkdir()
    for file in Path(lms["hindi"]).iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    document = json.loads(summary.read_text("utf-8")) | {"language": "mdw_Latn"}
    (other / "summary.json").write_text(json.dumps(document), "utf-8")
    with pytest.raises(ModelError, match=r"lacks \(.*न.*\)"):
        Recognizer.load(recognizer_directory, lm=other)
    with pytest.raises(ModelError, match="both of mdw_Latn"):
        Recognizer.load(recognizer_directory, lm=[lms["word"], lms["character"]])
    with pytest.raises(ModelError, match="no language model"):
        Recognizer.load(recognizer_directory, lm=tmp_path)
    two = Recognizer.load(recognizer_directory, lm=[lms["word"], lms["hindi"]])
    assert set(two.decoders) == {"mdw_Latn", "hin_Deva"}


def test_tuned_weights_are_found_by_everybody_and_give_what_was_promised(
    dev_corpus, model_directory, lms, tmp_path
):
    keys = {"corpus": dev_corpus, "model": str(model_directory), "device": "cpu"}
    config = TuneLmConfig(
        lm=lms["word"], lm_weights=[0.0, 1.5], word_scores=[-3.0, 3.0], metric="cer", **keys
    )
    tuning = tune_language_model(config)
    assert len(tuning.trials) == 4
    assert tuning.best.cer == min(trial.cer for trial in tuning.trials)
    assert tuning.num_utterances == 5
    assert describe(tuning, "m").count("<- best") == 1
    assert len(tuning.at_edge) == 2
    digest = load_language_model(lms["word"]).digest
    found = read_tuned_settings(model_directory, "mdw_Latn", digest)
    assert (found.lm_weight, found.word_score) == (tuning.best.lm_weight, tuning.best.word_score)
    loaded = Recognizer.load(model_directory, lm=lms["word"])
    assert loaded.decoders["mdw_Latn"].settings == found
    assert loaded.decoders["mdw_Latn"].is_tuned
    # Another language model has other weights.
    other = Recognizer.load(model_directory, lm=lms["character"]).decoders["mdw_Latn"]
    assert other.settings == BeamSettings()
    assert not other.is_tuned

    evaluation = score_recognizer(
        EvaluateConfig(lm=[lms["word"]], split="dev", output=str(tmp_path / "e"), **keys)
    )
    metrics = evaluation.to_metrics()
    assert metrics["wer"] == pytest.approx(tuning.best.wer)
    assert metrics["cer"] == pytest.approx(tuning.best.cer)
    assert metrics["decoding"]["mdw_Latn"]["tuned"] is True
    assert any("tuned on dev, so" in sentence for sentence in metrics["warnings"])


def test_weights_that_others_damaged_are_refused(model_directory):
    save_tuned_settings(model_directory, "mdw_Latn", "sha256:x", {"lm_weight": 1, "word_score": 2})
    assert read_tuned_settings(model_directory, "mdw_Latn", "sha256:x").word_score == 2
    assert read_tuned_settings(model_directory, "mdw_Latn", "sha256:y") is None
    file = model_directory / "decoding.json"
    file.write_text(file.read_text("utf-8").replace('weight": 1', 'weight": "x"'), "utf-8")
    with pytest.raises(ModelError, match="must be numbers"):
        read_tuned_settings(model_directory, "mdw_Latn", "sha256:x")
    for content in ("[]", "{", '{"format": "speechvq-decoding"}'):
        file.write_text(content)
        with pytest.raises(ModelError, match="tune again"):
            read_tuned_settings(model_directory, "mdw_Latn", "sha256:x")


def test_tuning_wants_dev(corpus, model_directory, lms):
    config = TuneLmConfig(corpus=str(corpus), model=str(model_directory), lm=lms["word"])
    with pytest.raises(DataError, match=r"no dev split in mdw_Latn \(it has test, train\)"):
        tune_language_model(config)
    assert not (model_directory / "decoding.json").exists()
    with pytest.raises(ConfigError, match=r"(?s)`corpus`.*`metric`.*`decoder`"):
        tune_language_model(TuneLmConfig(metric="per", decoder="greedy"))


def test_evaluation_keeps_the_n_best_and_says_what_searched(
    dev_corpus, recognizer_directory, lms, tmp_path, caplog
):
    caplog.set_level(logging.WARNING)
    keys = {"corpus": dev_corpus, "model": str(recognizer_directory), "device": "cpu"}
    output = tmp_path / "out"
    config = EvaluateConfig(
        lm=[lms["word"]], lm_weight=0.5, num_best=4, output=str(output), num_examples=1, **keys
    )
    evaluate(config)
    metrics = json.loads((output / "metrics.json").read_text("utf-8"))
    assert metrics["decoder"] == "beam"
    decoding = metrics["decoding"]["mdw_Latn"]
    assert (decoding["lm_weight"], decoding["tuned"], decoding["unit"]) == (0.5, False, "word")
    assert any("not tuned" in sentence for sentence in metrics["warnings"])
    lines = [json.loads(line) for line in (output / "n_best.jsonl").read_text("utf-8").splitlines()]
    assert [line["id"] for line in lines] == [f"test{number}" for number in range(5)]
    for line in lines:
        assert 1 <= len(line["hypotheses"]) <= 4
        assert sum(one["posterior"] for one in line["hypotheses"]) == pytest.approx(1, abs=1e-4)
        words = line["hypotheses"][0]["text"].split()
        assert len(line["word_confidences"]) == len(words)
        assert all(0 < value <= 1 for value in line["word_confidences"])
    assert metrics["oracle"]["wer"] <= metrics["wer"]
    assert metrics["oracle"]["cer"] <= metrics["cer"]
    assert "beam, mdw_Latn: word 2-grams" in (output / "report.html").read_text("utf-8")
    # The best alone are the oracle of one.
    one = score_recognizer(
        EvaluateConfig(lm=[lms["word"]], lm_weight=0.5, num_best=1, output="x", **keys)
    ).to_metrics()
    assert one["oracle"]["wer"] == one["wer"] == metrics["wer"]
    with pytest.raises(ConfigError, match=r"`lm_weight` is 1\.0 now and was 0\.5"):
        evaluate(EvaluateConfig(**{**vars(config), "lm_weight": 1.0}))
    with pytest.raises(ConfigError, match="language that is scored"):
        score_recognizer(EvaluateConfig(lm=[lms["hindi"]], output="x", **keys))


def test_beam_without_a_language_model(dev_corpus, recognizer_directory):
    keys = {"corpus": dev_corpus, "model": str(recognizer_directory), "device": "cpu"}
    found = {}
    for decoder in ("greedy", "beam", "reference"):
        config = EvaluateConfig(decoder=decoder, beam_size=256, limit=2, output="x", **keys)
        evaluation = score_recognizer(config)
        found[decoder] = [one.hypothesis for one in evaluation.results]
    assert found["beam"] == found["reference"]
    assert any(found["beam"])


def test_keys_of_decoding_that_cannot_work_are_named():
    config = EvaluateConfig(
        corpus="c", model="m", output="o", decoder="greedy", lm=["x"], beam_size=0
    )
    assert len(config.validate()) == 2
    config = EvaluateConfig(corpus="c", model="m", output="o", lm_weight=1.0, num_best=0)
    assert len(config.validate()) == 2
    assert EvaluateConfig(lm=["x"]).get_decoder() == "beam"
    assert EvaluateConfig().get_decoder() == "greedy"


def test_transcripts_of_a_language_model_have_times(recognizer_directory, lms):
    recognizer = Recognizer.load(recognizer_directory, device="cpu", lm=lms["word"])
    wave = read_wave(3)
    transcript = recognizer.transcribe(wave, "mdw_Latn")
    assert transcript.text == recognizer.recognize([wave], "mdw_Latn")[0] != ""
    assert transcript.text != Recognizer.load(recognizer_directory).transcribe(wave).text
    times = [time for word in transcript.words for time in (word.begin_seconds, word.end_seconds)]
    assert times == sorted(times)
