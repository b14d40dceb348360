"""Switches codes in one recording: what is written before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechvq.analysis.concept_files import ConceptKind, read_concepts
from speechvq.analysis.frame_times import compute_frame_times
from speechvq.data.audio import Waveform, load_audio
from speechvq.data.records import SAMPLE_RATE
from speechvq.decoding.alignment import Pair, Unit, align
from speechvq.errors import ConfigError, DataError
from speechvq.models.ctc_model import CTCModel
from speechvq.nn.bottleneck_sites import list_bottlenecks
from speechvq.nn.code_edits import Edit, EditMode
from speechvq.nn.places import Place, Site
from speechvq.steering.config import KINDS, SteerConfig
from speechvq.steering.material import UtterancePass, choose_head, load_steerable
from speechvq.steering.measures import Span, collapse, compute_divergence, compute_log_mass
from speechvq.steering.targets import check_rows, choose_concepts, find_letter_labels, order_rows

MAX_SECONDS = 60.0
"""A longer recording is refused: all of it is in the model at once."""
_SLACK_SECONDS = 0.05
"""An end may lie so far behind the audio's, as rounded times do."""


@dataclass(frozen=True, kw_only=True)
class SteeredRecording:
    """What an edit of one recording did.

    Attributes:
        model: The recogniser.
        head: Whose labels are written.
        waveform: (S,) at 16 kHz.
        edits: What was switched, in frames.
        before: (T, N) log-probabilities without the edits.
        after: (T, N) with them.
        texts: What is written before and after.
        labels: Of the concept that was forced; empty with edits by hand.
        effect: Change of log Σ P of these labels in the span, nats; NaN without labels.
        span_kl: KL(P before ‖ P after) in the edited frames, nats a frame.
        off_kl: The same in frames farther than `off_distance` from them; NaN without any.
    """

    model: CTCModel
    head: str
    waveform: Waveform
    edits: list[Edit]
    before: Tensor
    after: Tensor
    texts: tuple[str, str]
    labels: list[int]
    effect: float
    span_kl: float
    off_kl: float

    @property
    def spans(self) -> list[Span]:
        """Edited stretches, each once."""
        return sorted({edit.span for edit in self.edits})

    @property
    def pairs(self) -> list[Pair]:
        """Words before and after, aligned."""
        before, after = self.texts
        return align(before, after, Unit.WORD)

    def describe(self) -> str:
        """Both texts, changed words in brackets."""
        marked = [
            after if before == after else f"[{before or '–'} → {after or '–'}]"
            for before, after in self.pairs
        ]
        return f"before: {self.texts[0]}\nafter:  {' '.join(map(str, marked))}"


def steer_recording(config: SteerConfig, *, device: torch.device) -> SteeredRecording:
    """Switches codes in a recording.

    Args:
        config: Which codes, where.
        device: Where the model runs.

    Raises:
        ConfigError: An edit names what the model does not have.
        DataError: The audio cannot be read, or an edit ends behind it.
        ModelError: The model is no recogniser with bottlenecks, or lacks the head.
    """
    model = load_steerable(config.model, device)
    head = choose_head(model, config.head or next(iter(config.language), None))
    waveform = load_audio(Path(str(config.audio)), max_seconds=MAX_SECONDS).waveform
    if model.num_frames(len(waveform)) < 1:
        raise DataError(f"`audio` must be longer than a frame, but {config.audio} is not.")
    utterance = UtterancePass(model, waveform, head)
    labels: list[int] = []
    if config.edits:
        edits = _read_edits(config, model, utterance.num_frames, len(waveform))
    else:
        edits, labels = _find_edits(config, model, head, utterance.num_frames, len(waveform))
    after = utterance.run(1, edits)[0]
    before = utterance.log_probs
    vocabulary = model.vocabularies[head]
    divergence = compute_divergence(before, after[None])[0]  # (T,)
    is_edited = _mark(edits, len(divergence), 0)
    is_off = ~_mark(edits, len(divergence), config.off_distance)
    target = torch.tensor(labels, dtype=torch.long)
    return SteeredRecording(
        model=model,
        head=head,
        waveform=waveform,
        edits=edits,
        before=before,
        after=after,
        texts=(
            vocabulary.decode(collapse(before.argmax(-1))),
            vocabulary.decode(collapse(after.argmax(-1))),
        ),
        labels=labels,
        effect=compute_log_mass(after[is_edited], target)
        - compute_log_mass(before[is_edited], target)
        if labels
        else math.nan,
        span_kl=float(divergence[is_edited].mean()),
        off_kl=float(divergence[is_off].mean()) if is_off.any() else math.nan,
    )


def find_frames(model: CTCModel, num_frames: int, start: float, end: float) -> Span:
    """Frames whose centres lie between two times, at least the one nearest to their middle."""
    times = compute_frame_times(model.encoder.front_end, num_frames)
    inside = np.flatnonzero((times >= start) & (times < end))
    if len(inside):
        return int(inside[0]), int(inside[-1]) + 1
    nearest = int(np.abs(times - (start + end) / 2).argmin())
    return nearest, nearest + 1


def _read_edits(
    config: SteerConfig, model: CTCModel, num_frames: int, num_samples: int
) -> list[Edit]:
    edits, problems = [], []
    bottlenecks = list_bottlenecks(model)
    for number, one in enumerate(config.edits):
        _check_end(f"edits[{number}].end", one.end, num_samples)
        place = Place(one.layer, Site(one.site))
        edit = Edit(
            layer=one.layer,
            site=place.site,
            head=one.head,
            span=find_frames(model, num_frames, one.start, one.end),
            code=one.code,
            mode=EditMode(one.mode),
        )
        if place not in bottlenecks:
            problems.append(
                f"`edits[{number}]` needs a bottleneck at {place}, but the model's are: "
                f"{', '.join(map(str, bottlenecks))}."
            )
            continue
        try:
            edit.check(bottlenecks[place])
        except ValueError as error:
            problems.append(f"`edits[{number}]`: {error}")
        edits.append(edit)
    if problems:
        raise ConfigError(problems)
    return edits


def _find_edits(
    config: SteerConfig, model: CTCModel, head: str, num_frames: int, num_samples: int
) -> tuple[list[Edit], list[int]]:
    """Edits that force a concept, and the labels of the concept."""
    assert config.start is not None
    assert config.end is not None
    _check_end("end", config.end, num_samples)
    file = read_concepts(Path(str(config.concepts)), model=Path(config.model))
    chosen = choose_concepts(file, KINDS, config.concept)
    (kind, name), rows = next(iter(chosen.items()))
    check_rows(model, rows)
    span = find_frames(model, num_frames, config.start, config.end)
    mode = EditMode(config.mode)
    edits = [
        Edit(layer=row.layer, site=row.site, head=row.head, span=span, code=code, mode=mode)
        for row in order_rows(rows, config.min_recall)[: config.places or None]
        for code in (row.codes if mode is EditMode.ablate else (row.code,))
    ]
    found = find_letter_labels(model, [head], name) if kind is ConceptKind.letter else {}
    return edits, found[head].tolist() if head in found else []


def _check_end(key: str, end: float, num_samples: int) -> None:
    seconds = num_samples / SAMPLE_RATE
    if end > seconds + _SLACK_SECONDS:
        raise DataError(
            f"`{key}` must be within the audio, which is {seconds:.2f} s long, but is {end:g}."
        )


def _mark(edits: Sequence[Edit], num_frames: int, margin: int) -> Tensor:
    """(T,) bool, True within `margin` frames of an edit."""
    mask = torch.zeros(num_frames, dtype=torch.bool)
    for edit in edits:
        mask[max(0, edit.span[0] - margin) : edit.span[1] + margin] = True
    return mask
