"""What finetuning learns from: utterances with transcripts, and the vocabularies of their text.

Only utterances whose transcript CTC can align are used; `training.lint` says what else is wrong
with them before the first step (DESIGN.md D12).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from speechvq.data.corpus import list_partitions
from speechvq.data.index import CorpusIndex, load_index
from speechvq.errors import DataError, MissingDependencyError
from speechvq.models.build import create_ctc_model, create_pretrain_model
from speechvq.models.config import CTCModelConfig, EncoderConfig
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import load_model
from speechvq.models.transfer import add_languages, init_ctc_from_pretrained, reset_top_layers
from speechvq.models.vocabulary import (
    SentencePieceVocabulary,
    Vocabulary,
    build_character_vocabulary,
    build_grapheme_vocabulary,
)
from speechvq.training.finetune_config import ALL, FinetuneConfig
from speechvq.training.label_overlay import add_labels
from speechvq.training.lint import describe_text, leave_out_flagged, leave_out_unalignable
from speechvq.training.selection import limit_index

TEST_SPLIT = "test"
"""Split of which finetuning only asks whether its sentences are in the training text."""


@dataclass(frozen=True)
class RecognitionData:
    """The data of a finetuning run.

    Attributes:
        train: Utterances to learn from, with texts.
        dev: Utterances to validate on, with texts; may be empty.
        vocabularies: Labels of the training text, by language.
        encoder: Shape of the encoder that learns.
        notes: What was left out or looks wrong, one sentence each.
    """

    train: CorpusIndex
    dev: CorpusIndex
    vocabularies: dict[str, Vocabulary]
    encoder: EncoderConfig
    notes: list[str]


def load_recognition_data(config: FinetuneConfig) -> RecognitionData:
    """Load and check the utterances of a finetuning run.

    Raises:
        DataError: Nothing is left to learn from in some language; says why.
    """
    notes: list[str] = []
    if config.model is None:
        notes.append("No `model` was given: everything is learned from scratch.")
    train, vocabularies = load_transcribed(config, notes)
    if config.labels:
        train = add_labels(config, train, vocabularies, notes)
    encoder, num_frames = _read_encoder(config, sorted(vocabularies), notes)
    train = leave_out_unalignable(train, vocabularies, num_frames, notes)
    languages = _leave_out_empty(config, train, sorted(vocabularies), notes)
    vocabularies = {language: vocabularies[language] for language in languages}
    if train.num_too_long or train.num_too_short:
        notes.append(
            f"{train.num_too_long} utterances are longer than `batch.max_seconds` "
            f"({config.batch.max_seconds}) and {train.num_too_short} shorter than "
            f"`batch.min_seconds` ({config.batch.min_seconds}); they are left out."
        )
    dev = _load_dev(config, languages, notes)
    test = load_split(config, TEST_SPLIT, languages)
    for language, vocabulary in vocabularies.items():
        others = {
            split: select_language(index, language)
            for split, index in ((config.dev_split, dev), (TEST_SPLIT, test))
            if split != config.train_split
        }
        notes += describe_text(language, _get_texts(train, language), others, vocabulary)
    return RecognitionData(train, dev, vocabularies, encoder, notes)


def load_transcribed(
    config: FinetuneConfig, notes: list[str]
) -> tuple[CorpusIndex, dict[str, Vocabulary]]:
    """Load the utterances that the corpus itself transcribes, and the vocabularies of their text.

    Args:
        config: Which utterances, and how much of them.
        notes: Gets a sentence about what is left out.

    Raises:
        DataError: There are none in some language, or no usable ones.
    """
    languages = _find_languages(config)
    train = load_split(config, config.train_split, languages)
    for language in languages:
        if len(select_language(train, language)) == 0:
            raise DataError(_explain_empty(config, language))
    if not config.allow_digits:
        train = leave_out_flagged(train, notes)
        languages = _leave_out_empty(config, train, languages, notes)
    if config.max_train_seconds is not None:
        train = limit_index(train, config.max_train_seconds)
    vocabularies = {
        language: _build_vocabulary(config, language, _get_texts(train, language))
        for language in languages
    }
    return train, vocabularies


def select_language(index: CorpusIndex, language: str) -> CorpusIndex:
    """Return the utterances of one language."""
    if language not in index.languages:
        return index.select(index.language < 0)
    return index.select(index.language == index.languages.index(language))


def _find_languages(config: FinetuneConfig) -> list[str]:
    """Return the languages to learn, sorted.

    Raises:
        DataError: All are wanted, and the corpus has transcripts of none.
    """
    if config.language != [ALL]:
        return sorted(config.language)
    languages = sorted(load_split(config, config.train_split, []).languages)
    if not languages:
        raise DataError(_explain_empty(config, ALL))
    return languages


def _leave_out_empty(
    config: FinetuneConfig, train: CorpusIndex, languages: Sequence[str], notes: list[str]
) -> list[str]:
    """Return the languages of which utterances are left; all that were named must be.

    Raises:
        DataError: Nothing is left of a language that was named, or of any.
    """
    empty = [code for code in languages if len(select_language(train, code)) == 0]
    if empty and (config.language != [ALL] or len(empty) == len(languages)):
        raise DataError(f"No utterance of `{empty[0]}` is left to learn from: " + " ".join(notes))
    notes += [
        f"No utterance of `{code}` is left to learn from: `language=all` goes on without it."
        for code in empty
    ]
    return [code for code in languages if code not in empty]


def load_split(config: FinetuneConfig, split: str, languages: Sequence[str]) -> CorpusIndex:
    """Load the transcribed utterances of a split; no language means all, and there may be none."""
    return load_index(
        config.corpus,
        split=split,
        languages=languages,
        where=config.where,
        min_seconds=config.batch.min_seconds,
        max_seconds=config.batch.max_seconds,
        needs_text=True,
    )


def _load_dev(config: FinetuneConfig, languages: Sequence[str], notes: list[str]) -> CorpusIndex:
    dev = load_split(config, config.dev_split, languages)
    missing = [code for code in languages if len(select_language(dev, code)) == 0]
    if missing:
        notes.append(
            f"The corpus has no transcribed split `{config.dev_split}` of `{', '.join(missing)}`: "
            + (
                "the last model is kept instead of the best."
                if len(dev) == 0
                else "the best model is chosen by the other languages."
            )
        )
    if dev.num_too_long or dev.num_too_short:
        notes.append(
            f"Of the dev split, {dev.num_too_long} utterances are too long and "
            f"{dev.num_too_short} too short likewise; they are not validated on."
        )
    return limit_index(dev, config.max_dev_seconds)


def _explain_empty(config: FinetuneConfig, language: str) -> str:
    found = sorted(
        {
            f"{partition.language} ({partition.split})"
            for corpus in config.corpus
            for partition in list_partitions(corpus)
        }
    )
    return (
        f"{', '.join(config.corpus)}: no transcribed utterance of `language={language}` in "
        f"split `{config.train_split}` (where {config.where!r}, {config.batch.min_seconds} to "
        f"{config.batch.max_seconds} s). The corpus has: {', '.join(found) or 'nothing'}."
    )


def _get_texts(index: CorpusIndex, language: str) -> list[str]:
    texts = select_language(index, language).texts
    assert texts is not None
    return texts


def _build_vocabulary(config: FinetuneConfig, language: str, texts: list[str]) -> Vocabulary:
    match config.vocabulary:
        case "sentencepiece":
            return _train_sentencepiece(language, texts, config.sentencepiece_size)
        case "grapheme":
            return build_grapheme_vocabulary(texts, config.grapheme_min_count)
    return build_character_vocabulary(texts)


def _train_sentencepiece(language: str, texts: list[str], size: int) -> Vocabulary:
    """Learn a unigram vocabulary of the training text, always the same for the same text."""
    try:
        import sentencepiece
    except ImportError as error:
        raise MissingDependencyError(
            "sentencepiece", "train", "learn a sentencepiece vocabulary"
        ) from error
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            model_type="unigram",
            character_coverage=1.0,
            normalization_rule_name="identity",
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(
            f"A sentencepiece vocabulary of `sentencepiece_size` ({size}) cannot be learned from "
            f"{len(texts)} transcripts of `{language}`: {reason} Choose another size."
        ) from error
    return SentencePieceVocabulary(model.getvalue())


def _read_encoder(
    config: FinetuneConfig, languages: Sequence[str], notes: list[str]
) -> tuple[EncoderConfig, Callable[[int], int]]:
    """Return the shape of the encoder that will learn, and samples → frames; note heads that
    `keep_languages` does not keep.
    """
    if config.model is not None:
        model = load_model(config.model)
        known = model.vocabularies if isinstance(model, CTCModel) else {}
        if config.keep_languages and (replaced := [code for code in languages if code in known]):
            notes.append(
                f"`{', '.join(replaced)}`, which `model` knows, gets a new head and new adapters; "
                "`keep_languages` keeps its other languages."
            )
        return model.config.encoder, model.num_frames
    return config.architecture.encoder, create_pretrain_model(config.architecture).num_frames


def create_recognizer_model(
    config: FinetuneConfig, vocabularies: Mapping[str, Vocabulary]
) -> CTCModel:
    """Create the CTC model of a run, pretrained or not."""
    if config.model is None:
        return create_ctc_model(_derive_ctc_config(config), vocabularies)
    overrides: dict[str, object] = {
        "dropout_final": config.dropout or 0.0,
        "adapter_dim": config.adapter_dim,
    }
    if config.dropout is not None:
        overrides["encoder.dropout"] = config.dropout
    if config.layer_drop_prob is not None:
        overrides["encoder.layer_drop_prob"] = config.layer_drop_prob
    create = add_languages if config.keep_languages else init_ctc_from_pretrained
    model = create(config.model, vocabularies, overrides)
    reset_top_layers(model, config.reset_layers)
    return model


def _derive_ctc_config(config: FinetuneConfig) -> CTCModelConfig:
    """Return the recogniser of `architecture`, which learns from scratch, front end included."""
    architecture = config.architecture
    encoder = architecture.encoder
    if config.dropout is not None:
        encoder = replace(encoder, dropout=config.dropout)
    if config.layer_drop_prob is not None:
        encoder = replace(encoder, layer_drop_prob=config.layer_drop_prob)
    return CTCModelConfig(
        features=architecture.features,
        fbank=architecture.fbank,
        waveform=architecture.waveform,
        encoder=encoder,
        feature_grad_scale=1.0,
        dropout_final=config.dropout or 0.0,
    )
