"""Runs a model over a corpus and streams the code table and samples of the layers to the disk.

Audio is read a few batches at a time; memory does not grow with the corpus. `analyze` calls it
before any statistic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechvq.analysis.attention_pass import AttentionPass
from speechvq.analysis.code_table import (
    CODES_FILE,
    MODEL,
    CodeTable,
    CodeTableWriter,
    UtteranceFrames,
    open_code_table,
)
from speechvq.analysis.config import AnalyzeConfig
from speechvq.analysis.forward import compute_frames, release_free_memory
from speechvq.analysis.frame_times import compute_frame_times
from speechvq.analysis.mfcc_codes import (
    ControlQuantizer,
    MfccExtractor,
    RandomCodes,
    TooFewFramesError,
    fit_kmeans_codes,
)
from speechvq.analysis.phone_intervals import PhoneSource, label_frames
from speechvq.analysis.pitch import can_measure_pitch, measure_pitch
from speechvq.analysis.representations import RepresentationWriter, seed_by_name
from speechvq.data.audio import Waveform, decode_flac
from speechvq.data.corpus import list_partitions, read_utterances
from speechvq.data.length_batches import batch_by_length
from speechvq.data.records import SAMPLE_RATE, Utterance
from speechvq.errors import DataError
from speechvq.models.ctc_model import CTCModel
from speechvq.models.pretrain_model import PretrainModel

_KMEANS_FRAMES_AN_ENTRY = 100
_KMEANS_UTTERANCES = 50
_KMEANS_DISTANCES = 32_000_000
"""So many distances at a time are computed while centroids are fitted, to bound memory."""
_PITCH_UTTERANCES = 500
"""About so many of each language have their pitch measured, to match voices by."""
_COLUMNS = (
    *("audio", "num_samples", "text", "source", "speaker", "recording", "path"),
    *("start_seconds", "end_seconds"),
)


class Progress(Protocol):
    """Shows how far a run is."""

    def advance(self, count: int, seconds: float) -> None:
        """Notes that so many utterances with so many seconds of audio are done."""
        ...

    def close(self) -> None:
        """Shows the last state."""
        ...


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """What a run over a corpus left.

    Attributes:
        table: The code table.
        layers: Layers of which samples were kept.
        num_utterances: Utterances in the table, by language.
        seconds: Audio in it, by language.
        num_frames: Frames in it, by language.
        num_labelled: Of these, frames whose phone is known.
        num_too_short: Utterances without one frame.
        problems: Sentences on controls that could not be made.
        pitch: Of utterances with codes and phones, Hz.
        attention: Where heads looked; None where nothing was to be watched.
        elapsed_seconds: Time for everything: reading, model, controls, alignment, writing.
    """

    table: CodeTable
    layers: list[int]
    num_utterances: dict[str, int]
    seconds: dict[str, float]
    num_frames: dict[str, int]
    num_labelled: dict[str, int]
    num_too_short: int
    problems: list[str]
    pitch: dict[str, float]
    attention: AttentionPass | None
    elapsed_seconds: float

    @property
    def hours_per_minute(self) -> float:
        """Hours of audio a minute of work."""
        return sum(self.seconds.values()) / 60 / max(self.elapsed_seconds, 1e-9)


def choose_layers(model: PretrainModel | CTCModel, layers: Sequence[int]) -> list[int]:
    """Returns which layers are kept, all where none is named.

    Raises:
        DataError: The model has no such layer.
    """
    last = len(model.encoder.transformer.layers)
    wrong = [layer for layer in layers if not 0 <= layer <= last]
    if wrong:
        raise DataError(
            f"`layers` must be 0 (the input of the first layer) to {last}, but has {wrong[0]}."
        )
    return sorted(layers) or list(range(last + 1))


def extract(
    config: AnalyzeConfig,
    model: PretrainModel | CTCModel,
    *,
    phones: PhoneSource | None,
    create_progress: Callable[[float], Progress],
) -> Extraction:
    """Writes `codes.parquet` and `representations/`.

    Args:
        config: What is read and what is kept.
        model: In evaluation mode, on its device.
        phones: Where phones come from, if from anywhere.
        create_progress: Called with the seconds of audio to go through.

    Returns:
        What there is now.

    Raises:
        DataError: Nothing is selected, or the corpus or an alignment cannot be read.
    """
    begin = time.perf_counter()
    languages = list_languages(config)
    total, counts = 0.0, dict.fromkeys(languages, 0)
    for row in select(config, languages, ["num_samples"]):
        total += row.num_seconds
        counts[row.language] += 1
    if not total:
        raise DataError(
            f"{config.corpus} has no utterance for `split={config.split}`, "
            f"`where={config.where!r}` and languages {', '.join(languages) or 'none'}."
        )
    layers = choose_layers(model, config.layers) if config.num_sampled_frames else []
    num_frames = total * SAMPLE_RATE / model.encoder.front_end.frame_samples
    share = min(1.0, config.num_sampled_frames / max(1.0, num_frames))
    quantizer = model.quantizer if isinstance(model, PretrainModel) else None
    groups = {MODEL: quantizer.num_codebooks} if quantizer is not None else {}
    controls, problems = fit_controls(config, model, languages, total, sum(counts.values()))
    groups |= {name: groups.get(MODEL, 1) for name in controls}
    progress = create_progress(total)
    attention = None
    present = {language: count for language, count in counts.items() if count}
    if config.num_attention_utterances:
        wanted = config.num_attention_utterances
        attention = AttentionPass(model, present, wanted, config.seed)
    run = _Run(config, model, controls, layers, phones, attention, present)
    with ExitStack() as stack:
        table = stack.enter_context(CodeTableWriter(Path(config.output) / CODES_FILE, groups))
        samples = RepresentationWriter(Path(config.output), layers, share=share, seed=config.seed)
        kept = stack.enter_context(samples) if layers else None
        for language in languages:
            rows = select(config, [language], _COLUMNS)
            for batch in batch_by_length(rows, config.batch_seconds):
                run.add(batch, table, kept)
                release_free_memory()
                progress.advance(len(batch), sum(row.num_seconds for row in batch))
    progress.close()
    return Extraction(
        table=open_code_table(Path(config.output) / CODES_FILE),
        layers=layers,
        num_utterances=run.num_utterances,
        seconds=run.seconds,
        num_frames=run.num_frames,
        num_labelled=run.num_labelled,
        num_too_short=run.num_too_short,
        problems=problems,
        pitch=run.pitch,
        attention=attention,
        elapsed_seconds=time.perf_counter() - begin,
    )


def list_languages(config: AnalyzeConfig) -> list[str]:
    """Returns the languages that are read.

    Raises:
        DataError: The corpus lacks a split or a language that is asked for.
    """
    partitions = list_partitions(config.corpus)
    splits = sorted({part.split for part in partitions})
    for split in config.split:
        if split not in splits:
            raise DataError(
                f"`split` must be among those that {config.corpus} has ({', '.join(splits)}), but "
                f"has {split!r}."
            )
    present = sorted(
        {p.language for p in partitions if not config.split or p.split in config.split}
    )
    for language in config.language:
        if language not in present:
            raise DataError(
                f"`language` must be among those that {config.corpus} has there "
                f"({', '.join(present)}), but has {language!r}."
            )
    return config.language or present


def select(
    config: AnalyzeConfig, languages: Sequence[str], columns: Sequence[str]
) -> Iterator[Utterance]:
    """Yields the utterances to analyse, at most `limit` of each language."""
    counts = dict.fromkeys(languages, 0)
    for row in read_utterances(
        config.corpus,
        splits=config.split or None,
        languages=languages,
        where=config.where,
        columns=columns,
    ):
        if not config.limit or counts[row.language] < config.limit:
            counts[row.language] += 1
            yield row


def fit_controls(
    config: AnalyzeConfig,
    model: PretrainModel | CTCModel,
    languages: Sequence[str],
    total_seconds: float,
    num_utterances: int,
) -> tuple[dict[str, ControlQuantizer], list[str]]:
    """Makes the controls, as large as the model's codebooks.

    Args:
        config: Which ones.
        model: Whose codebooks they are compared with.
        languages: What k-means is fitted on: utterances spread over all of them.
        total_seconds: Audio of the selection.
        num_utterances: Utterances of the selection.

    Returns:
        The controls by name, and sentences on those that could not be made.
    """
    problems: list[str] = []
    num_codebooks, size = 1, config.control_size
    if isinstance(model, PretrainModel):
        num_codebooks, size = model.quantizer.num_codebooks, model.quantizer.codebook_size
    controls: dict[str, ControlQuantizer] = {}
    if "random" in config.controls:
        controls["random"] = RandomCodes(
            num_codebooks=num_codebooks, codebook_size=size, seed=config.seed
        )
    if "kmeans" in config.controls:
        front_end = model.encoder.front_end
        num_frames = total_seconds * SAMPLE_RATE / front_end.frame_samples
        wanted = min(_KMEANS_FRAMES_AN_ENTRY * size, max(2 * size, _KMEANS_DISTANCES // size))
        share = min(1.0, wanted / num_frames)
        chance = min(1.0, max(4 * share, _KMEANS_UTTERANCES / num_utterances))
        mfcc, rng = MfccExtractor(), np.random.default_rng(config.seed)

        def draw() -> Iterator[Tensor]:
            for row in select(config, languages, ["audio", "num_samples"]):
                count = front_end.num_frames(row.num_samples)
                if rng.random() < chance and count:
                    waveform = decode_flac(row.audio)
                    features = mfcc.compute(waveform, compute_frame_times(front_end, count))
                    kept = rng.random(count) < share / chance
                    yield features[torch.from_numpy(kept)]

        try:
            controls["kmeans"] = fit_kmeans_codes(
                draw(), num_codebooks=num_codebooks, codebook_size=size, seed=config.seed
            )
        except TooFewFramesError as error:
            problems.append(f"There is no control of k-means: {error}")
    return controls, problems


class _Run:
    """One pass over the corpus, with its counts."""

    def __init__(
        self,
        config: AnalyzeConfig,
        model: PretrainModel | CTCModel,
        controls: dict[str, ControlQuantizer],
        layers: list[int],
        phones: PhoneSource | None,
        attention: AttentionPass | None,
        counts: dict[str, int],
    ) -> None:
        self._counts = counts
        self._config, self._model, self._layers = config, model, layers
        self._controls, self._phones, self._mfcc = controls, phones, MfccExtractor()
        self._attention = attention
        self.num_utterances: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.num_frames: dict[str, int] = {}
        self.num_labelled: dict[str, int] = {}
        self.num_too_short = 0
        self.pitch: dict[str, float] = {}

    def add(
        self,
        batch: Sequence[Utterance],
        table: CodeTableWriter,
        samples: RepresentationWriter | None,
    ) -> None:
        """Computes a batch of one language and writes it."""
        long = [row for row in batch if self._model.num_frames(row.num_samples) >= 1]
        self.num_too_short += len(batch) - len(long)
        if not long:
            return
        waveforms = [decode_flac(row.audio) for row in long]
        lengths, codes, layers = compute_frames(
            self._model, waveforms, self._layers, language=long[0].language
        )
        first_row = table.num_rows
        rows: list[UtteranceFrames] = []
        for index, (row, waveform, length) in enumerate(zip(long, waveforms, lengths, strict=True)):
            own = None if codes is None else codes[index, :length].numpy()
            rows.append(self._create_rows(row, waveform, own, length))
            if samples is not None:
                kept = [layer[index, :length].numpy() for layer in layers]
                samples.add(row.id, first_row, kept)
            first_row += length
            labels = rows[-1].phones or ()
            labelled = sum(phone is not None for phone in labels)
            for count, number in (
                (self.num_utterances, 1),
                (self.num_frames, length),
                (self.num_labelled, labelled),
            ):
                count[row.language] = count.get(row.language, 0) + number
            self.seconds[row.language] = self.seconds.get(row.language, 0.0) + row.num_seconds
        table.add(rows)

    def _wants_pitch(self, row: Utterance) -> bool:
        """Whether voices are matched on it: one of a draw, where there are languages to match."""
        if len(self._counts) < 2 or not can_measure_pitch():
            return False
        share = _PITCH_UTTERANCES / self._counts[row.language]
        return bool(seed_by_name(f"pitch\0{row.id}", self._config.seed).random() < share)

    def _create_rows(
        self,
        row: Utterance,
        waveform: Waveform,
        own: NDArray[np.int64] | None,
        num_frames: int,
    ) -> UtteranceFrames:
        times = compute_frame_times(self._model.encoder.front_end, num_frames)
        codes: dict[str, NDArray[np.int64]] = {} if own is None else {MODEL: own}
        if self._controls:
            features = self._mfcc.compute(waveform, times)
            codes |= {name: one.encode(features) for name, one in self._controls.items()}
        found = self._phones.find(row, waveform) if self._phones is not None else None
        if own is not None and found is not None and self._wants_pitch(row):
            self.pitch[row.id] = measure_pitch(waveform)
        if self._attention is not None:
            self._attention.add(row, waveform, found)
        phones = None
        if found is not None:
            gaps = self._config.gaps_are_silence
            phones = label_frames(found, times, gaps_are_silence=gaps)
        return UtteranceFrames(
            utterance=row.id,
            language=row.language,
            speaker=f"{row.source}/{row.speaker}" if row.speaker else None,
            source=row.source,
            recording=row.recording,
            times=times,
            codes=codes,
            phones=phones,
        )
