"""What finetuning learns from: utterances with transcripts, and the vocabulary of their text.

Only utterances whose transcript CTC can align are used. What cannot be used is left out before the
first step, counted, and named (DESIGN.md D12).
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from speechvq.data.corpus import list_partitions
from speechvq.data.index import CorpusIndex, load_index
from speechvq.data.records import Flag
from speechvq.errors import ConfigError, DataError, MissingDependencyError
from speechvq.models.build import create_ctc_model, create_pretrain_model
from speechvq.models.config import CTCModelConfig
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import init_ctc_from_pretrained, load_model
from speechvq.models.vocabulary import (
    SentencePieceVocabulary,
    Vocabulary,
    build_character_vocabulary,
)
from speechvq.training.batches import count_ctc_frames
from speechvq.training.config import FinetuneConfig
from speechvq.training.label_overlay import add_labels
from speechvq.training.selection import limit_index

TEXT_FLAGS = frozenset({Flag.DIGITS.value, Flag.PIPE.value, Flag.SYMBOLS.value})
"""Flags that mean that the transcript does not say how it was read."""

NUM_NAMED = 5
"""Utterances that a note names; the rest is counted."""


@dataclass(frozen=True)
class RecognitionData:
    """The data of a finetuning run.

    Attributes:
        train: Utterances to learn from, with texts.
        dev: Utterances to validate on, with texts; may be empty.
        vocabulary: Labels of the training text.
        notes: What was left out or looks wrong, one sentence each.
    """

    train: CorpusIndex
    dev: CorpusIndex
    vocabulary: Vocabulary
    notes: list[str]


def load_recognition_data(config: FinetuneConfig) -> RecognitionData:
    """Load and check the utterances of a finetuning run.

    Raises:
        DataError: Nothing is left to learn from; says why.
    """
    notes: list[str] = []
    if config.model is None:
        notes.append("No `model` was given: everything is learned from scratch.")
    train, vocabulary = load_transcribed(config, notes)
    if config.labels:
        train = add_labels(config, train, vocabulary, notes)
    num_frames = _get_frame_counter(config)
    train = _leave_out_unalignable(train, vocabulary, num_frames, notes)
    if len(train) == 0:
        raise DataError(
            f"No utterance of `{config.language}` is left to learn from: " + " ".join(notes)
        )
    if train.num_too_long or train.num_too_short:
        notes.append(
            f"{train.num_too_long} utterances are longer than `batch.max_seconds` "
            f"({config.batch.max_seconds}) and {train.num_too_short} shorter than "
            f"`batch.min_seconds` ({config.batch.min_seconds}); they are left out."
        )
    dev = load_split(config, config.dev_split)
    if len(dev) == 0:
        notes.append(
            f"The corpus has no transcribed split `{config.dev_split}` of `{config.language}`: "
            "the last model is kept instead of the best."
        )
    else:
        if dev.num_too_long or dev.num_too_short:
            notes.append(
                f"Of the dev split, {dev.num_too_long} utterances are too long and "
                f"{dev.num_too_short} too short likewise; they are not validated on."
            )
        dev = limit_index(dev, config.max_dev_seconds)
        _note_unknown_characters(dev, vocabulary, notes)
    return RecognitionData(train, dev, vocabulary, notes)


def load_transcribed(config: FinetuneConfig, notes: list[str]) -> tuple[CorpusIndex, Vocabulary]:
    """Load the utterances that the corpus itself transcribes, and the vocabulary of their text.

    Args:
        config: Which utterances, and how much of them.
        notes: Gets a sentence about what is left out.

    Raises:
        DataError: There are none.
    """
    train = load_split(config, config.train_split)
    if len(train) == 0:
        raise DataError(_explain_empty(config))
    if not config.allow_digits:
        train = _leave_out_flagged(train, notes)
    if config.max_train_seconds is not None:
        train = limit_index(train, config.max_train_seconds)
    assert train.texts is not None
    return train, _build_vocabulary(config, train.texts)


def load_split(config: FinetuneConfig, split: str) -> CorpusIndex:
    """Load the transcribed utterances of a split; there may be none."""
    return load_index(
        config.corpus,
        split=split,
        languages=[config.language],
        where=config.where,
        min_seconds=config.batch.min_seconds,
        max_seconds=config.batch.max_seconds,
        needs_text=True,
    )


def _explain_empty(config: FinetuneConfig) -> str:
    found = sorted(
        {
            f"{partition.language} ({partition.split})"
            for corpus in config.corpus
            for partition in list_partitions(corpus)
        }
    )
    return (
        f"{', '.join(config.corpus)}: no transcribed utterance of `language={config.language}` in "
        f"split `{config.train_split}` (where {config.where!r}, {config.batch.min_seconds} to "
        f"{config.batch.max_seconds} s). The corpus has: {', '.join(found) or 'nothing'}."
    )


def _build_vocabulary(config: FinetuneConfig, texts: list[str]) -> Vocabulary:
    if config.vocabulary == "sentencepiece":
        return _train_sentencepiece(texts, config.sentencepiece_size)
    return build_character_vocabulary(texts)


def _train_sentencepiece(texts: list[str], size: int) -> Vocabulary:
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
        raise DataError(
            f"A sentencepiece vocabulary of `sentencepiece_size` ({size}) cannot be learned from "
            f"{len(texts)} transcripts: {str(error).splitlines()[-1].strip()} Choose another size."
        ) from error
    return SentencePieceVocabulary(model.getvalue())


def _get_frame_counter(config: FinetuneConfig) -> Callable[[int], int]:
    """Return samples → frames for the model that will be trained."""
    if config.model is not None:
        return load_model(config.model).num_frames
    return create_pretrain_model(config.architecture).num_frames


def create_recognizer_model(config: FinetuneConfig, vocabulary: Vocabulary) -> CTCModel:
    """Create the CTC model of a run, pretrained or not."""
    vocabularies = {config.language: vocabulary}
    if config.model is not None:
        overrides: dict[str, object] = {"dropout_final": config.dropout or 0.0}
        if config.dropout is not None:
            overrides["encoder.dropout"] = config.dropout
        if config.layer_drop_prob is not None:
            overrides["encoder.layer_drop_prob"] = config.layer_drop_prob
        model = init_ctc_from_pretrained(config.model, vocabularies, overrides)
        _reset_top_layers(model, config.reset_layers)
        return model
    return create_ctc_model(_derive_ctc_config(config), vocabularies)


def _reset_top_layers(model: CTCModel, num_layers: int) -> None:
    """Give the last Transformer layers the weights that a new model would have.

    Raises:
        ConfigError: The model has fewer layers.
    """
    layers = model.encoder.transformer.layers
    if num_layers > len(layers):
        raise ConfigError(
            [f"`reset_layers` must be at most the model's {len(layers)}, but is {num_layers}."]
        )
    if num_layers == 0:
        return
    new = create_ctc_model(model.config, model.vocabularies).encoder.transformer.layers
    for number in range(len(layers) - num_layers, len(layers)):
        layers[number].load_state_dict(new[number].state_dict())


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


def _leave_out_flagged(index: CorpusIndex, notes: list[str]) -> CorpusIndex:
    assert index.flags is not None
    found = [TEXT_FLAGS & set(flags.split("+")) for flags in index.flags]
    flagged = np.array([bool(flags) for flags in found])
    if flagged.any():
        kinds = Counter(flag for flags in found for flag in flags)
        notes.append(
            f"{int(flagged.sum())} of {len(index)} transcripts are left out because preparation "
            f"flagged them ({', '.join(f'{kind}: {n}' for kind, n in sorted(kinds.items()))}); "
            "`allow_digits=true` keeps them."
        )
    return index.select(~flagged)


def _leave_out_unalignable(
    index: CorpusIndex,
    vocabulary: Vocabulary,
    num_frames: Callable[[int], int],
    notes: list[str],
) -> CorpusIndex:
    """Leave out transcripts with more labels than CTC has frames, and empty ones."""
    assert index.texts is not None
    keep = np.ones(len(index), dtype=bool)
    named = []
    for row, text in enumerate(index.texts):
        needed = count_ctc_frames(vocabulary.encode(text))
        frames = num_frames(int(index.num_samples[row]))
        if not 0 < needed <= frames:
            keep[row] = False
            named.append(f"`{index.ids[row]}` ({needed} labels, {frames} frames)")
    if named:
        more = f" and {len(named) - NUM_NAMED} more" if len(named) > NUM_NAMED else ""
        notes.append(
            f"{len(named)} of {len(index)} transcripts have more labels than frames, so that CTC "
            f"cannot align them: {', '.join(named[:NUM_NAMED])}{more}. They are left out; check "
            "that their text belongs to their audio."
        )
    return index.select(keep)


def _note_unknown_characters(index: CorpusIndex, vocabulary: Vocabulary, notes: list[str]) -> None:
    assert index.texts is not None
    unknown: Counter[str] = Counter()
    first = ""
    for name, text in zip(index.ids, index.texts, strict=True):
        found = vocabulary.unknown_characters(text)
        if found and not first:
            first = name
        unknown.update(found)
    if unknown:
        characters = ", ".join(f"{c!r} ×{n}" for c, n in unknown.most_common(10))
        notes.append(
            f"The dev split has characters that the training text lacks: {characters} (first in "
            f"`{first}`); each is an error that the model cannot avoid."
        )
