"""Batches: tensors that a training unit takes, and the loaders that make them.

A loader maps a `PlannedBatch` to tensors as a pure function: crop, mask and distractors of an
utterance are drawn from (seed, epoch, pass, utterance id), so workers and prefetching change
nothing (DESIGN.md D5).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from fairseq2.device import SupportsDeviceTransfer
from torch import Tensor
from typing_extensions import override

from speechvq.data.index import CorpusIndex
from speechvq.data.order import PlannedBatch
from speechvq.data.randomness import create_generator
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.rows import RowReader
from speechvq.models.vocabulary import Vocabulary
from speechvq.nn.masking import compute_span_mask, sample_distractors


@dataclass
class Batch(SupportsDeviceTransfer):
    """What every batch holds.

    Attributes:
        waveform: Samples, float32 (B, S), zero where padded.
        lengths: Valid samples, int64 (B,).
        languages: Position in the index's languages, int64 (B,).
    """

    waveform: Tensor
    lengths: Tensor
    languages: Tensor

    @override
    def to(self, device: torch.device, *, non_blocking: bool = False) -> None:
        """Move tensors to a device, in place; lengths stay on the CPU, where models want them."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor) and "length" not in item.name:
                setattr(self, item.name, value.to(device, non_blocking=non_blocking))


@dataclass
class PretrainBatch(Batch):
    """A batch for contrastive pretraining.

    Attributes:
        masked_frames: Positions of the masked frames, int64 (B, M), padded with 0.
        num_masked: Masked frames of each utterance, int64 (B,).
        distractors: Indices into the utterance's own masked frames, int64 (B, M, K).
    """

    masked_frames: Tensor
    num_masked: Tensor
    distractors: Tensor


@dataclass
class CTCBatch(Batch):
    """A batch for CTC finetuning, of one language.

    Attributes:
        language: Its code.
        targets: Label ids, int64 (B, U), padded with 0.
        target_lengths: Labels of each utterance, int64 (B,).
        texts: Normalised transcripts.
        ids: Utterance ids.
        mask: Frames to mask, bool (B, T), or None.
        channel_mask: Channels to mask, bool (B, D), or None.
    """

    language: str
    targets: Tensor
    target_lengths: Tensor
    texts: list[str]
    ids: list[str]
    mask: Tensor | None
    channel_mask: Tensor | None


def collate_waveforms(waveforms: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Pad waveforms with zeros to the longest.

    Args:
        waveforms: B arrays of samples.

    Returns:
        Samples (B, S) and lengths (B,).
    """
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    batch = torch.zeros(len(waveforms), int(lengths.max()))
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, lengths


@dataclass(frozen=True)
class PretrainLoader:
    """Makes pretraining batches.

    Attributes:
        index: The utterances.
        rows: Reads their audio.
        num_frames: Frames that the model makes of so many samples.
        seed: Seed of the run.
        max_samples: Longer utterances are cropped to this.
        mask_prob: Share of frames that start a span × span length.
        mask_length: Frames in a span.
        mask_min_spans: Fewest spans of an utterance.
        num_distractors: K.
    """

    index: CorpusIndex
    rows: RowReader
    num_frames: Callable[[int], int]
    seed: int
    max_samples: int
    mask_prob: float
    mask_length: int
    mask_min_spans: int
    num_distractors: int

    def __call__(self, planned: PlannedBatch) -> PretrainBatch:
        """Load one batch."""
        waveforms, masked, distractors = [], [], []
        for position, number in zip(planned.utterances, planned.passes, strict=True):
            key = (planned.epoch, int(number), self.index.ids[position])
            waveforms.append(self._crop(self.rows.read_waveform(int(position)), key))
            frames, indices = self._draw_targets(len(waveforms[-1]), key)
            masked.append(frames)
            distractors.append(indices)
        waveform, lengths = collate_waveforms(waveforms)
        num_masked = torch.tensor([len(frames) for frames in masked])
        longest = int(num_masked.max())
        masked_frames = torch.zeros(len(masked), longest, dtype=torch.int64)
        padded = torch.zeros(len(masked), longest, self.num_distractors, dtype=torch.int64)
        for row, (frames, indices) in enumerate(zip(masked, distractors, strict=True)):
            masked_frames[row, : len(frames)] = torch.from_numpy(frames)
            padded[row, : len(frames)] = torch.from_numpy(indices)
        return PretrainBatch(
            waveform=waveform,
            lengths=lengths,
            languages=torch.from_numpy(self.index.language[planned.utterances].astype(np.int64)),
            masked_frames=masked_frames,
            num_masked=num_masked,
            distractors=padded,
        )

    def _crop(self, waveform: np.ndarray, key: tuple[int, int, str]) -> np.ndarray:
        excess = len(waveform) - self.max_samples
        if excess <= 0:
            return waveform
        start = int(create_generator(self.seed, "crop", *key).integers(excess + 1))
        return waveform[start : start + self.max_samples]

    def _draw_targets(
        self, num_samples: int, key: tuple[int, int, str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw masked frames (M,) and their distractors (M, K) for one utterance."""
        rng = create_generator(self.seed, "mask", *key)
        mask = compute_span_mask(
            self.num_frames(num_samples),
            prob=self.mask_prob,
            length=self.mask_length,
            min_spans=self.mask_min_spans,
            rng=rng,
        )
        frames = np.flatnonzero(mask)
        return frames, sample_distractors(len(frames), self.num_distractors, rng)


@dataclass(frozen=True)
class CTCAugmentation:
    """What finetuning does to its input.

    Attributes:
        mask_prob: Share of frames that start a span × span length; 0 for none.
        mask_length: Frames in a span.
        channel_mask_prob: The same over channels.
        channel_mask_length: Channels in a span.
        num_channels: Channels of the encoder's input (D).
        speeds: Playing speeds to draw from.
    """

    mask_prob: float
    mask_length: int
    channel_mask_prob: float
    channel_mask_length: int
    num_channels: int
    speeds: tuple[float, ...]


@dataclass(frozen=True)
class CTCLoader:
    """Makes finetuning batches.

    Attributes:
        index: The utterances.
        texts: Their transcripts.
        rows: Reads their audio.
        vocabularies: By language.
        num_frames: Frames that the model makes of so many samples.
        seed: Seed of the run.
        augmentation: Masks and speeds; None for validation.
    """

    index: CorpusIndex
    texts: list[str]
    rows: RowReader
    vocabularies: Mapping[str, Vocabulary]
    num_frames: Callable[[int], int]
    seed: int
    augmentation: CTCAugmentation | None

    def __call__(self, planned: PlannedBatch) -> CTCBatch:
        """Load one batch, planned to be of one language."""
        (number_of_language,) = set(self.index.language[planned.utterances].tolist())
        language = self.index.languages[number_of_language]
        vocabulary = self.vocabularies[language]
        waveforms: list[np.ndarray] = []
        labels: list[list[int]] = []
        texts: list[str] = []
        ids: list[str] = []
        for position, number in zip(planned.utterances, planned.passes, strict=True):
            name = self.index.ids[position]
            text = self.texts[position]
            label = vocabulary.encode(text)
            samples = self.rows.read_waveform(int(position))
            waveforms.append(self._change_speed(samples, label, planned.epoch, number, name))
            labels.append(label)
            texts.append(text)
            ids.append(name)
        waveform, lengths = collate_waveforms(waveforms)
        target_lengths = torch.tensor([len(targets) for targets in labels])
        targets = torch.zeros(len(labels), int(target_lengths.max()), dtype=torch.int64)
        for row, label in zip(targets, labels, strict=True):
            row[: len(label)] = torch.tensor(label, dtype=torch.int64)
        mask, channel_mask = self._draw_masks(lengths, planned, ids)
        return CTCBatch(
            waveform=waveform,
            lengths=lengths,
            languages=torch.from_numpy(self.index.language[planned.utterances].astype(np.int64)),
            language=language,
            targets=targets,
            target_lengths=target_lengths,
            texts=texts,
            ids=ids,
            mask=mask,
            channel_mask=channel_mask,
        )

    def _change_speed(
        self, waveform: np.ndarray, targets: list[int], epoch: int, number: int, name: str
    ) -> np.ndarray:
        """Play faster or slower (pitch moves along), unless the labels would no longer fit."""
        if self.augmentation is None or self.augmentation.speeds == (1.0,):
            return waveform
        rng = create_generator(self.seed, "speed", epoch, int(number), name)
        speed = self.augmentation.speeds[int(rng.integers(len(self.augmentation.speeds)))]
        fits = self.num_frames(int(len(waveform) / speed)) > count_ctc_frames(targets)
        if speed == 1.0 or not fits:
            return waveform
        import soxr

        return np.asarray(
            soxr.resample(waveform, SAMPLE_RATE * speed, SAMPLE_RATE, quality="MQ"),
            dtype=np.float32,
        )

    def _draw_masks(
        self, lengths: Tensor, planned: PlannedBatch, ids: list[str]
    ) -> tuple[Tensor | None, Tensor | None]:
        if self.augmentation is None:
            return None, None
        options = self.augmentation
        frames = [self.num_frames(int(length)) for length in lengths]
        mask = np.zeros((len(ids), max(frames)), dtype=bool)
        channels = np.zeros((len(ids), options.num_channels), dtype=bool)
        for row, (name, number) in enumerate(zip(ids, planned.passes, strict=True)):
            rng = create_generator(self.seed, "mask", planned.epoch, int(number), name)
            if options.mask_prob:
                mask[row, : frames[row]] = compute_span_mask(
                    frames[row],
                    prob=options.mask_prob,
                    length=options.mask_length,
                    min_spans=0,
                    rng=rng,
                )
            if options.channel_mask_prob:
                channels[row] = compute_span_mask(
                    options.num_channels,
                    prob=options.channel_mask_prob,
                    length=min(options.channel_mask_length, options.num_channels),
                    min_spans=0,
                    rng=rng,
                )
        return (
            torch.from_numpy(mask) if options.mask_prob else None,
            torch.from_numpy(channels) if options.channel_mask_prob else None,
        )


def count_ctc_frames(targets: list[int]) -> int:
    """Return the fewest frames to which CTC can align the labels.

    It needs one for each label, and a blank between equal neighbours.
    """
    repeats = sum(left == right for left, right in itertools.pairwise(targets))
    return len(targets) + repeats
