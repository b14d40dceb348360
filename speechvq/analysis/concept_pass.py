"""One pass over dev and test: codes of all places, activations of neurons, labels of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from speechvq.analysis.analyze import PhoneFinder
from speechvq.analysis.concept_config import ConceptsConfig
from speechvq.analysis.concept_files import ConceptKind
from speechvq.analysis.concept_scores import LEFT_OUT
from speechvq.analysis.concept_split import (
    DEV,
    TEST,
    Division,
    draw_frames,
    name_speaker,
    select,
)
from speechvq.analysis.concept_spool import Spool
from speechvq.analysis.extraction import Progress
from speechvq.analysis.forward import release_free_memory
from speechvq.analysis.frame_times import compute_frame_times
from speechvq.analysis.letter_frames import align_letters
from speechvq.analysis.phone_intervals import label_frames
from speechvq.analysis.pitch import can_measure_pitch, measure_pitch
from speechvq.analysis.voicing import measure_voicing
from speechvq.data.audio import Waveform, decode_flac
from speechvq.data.length_batches import batch_by_length
from speechvq.data.records import Utterance
from speechvq.models.ctc_model import CTCModel
from speechvq.models.pretrain_model import PretrainModel
from speechvq.nn.bottleneck import BottleneckOutput
from speechvq.nn.bottleneck_sites import (
    bypass_bottlenecks,
    capture_codes,
    list_bottlenecks,
    list_layers,
)
from speechvq.nn.places import Place

Model = PretrainModel | CTCModel
VOICING = ("voiced", "unvoiced")
SILENCE = ("silence", "speech")
_COLUMNS = (
    *("audio", "num_samples", "text", "source", "speaker", "recording", "path"),
    *("start_seconds", "end_seconds"),
)


@dataclass
class SplitRecord:
    """What is known of the utterances of dev or test.

    Attributes:
        utterances: Their ids.
        languages: Their languages.
        speakers: `<source>/<speaker>`, "" where unknown.
        pitch: Hz; NaN where unknown.
        lengths: Frames of each.
        labels: By kind, one array an utterance.
        neuron_rows: Frames of the split whose neurons were kept, one array an utterance.
    """

    utterances: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    pitch: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    labels: dict[ConceptKind, list[NDArray[np.int32]]] = field(default_factory=dict)
    neuron_rows: list[NDArray[np.int64]] = field(default_factory=list)

    @property
    def num_frames(self) -> int:
        """Frames of all utterances."""
        return sum(self.lengths)

    def join_labels(self, kind: ConceptKind) -> NDArray[np.int64]:
        """(N,) labels of all frames."""
        parts = self.labels.get(kind) or [np.zeros(0, dtype=np.int32)]
        return np.concatenate(parts).astype(np.int64)


@dataclass
class ConceptRecord:
    """What a pass left.

    Attributes:
        splits: "dev" and "test".
        names: Labels by kind, by number.
        spool: Codes as `codes/<part>/<place>`, neurons as `neurons/…`, means as `means/…`.
        num_too_short: Utterances without one frame.
    """

    spool: Spool
    splits: dict[str, SplitRecord] = field(
        default_factory=lambda: {DEV: SplitRecord(), TEST: SplitRecord()}
    )
    names: dict[ConceptKind, dict[str, int]] = field(default_factory=dict)
    num_too_short: int = 0

    def get_codes(self, part: str, place: Place, *, of: str = "codes") -> NDArray[Any]:
        """(N, G, k) codes of a place; `of="second"` for those of the second model."""
        return self.spool.open(name_array(of, part, place.layer, str(place.site)))


def name_array(what: str, part: str, layer: int, site: str = "") -> str:
    """Name of an array in the spool."""
    return f"{what}-{part}-{layer}-{site}"


class ConceptPass:
    """Runs models over utterances.

    Args:
        config: What is kept.
        model: Has the bottlenecks.
        dense: Whose neurons are kept; None: the model's own, bottlenecks bypassed.
        second: Another model with the same bottlenecks, or None.
        phones: Where phones come from.
        aligner: The recogniser that places letters; None: the model, if it is one.
        division: The utterances.
        spool: Where arrays go.
    """

    def __init__(
        self,
        config: ConceptsConfig,
        model: Model,
        *,
        dense: Model | None,
        second: Model | None,
        phones: PhoneFinder,
        aligner: CTCModel | None,
        division: Division,
        spool: Spool,
    ) -> None:
        self._config, self._model = config, model
        self._dense, self._second = dense, second
        self._phones, self._aligner, self._division = phones, aligner, division
        self._code_types = {
            place: np.min_scalar_type(-one.codebook_size)
            for place, one in list_bottlenecks(model).items()
        }
        self._layers = sorted({place.layer for place in list_bottlenecks(model)})
        self._frames_wanted = config.num_neuron_frames
        self._can_measure_pitch = can_measure_pitch()
        self.record = ConceptRecord(spool=spool)
        self.record.names[ConceptKind.voicing] = {name: i for i, name in enumerate(VOICING)}
        self.record.names[ConceptKind.silence] = {name: i for i, name in enumerate(SILENCE)}

    def run(self, progress: Progress) -> ConceptRecord:
        """Goes through all utterances, language by language."""
        frame_seconds = self._model.encoder.front_end.frame_samples / 16_000
        share_of_test = self._division.count(TEST) / max(1, len(self._division.parts))
        totals = {
            TEST: share_of_test * self._division.seconds / frame_seconds,
            DEV: (1 - share_of_test) * self._division.seconds / frame_seconds,
        }
        shares = {part: self._frames_wanted / max(1.0, total) for part, total in totals.items()}
        for language in self._division.languages:
            config = replace(self._config, language=[language])
            rows = (
                row
                for row in select(config, self._division.splits, _COLUMNS)
                if row.id in self._division.parts
            )
            for batch in batch_by_length(rows, self._config.batch_seconds):
                self._add_batch(batch, shares)
                release_free_memory()
                progress.advance(len(batch), sum(row.num_seconds for row in batch))
        progress.close()
        return self.record

    def _add_batch(self, batch: Sequence[Utterance], shares: Mapping[str, float]) -> None:
        long = [row for row in batch if self._model.num_frames(row.num_samples) >= 1]
        self.record.num_too_short += len(batch) - len(long)
        if not long:
            return
        waveforms = [decode_flac(row.audio) for row in long]
        head = self._config.head or long[0].language
        found: dict[Place, BottleneckOutput] = {}
        with capture_codes(self._model, found.__setitem__):
            lengths, logits = run_model(self._model, waveforms, head)
        other: dict[Place, BottleneckOutput] = {}
        if self._second is not None:
            with capture_codes(self._second, other.__setitem__):
                run_model(self._second, waveforms, head)
        codes = {
            (what, place): output.codes.cpu().numpy().astype(self._code_types[place])
            for what, outputs in (("codes", found), ("second", other))
            for place, output in outputs.items()
        }
        neurons: dict[int, Tensor] = {}
        if self._frames_wanted:
            source = self._dense if self._dense is not None else self._model
            bypass = nullcontext() if self._dense is not None else bypass_bottlenecks(source)
            with bypass, capture_neurons(source, self._layers, neurons.__setitem__):
                run_model(source, waveforms, head)
        for index, (row, waveform, length) in enumerate(zip(long, waveforms, lengths, strict=True)):
            part = self._division.parts[row.id]
            for (what, place), batch_codes in codes.items():
                name = name_array(what, part, place.layer, str(place.site))
                self.record.spool.append(name, batch_codes[index, :length])
            self._add_neurons(part, row.id, length, neurons, index, shares[part])
            own = None if logits is None else logits[index, :length]
            self._add_labels(self.record.splits[part], row, waveform, length, own)

    def _add_neurons(
        self,
        part: str,
        name: str,
        length: int,
        neurons: Mapping[int, Tensor],
        index: int,
        share: float,
    ) -> None:
        split = self.record.splits[part]
        kept = draw_frames(name, length, share, self._config.seed)
        split.neuron_rows.append(kept + split.num_frames)
        for layer, values in neurons.items():
            own = values[index, :length].float().cpu()
            self.record.spool.append(name_array("neurons", part, layer), own.numpy()[kept])
            self.record.spool.append(name_array("means", part, layer), own.mean(0)[None].numpy())

    def _add_labels(
        self,
        split: SplitRecord,
        row: Utterance,
        waveform: Waveform,
        length: int,
        logits: Tensor | None,
    ) -> None:
        times = compute_frame_times(self._model.encoder.front_end, length)
        split.utterances.append(row.id)
        split.languages.append(row.language)
        split.speakers.append(name_speaker(row))
        split.lengths.append(length)
        pitch = measure_pitch(waveform) if self._can_measure_pitch else float("nan")
        split.pitch.append(pitch)
        voicing = measure_voicing(waveform, times)
        silence = np.where(voicing.is_silent, 0, 1)
        voiced = np.where(voicing.is_silent, -1, np.where(voicing.is_voiced, 0, 1))
        found = self._phones.find(row, waveform)
        phones = None
        if found is not None:
            gaps = self._config.gaps_are_silence
            phones = label_frames(found, times, gaps_are_silence=gaps)
        letters = self._find_letters(row, waveform, times, logits)
        for kind, labels in (
            (ConceptKind.phone, self._number(ConceptKind.phone, phones, length, LEFT_OUT)),
            (ConceptKind.letter, self._number(ConceptKind.letter, letters, length, -1)),
            (ConceptKind.voicing, voiced),
            (ConceptKind.silence, silence),
        ):
            split.labels.setdefault(kind, []).append(labels.astype(np.int32))

    def _find_letters(
        self,
        row: Utterance,
        waveform: Waveform,
        times: NDArray[np.float32],
        logits: Tensor | None,
    ) -> list[str | None] | None:
        if not row.text:
            return None
        if self._aligner is not None and row.language in self._aligner.vocabularies:
            return align_letters(self._aligner, row.text, row.language, waveform, times)
        if logits is None or not isinstance(self._model, CTCModel):
            return None
        head = self._config.head or row.language
        return align_letters(self._model, row.text, head, waveform, times, logits=logits)

    def _number(
        self, kind: ConceptKind, names: list[str | None] | None, length: int, missing: int
    ) -> NDArray[np.int64]:
        """Numbers of labels; `missing` where a frame has none, `LEFT_OUT` where nobody knows."""
        if names is None:
            return np.full(length, LEFT_OUT)
        numbers = self.record.names.setdefault(kind, {})
        return np.array(
            [missing if name is None else numbers.setdefault(name, len(numbers)) for name in names],
            dtype=np.int64,
        )


@torch.inference_mode()
def run_model(
    model: Model, waveforms: Sequence[Waveform], language: str
) -> tuple[list[int], Tensor | None]:
    """Runs a model over a batch.

    Args:
        model: In evaluation mode.
        waveforms: B arrays (S_b,), 16 kHz.
        language: Whose adapters and head a recogniser uses, where it knows it.

    Returns:
        Frames of each waveform, and (B, T, N) logits of a recogniser that knows the language.
    """
    lengths = torch.tensor([len(one) for one in waveforms])
    batch = torch.zeros(len(waveforms), int(lengths.max()), dtype=torch.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    batch = batch.to(model.encoder.mask_embedding.device)
    if isinstance(model, CTCModel) and language in model.heads:
        scored = model(batch, lengths, language=language)
        return scored.lengths.tolist(), scored.logits
    return model.encoder(batch, lengths).lengths.tolist(), None


@contextmanager
def capture_neurons(
    module: nn.Module, layers: Sequence[int], receive: Callable[[int, Tensor], None]
) -> Iterator[None]:
    """Hands over the inner values (B, T, F) of the feed-forward parts of some layers."""

    def create_hook(layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: receive(layer, args[0])

    found = list_layers(module)
    handles = [
        found[layer].feed_forward.output.register_forward_pre_hook(create_hook(layer))
        for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
