"""Reads the utterances that are steered, and what dev says about them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from speechvq.analysis.analyze import PhoneFinder, create_phone_finder
from speechvq.analysis.config import AnalyzeConfig
from speechvq.analysis.frame_times import compute_frame_times
from speechvq.analysis.phone_intervals import label_frames
from speechvq.data.audio import decode_flac
from speechvq.data.corpus import list_partitions, read_utterances
from speechvq.data.records import Utterance
from speechvq.errors import DataError, MissingDependencyError
from speechvq.models.ctc_model import CTCModel
from speechvq.nn.bottleneck import BottleneckOutput
from speechvq.nn.bottleneck_sites import capture_codes
from speechvq.nn.places import Place
from speechvq.steering.config import SteerConfig
from speechvq.steering.dev_statistics import DevStatistics
from speechvq.steering.material import (
    AlignedUtterance,
    UtterancePass,
    align_utterance,
    choose_head,
)

_COLUMNS = (
    *("num_samples", "text", "source", "speaker", "recording", "path"),
    *("start_seconds", "end_seconds"),
)


@dataclass
class Selection:
    """What a corpus has for the experiment.

    Attributes:
        heads: By language, the head that hears it.
        aligned: Utterances of the split in which spans can be found, in the corpus's order.
        statistics: Of dev.
        dev_texts: Transcripts of dev, by language.
        num_failed: Utterances whose transcript does not fit their frames.
        phones_missing: Why phones are not known; "" where they are, or are not asked for.
    """

    heads: dict[str, str]
    statistics: DevStatistics
    aligned: list[AlignedUtterance] = field(default_factory=list)
    dev_texts: dict[str, list[str]] = field(default_factory=dict)
    num_failed: int = 0
    phones_missing: str = ""


def choose_heads(config: SteerConfig, model: CTCModel) -> dict[str, str]:
    """The head of each language that is read.

    Raises:
        DataError: The corpus lacks a split or a language.
        ModelError: The model lacks a head.
    """
    partitions = list_partitions(str(config.corpus))
    for key, split in (("split", config.split), ("dev_split", config.dev_split)):
        known = sorted({one.split for one in partitions})
        if split not in known:
            raise DataError(
                f"`{key}` must be one that {config.corpus} has ({', '.join(known)}), but is "
                f"{split!r}."
            )
    present = sorted({one.language for one in partitions if one.split == config.split})
    for language in config.language:
        if language not in present:
            raise DataError(
                f"`language` must be among those that {config.corpus} has in split "
                f"{config.split!r} ({', '.join(present)}), but has {language!r}."
            )
    if config.head is not None:
        head = choose_head(model, config.head, "head")
        return dict.fromkeys(config.language or present, head)
    if config.language:
        return {language: choose_head(model, language) for language in config.language}
    found = {language: language for language in present if language in model.heads}
    if not found:
        raise DataError(
            f"The model has heads for {', '.join(model.heads)}, but split {config.split!r} of "
            f"{config.corpus} has only {', '.join(present)}. If one head hears all of them, give "
            "`head=NAME`."
        )
    return found


def read_rows(
    config: SteerConfig, split: str, languages: Sequence[str], *, has_audio: bool = True
) -> Iterator[Utterance]:
    """Transcribed utterances of a split, at most `limit` of each language."""
    counts = dict.fromkeys(languages, 0)
    max_seconds = config.max_seconds if split == config.split else math.inf
    for row in read_utterances(
        str(config.corpus),
        splits=[split],
        languages=languages,
        where=config.where,
        columns=[*_COLUMNS, *(["audio"] if has_audio else [])],
    ):
        is_wanted = bool(row.text) and row.num_seconds <= max_seconds
        if is_wanted and (not config.limit or counts[row.language] < config.limit):
            counts[row.language] += 1
            yield row


def sum_seconds(config: SteerConfig, split: str, languages: Sequence[str]) -> float:
    """Seconds of audio of a split.

    Raises:
        DataError: There is none.
    """
    total = sum(row.num_seconds for row in read_rows(config, split, languages, has_audio=False))
    if not total:
        raise DataError(
            f"{config.corpus} has no transcribed utterance in split {split!r} for "
            f"`where={config.where!r}`, languages {', '.join(languages)} and "
            f"`max_seconds={config.max_seconds:g}`."
        )
    return total


def create_phones(config: SteerConfig, device: torch.device) -> PhoneFinder:
    """Where phones come from: files, else the recogniser's own letters by rules."""
    return create_phone_finder(
        AnalyzeConfig(
            alignments=config.alignments,
            tier=config.tier,
            phone_map=config.phone_map,
            recognizer=None if config.alignments else config.model,
        ),
        device,
    )


class CorpusReader:
    """Goes through dev and the split once each.

    Args:
        config: The run's.
        model: In evaluation mode.
        heads: By language.
        phones: Where phones of dev come from; None where no phone is forced.
    """

    def __init__(
        self,
        config: SteerConfig,
        model: CTCModel,
        heads: dict[str, str],
        phones: PhoneFinder | None,
    ) -> None:
        self._config, self._model, self._phones = config, model, phones
        self.selection = Selection(heads=heads, statistics=DevStatistics(model))

    def read_dev(self) -> Iterator[Utterance]:
        """Adds each utterance of dev to the statistics, then yields it."""
        found: dict[Place, BottleneckOutput] = {}
        selection = self.selection
        for row in read_rows(self._config, self._config.dev_split, list(selection.heads)):
            with capture_codes(self._model, found.__setitem__):
                aligned = self._align(row)
            selection.dev_texts.setdefault(row.language, []).append(row.text or "")
            if aligned is not None:
                phones = self._find_phones(row, len(aligned.path))
                selection.statistics.add(found, aligned, aligned.label_texts, phones)
            yield row

    def read_split(self) -> Iterator[Utterance]:
        """Aligns each utterance of the split, then yields it."""
        for row in read_rows(self._config, self._config.split, list(self.selection.heads)):
            aligned = self._align(row)
            if aligned is not None:
                self.selection.aligned.append(aligned)
            yield row

    def _align(self, row: Utterance) -> AlignedUtterance | None:
        head = self.selection.heads[row.language]
        waveform = decode_flac(row.audio)
        aligned = None
        if self._model.num_frames(len(waveform)) >= 1:
            log_probs = UtterancePass(self._model, waveform, head).log_probs
            aligned = align_utterance(self._model, row, log_probs, head)
        self.selection.num_failed += aligned is None
        return aligned

    def _find_phones(self, row: Utterance, num_frames: int) -> list[str | None] | None:
        if self._phones is None:
            return None
        try:
            found = self._phones.find(row, decode_flac(row.audio))
        except MissingDependencyError as error:
            self.selection.phones_missing = str(error)
            self._phones = None
            return None
        if found is None:
            return None
        times = compute_frame_times(self._model.encoder.front_end, num_frames)
        return label_frames(found, times)
