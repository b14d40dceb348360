"""What finetuning learns from, and the model that it starts with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("fairseq2")

from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.records import SAMPLE_RATE, Flag, Utterance
from speechvq.errors import ConfigError, DataError
from speechvq.models.build import create_pretrain_model
from speechvq.models.config import EncoderConfig, Features, GumbelConfig, PretrainModelConfig
from speechvq.models.directory import save_model
from speechvq.models.vocabulary import build_character_vocabulary
from speechvq.training.finetune_config import FinetuneConfig
from speechvq.training.recognition_data import (
    create_recognizer_model,
    load_recognition_data,
    load_transcribed,
)
from tests.support.corpora import write_tone_corpus

ARCHITECTURE = PretrainModelConfig(
    features=Features.fbank,
    encoder=EncoderConfig(
        num_layers=3, model_dim=16, num_heads=2, ffn_dim=32, position_kernel=8, position_groups=2
    ),
    quantizer=GumbelConfig(codebook_size=4, code_dim=8),
    final_dim=8,
)
VOCABULARIES = {"hin_Deva": build_character_vocabulary(["abc"])}
TAMIL = {"tam_Taml": build_character_vocabulary(["de"])}


def create_config(**changes: object) -> FinetuneConfig:
    values = {"language": ["hin_Deva"], "architecture": ARCHITECTURE, "output": "run", **changes}
    return FinetuneConfig(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "model"
    torch.manual_seed(3)
    save_model(directory, create_pretrain_model(ARCHITECTURE))
    return directory


@pytest.mark.parametrize("num_reset", [0, 1, 3])
def test_reset_layers_are_new_and_the_others_pretrained(pretrained: Path, num_reset: int) -> None:
    plain = create_recognizer_model(create_config(model=str(pretrained)), VOCABULARIES)
    config = create_config(model=str(pretrained), reset_layers=num_reset)
    model = create_recognizer_model(config, VOCABULARIES)
    for number in range(3):
        ours = model.encoder.transformer.layers[number].state_dict()
        theirs = plain.encoder.transformer.layers[number].state_dict()
        same = all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert same == (number < 3 - num_reset)
    torch.testing.assert_close(model.encoder.projection.weight, plain.encoder.projection.weight)


def test_more_reset_layers_than_there_are_is_refused(pretrained: Path) -> None:
    config = create_config(model=str(pretrained), reset_layers=4)
    with pytest.raises(ConfigError, match="at most the model's 3, but is 4"):
        create_recognizer_model(config, VOCABULARIES)


def test_from_scratch_learns_the_front_end_too() -> None:
    model = create_recognizer_model(create_config(dropout=0.25), VOCABULARIES)
    assert model.config.feature_grad_scale == 1.0
    assert model.config.encoder.dropout == 0.25
    assert ARCHITECTURE.encoder.dropout == 0.1  # the caller's configuration stays as it was


def write_corpus(
    directory: Path,
    rows: list[tuple[str, str, float, list[str]]],
    codes: dict[int, str] | None = None,
) -> Path:
    """Write (split, text, seconds, flags) as utterances u0, u1, …, in Hindi or in `codes`."""
    noise = torch.Generator().manual_seed(0)
    with CorpusWriter(directory, normalizer="basic-1") as writer:
        for number, (split, text, seconds, flags) in enumerate(rows):
            audio = 0.1 * torch.randn(round(seconds * SAMPLE_RATE), generator=noise).numpy()
            writer.add(
                Utterance(
                    id=f"u{number}", language=(codes or {}).get(number, "hin_Deva"), split=split,
                    audio=encode_flac(audio), num_samples=len(audio), text=text, source="s",
                    recording="r", path="p", flags=flags,
                )
            )  # fmt: skip
    return directory


def test_what_cannot_be_learned_is_left_out_and_named(tmp_path: Path) -> None:
    corpus = write_corpus(
        tmp_path / "corpus",
        [
            ("train", "abc ab", 1.0, []),
            ("train", "ab 12", 1.0, [Flag.DIGITS.value]),
            ("train", "abcabcabc " * 10, 1.0, []),  # 109 labels in 50 frames
            ("train", "aabb", 1.0, [Flag.CLIPPED.value]),  # a clipped clip is still transcribed
            ("dev", "abd", 1.0, []),
        ],
    )
    data = load_recognition_data(create_config(corpus=[str(corpus)]))
    assert data.train.ids == ["u0", "u3"]
    notes = " ".join(data.notes)
    assert "1 of 4 transcripts are left out because preparation flagged them (digits: 1)" in notes
    assert "`u2` (99 labels" in notes or "`u2` (109 labels" in notes
    assert "'d' ×1 (first in `u4`)" in notes
    assert "learned from scratch" in notes
    assert sorted(set("abc")) == list(data.vocabularies["hin_Deva"].labels[3:])


def test_doubtful_text_is_told_before_the_first_step(tmp_path: Path) -> None:
    rows: list[tuple[str, str, float, list[str]]] = [
        *[("train", "abc ab", 1.0, [])] * 5,
        ("train", "abz", 1.0, []),
        ("dev", "abc ab", 1.0, []),
        ("dev", "cab", 1.0, []),
        ("test", "abz", 1.0, []),
    ]
    corpus = write_corpus(tmp_path / "corpus", rows)
    notes = load_recognition_data(create_config(corpus=[str(corpus)])).notes
    assert (
        "1 of 4 characters of `hin_Deva` occur less than 5 times in the training text, too seldom "
        "to be learned: 'z'."
    ) in notes
    shared = [note for note in notes if "word for word" in note]
    assert len(shared) == 2
    assert shared[0].startswith("1 of 2 sentences of `dev` (hin_Deva)")
    assert shared[1].startswith("1 of 1 sentences of `test` (hin_Deva)")


def test_each_language_has_a_vocabulary_and_all_means_all(tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "corpus", counts={"train": 3, "dev": 1})
    for language in (["tam_Taml", "hin_Deva"], ["all"]):
        data = load_recognition_data(create_config(corpus=[str(corpus)], language=language))
        assert list(data.vocabularies) == ["hin_Deva", "tam_Taml"]
        assert (len(data.train), len(data.dev)) == (6, 2)
    model = create_recognizer_model(create_config(), data.vocabularies)
    assert list(model.heads) == ["hin_Deva", "tam_Taml"]


def test_all_goes_on_without_languages_that_have_nothing_usable(tmp_path: Path) -> None:
    corpus = write_corpus(
        tmp_path / "corpus",
        [
            ("train", "abc ab", 1.0, []),
            ("train", "12", 1.0, [Flag.DIGITS.value]),
            ("train", "abcabcabc " * 10, 1.0, []),  # more labels than frames
            ("dev", "ab", 1.0, []),
        ],
        {1: "tam_Taml", 2: "tel_Telu"},
    )
    data = load_recognition_data(create_config(corpus=[str(corpus)], language=["all"]))
    assert list(data.vocabularies) == ["hin_Deva"]
    for code in ("tam_Taml", "tel_Telu"):
        note = f"No utterance of `{code}` is left to learn from: `language=all` goes on without it."
        assert note in data.notes
        config = create_config(corpus=[str(corpus)], language=["hin_Deva", code])
        with pytest.raises(DataError, match=f"No utterance of `{code}` is left to learn from"):
            load_recognition_data(config)


@pytest.mark.parametrize("vocabulary", ["character", "sentencepiece"])
def test_nothing_but_flagged_transcripts_is_told_before_a_vocabulary_is_made(
    tmp_path: Path, vocabulary: str
) -> None:
    corpus = write_corpus(tmp_path / "corpus", [("train", "12", 1.0, [Flag.DIGITS.value])])
    config = create_config(corpus=[str(corpus)], vocabulary=vocabulary)
    with pytest.raises(DataError, match=r"`hin_Deva` is left to learn from: 1 of 1 .*allow_digits"):
        load_transcribed(config, [])


def test_language_that_is_not_kept_is_told(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [("train", "abc ab", 1.0, [])])
    model = create_recognizer_model(create_config(), {**VOCABULARIES, **TAMIL})
    save_model(tmp_path / "model", model)
    config = create_config(
        corpus=[str(corpus)], model=str(tmp_path / "model"), adapter_dim=2, keep_languages=True
    )
    notes = load_recognition_data(config).notes
    assert sum("`hin_Deva`, which `model` knows, gets a new head" in note for note in notes) == 1
    notes = load_recognition_data(replace(config, keep_languages=False)).notes
    assert not any("gets a new head" in note for note in notes)


def test_one_language_without_text_is_named(tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "corpus", counts={"train": 3})
    config = create_config(corpus=[str(corpus)], language=["hin_Deva", "ben_Beng"])
    with pytest.raises(DataError, match="no transcribed utterance of `language=ben_Beng`"):
        load_recognition_data(config)


def test_nothing_left_is_an_error_with_the_reason(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [("train", "abc" * 40, 1.0, [])])
    with pytest.raises(DataError, match="more labels than frames"):
        load_recognition_data(create_config(corpus=[str(corpus)]))


def test_sentencepiece_vocabulary_is_learned_from_the_training_text(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    rows = [("train", text, 2.0, []) for text in ("abc abd", "abd bcd", "cab bad", "dab cab")]
    corpus = write_corpus(tmp_path / "corpus", rows)
    config = create_config(corpus=[str(corpus)], vocabulary="sentencepiece", sentencepiece_size=10)
    vocabulary = load_recognition_data(config).vocabularies["hin_Deva"]
    assert vocabulary.decode(vocabulary.encode("abc bad")) == "abc bad"
    assert load_recognition_data(config).vocabularies["hin_Deva"].to_json() == vocabulary.to_json()


def test_subset_is_fixed_and_the_vocabulary_is_its_own(tmp_path: Path) -> None:
    rows = [("train", text, 1.0, []) for text in ("abc", "abd", "abe", "abf")]
    rows += [("dev", "abc", 1.0, [])]
    corpus = write_corpus(tmp_path / "corpus", rows)
    config = create_config(corpus=[str(corpus)], max_train_seconds=2.5)
    data = load_recognition_data(config)
    assert len(data.train) == 2
    assert data.train.texts is not None
    assert set(data.vocabularies["hin_Deva"].labels[3:]) == set("".join(data.train.texts))
    assert load_recognition_data(config).train.ids == data.train.ids
    assert len(data.dev) == 1
