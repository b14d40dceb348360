"""The utterances of a pretraining run, as its configuration chooses and limits them, and what was
left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from speechvq.data.index import CorpusIndex, load_index
from speechvq.errors import DataError
from speechvq.training.pretrain_config import PretrainConfig
from speechvq.training.selection import limit_index


@dataclass(frozen=True)
class PretrainData:
    """The utterances of a pretraining run.

    Attributes:
        train: To learn from.
        dev: To validate on, at most `max_dev_seconds` per language; may be empty.
        old: Dev utterances of `old_corpus`, at most as many; may be empty.
        notes: What was left out, one sentence each.
    """

    train: CorpusIndex
    dev: CorpusIndex
    old: CorpusIndex
    notes: list[str]


def load_pretrain_data(config: PretrainConfig) -> PretrainData:
    """Read the indices of the training and dev utterances.

    Raises:
        DataError: There is nothing to learn from.
    """
    options: dict[str, Any] = {
        "languages": config.languages,
        "where": config.where,
        "min_seconds": config.batch.min_seconds,
    }
    train = load_index(config.corpus, split=config.train_split, **options)
    missing = sorted(set(config.languages) - set(train.languages))
    if len(train) and missing:
        raise DataError(
            f"{', '.join(config.corpus)}: split `{config.train_split}` has no utterance of "
            f"{', '.join(missing)}, which `languages` asks for, but of "
            f"{', '.join(train.languages)} (where {config.where!r})."
        )
    if len(train) == 0:
        raise DataError(
            f"{', '.join(config.corpus)}: no utterance of split `{config.train_split}` is left "
            f"(languages {config.languages or 'all'}, where {config.where!r}, at least "
            f"{config.batch.min_seconds} s; {train.num_too_short} are shorter)."
        )
    dev = load_index(config.corpus, split=config.dev_split, **options)
    known = [code in train.languages for code in dev.languages]
    if len(dev):
        keep = torch.tensor(known)[torch.from_numpy(dev.language).long()].numpy()
        dev = dev.select(keep)
    notes = []
    if train.num_too_short:
        notes.append(
            f"{train.num_too_short} utterances are shorter than `batch.min_seconds` "
            f"({config.batch.min_seconds}); they are left out."
        )
    if len(dev) == 0:
        notes.append(
            f"The corpus has no split `{config.dev_split}` of these languages: there is no "
            "validation."
        )
    old = load_index(
        config.old_corpus, split=config.dev_split, min_seconds=config.batch.min_seconds
    )
    if config.old_corpus and len(old) == 0:
        notes.append(
            f"`old_corpus` has no split `{config.dev_split}`: what is forgotten is not measured."
        )
    limit = config.max_dev_seconds
    return PretrainData(train, limit_index(dev, limit), limit_index(old, limit), notes)
