"""Texts for utterances that the corpus has none for: an overlay of tables, no copy of audio.

The pool is what may be learned from and is not yet: utterances of the training split that are not
among the transcribed ones. Whatever text the corpus has for them is not read. Tables of texts
(`speechvq.data.label_tables`) bring some of them to the training data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from speechvq.data.corpus import list_partitions, read_utterances
from speechvq.data.index import CorpusIndex, load_index
from speechvq.data.label_tables import load_labels
from speechvq.data.records import Flag
from speechvq.errors import DataError
from speechvq.models.vocabulary import Vocabulary
from speechvq.training.finetune_config import FinetuneConfig

_RELATIONS = ("source", "recording", "flags")


def load_pool(config: FinetuneConfig, transcribed: CorpusIndex, notes: list[str]) -> CorpusIndex:
    """Return the utterances without text that may be learned from.

    Args:
        config: Which corpora, split, language and lengths.
        transcribed: Utterances that are learned from with their own text.
        notes: Gets a sentence about what is left out.

    Returns:
        An index without texts, and without utterances whose recording stands in another split as
        well, or that may be near duplicates of an utterance there.
    """
    index = _load_split(config, transcribed.languages)
    own = set(transcribed.ids)
    shared = _find_relatives(config, transcribed.languages) - own
    if shared:
        notes.append(
            f"{len(shared)} utterances of split `{config.train_split}` are cut from recordings "
            "that other splits have parts of, or are near duplicates and may be of their "
            "utterances; they are not labelled."
        )
    keep = np.array([name not in own and name not in shared for name in index.ids], dtype=bool)
    return index.select(keep)


def add_labels(
    config: FinetuneConfig,
    transcribed: CorpusIndex,
    vocabularies: Mapping[str, Vocabulary],
    notes: list[str],
) -> CorpusIndex:
    """Return the transcribed utterances and those that `labels` has a text for.

    Args:
        config: Which corpora and tables.
        transcribed: Utterances with their own texts, which stay as they are.
        vocabularies: Of the transcribed text, by language.
        notes: Gets sentences about what is not used.

    Raises:
        DataError: A table does not belong to the corpus, or names utterances of other splits.
    """
    languages = sorted(vocabularies)
    labels = load_labels(
        config.labels, config.corpus, languages=languages, split=config.train_split
    )
    index = _load_split(config, languages)
    assert transcribed.texts is not None
    texts = labels.texts | dict(zip(transcribed.ids, transcribed.texts, strict=True))
    keep = np.array([name in texts for name in index.ids], dtype=bool)
    chosen = index.select(keep)
    own = set(transcribed.ids)
    num_own = len(labels.texts.keys() & own)
    num_absent = len(texts) - len(chosen)
    if num_own:
        notes.append(f"{num_own} of the `labels` are of transcribed utterances, whose text stays.")
    if num_absent:
        notes.append(
            f"{num_absent} of the `labels` are of utterances that `where` or the limits of "
            "`batch` leave out."
        )
    for language, vocabulary in vocabularies.items():
        number = chosen.languages.index(language)
        added = {
            name: texts[name]
            for name, code in zip(chosen.ids, chosen.language, strict=True)
            if code == number and name not in own
        }
        note_unknown_letters(added, vocabulary, notes)
    return replace(chosen, texts=[texts[name] for name in chosen.ids])


def note_unknown_letters(texts: dict[str, str], vocabulary: Vocabulary, notes: list[str]) -> None:
    """Note characters that the transcribed text, and so the language's alphabet here, lacks."""
    unknown: Counter[str] = Counter()
    first = ""
    for name, text in texts.items():
        found = vocabulary.unknown_characters(text)
        first = first or (name if found else "")
        unknown.update(found)
    if unknown:
        letters = ", ".join(f"{letter!r} ×{count}" for letter, count in unknown.most_common(10))
        notes.append(
            f"The labels have characters that the transcribed data lack: {letters} (first in "
            f"`{first}`); the recogniser cannot write them. Check that they belong to the "
            "language's alphabet."
        )


def _load_split(config: FinetuneConfig, languages: Sequence[str]) -> CorpusIndex:
    index = load_index(
        config.corpus,
        split=config.train_split,
        languages=languages,
        where=config.where,
        min_seconds=config.batch.min_seconds,
        max_seconds=config.batch.max_seconds,
    )
    if len(index) == 0:
        raise DataError(
            f"{', '.join(config.corpus)}: split `{config.train_split}` has no utterance of "
            f"`language={','.join(languages)}` (where {config.where!r})."
        )
    return index


def _find_relatives(config: FinetuneConfig, languages: Sequence[str]) -> set[str]:
    """Return training utterances that share a recording with another split, or may sound like an
    utterance there.
    """
    recordings: set[tuple[str, str]] = set()
    has_copies = False
    for corpus in config.corpus:
        splits = {part.split for part in list_partitions(corpus)} - {config.train_split}
        for row in read_utterances(corpus, splits=sorted(splits), columns=_RELATIONS):
            recordings.add((row.source, row.recording))
            has_copies |= Flag.NEAR_DUPLICATE in row.flags
    found = set()
    for corpus in config.corpus:
        for row in read_utterances(
            corpus, splits=[config.train_split], languages=languages, columns=_RELATIONS
        ):
            is_copy = has_copies and Flag.NEAR_DUPLICATE in row.flags
            if is_copy or (row.recording and (row.source, row.recording) in recordings):
                found.add(row.id)
    return found
