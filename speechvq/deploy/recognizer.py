"""A recogniser ready for use: audio in, text out. Needs neither fairseq2 nor Hydra.

    from speechvq import Recognizer
    Recognizer.load("runs/hindi/model").transcribe("greeting.wav").text

Loads a model directory (`speechvq.models.directory`), recognises batches, decodes greedily or,
with a language model, by beam search (`speechvq.deploy.text_decoder`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechvq.data.audio import decode_audio, to_16k_mono
from speechvq.data.records import SAMPLE_RATE
from speechvq.decoding.greedy import decode_greedy
from speechvq.decoding.hypotheses import EMPTY, Hypothesis
from speechvq.deploy.text_decoder import TextDecoder, create_text_decoder, load_language_models
from speechvq.errors import DataError, ModelError
from speechvq.models.ctc_model import CTCModel, CTCOutput
from speechvq.models.directory import load_model

Waveform = NDArray[np.float32]
_MIN_SAMPLES = SAMPLE_RATE // 10
"""Shorter audio is filled up with silence, so that every front end finds a frame."""
_SILENCE_RMS = 10 ** (-70 / 20)
"""Audio that never gets louder, in any tenth of a second, holds no speech: ten steps of 16 bits."""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What was recognised in one recording.

    Attributes:
        text: The words; "" where nothing was recognised.
        language: The language whose head recognised it.
        seconds: Length of the audio.
    """

    text: str
    language: str
    seconds: float


class Recognizer:
    """A CTC recogniser of one or several languages.

    Args:
        model: The model; put into evaluation mode and onto the device.
        device: `cpu`, `cuda`, …, or `auto` for a GPU where there is one.
        max_seconds: Longer audio is cut at its quietest moments, so that memory stays bounded.
        decoders: Beam searches, by language; other languages are decoded greedily.
    """

    def __init__(
        self,
        model: CTCModel,
        *,
        device: str = "auto",
        max_seconds: float = 30.0,
        decoders: Mapping[str, TextDecoder] | None = None,
    ) -> None:
        self.device = choose_device(device)
        self.model = model.eval().to(self.device)
        self.max_seconds = max_seconds
        self.decoders = dict(decoders or {})

    @classmethod
    def load(
        cls,
        directory: str | os.PathLike[str],
        *,
        device: str = "auto",
        max_seconds: float = 30.0,
        lm: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        decoder: str = "beam",
    ) -> Recognizer:
        """Loads a model directory that `finetune` left.

        Args:
            directory: The model directory.
            device: `cpu`, `cuda`, …, or `auto` for a GPU where there is one.
            max_seconds: Longer audio is cut at its quietest moments.
            lm: What `train_lm` left, one or several, each for its own language; weights are those
                that `tune_lm` left in the model directory, else the defaults.
            decoder: With a language model: `beam` (flashlight-text) or `reference` (slow, needs no
                package).

        Raises:
            ModelError: If the directory holds no model, or one that is not a recogniser, or a
                language model does not fit it.
            MissingDependencyError: If flashlight-text is needed and not installed.
        """
        model = load_model(Path(directory))
        if not isinstance(model, CTCModel):
            raise ModelError(
                f"{directory} holds a pretrained encoder, which is no recogniser yet: "
                f"`speechvq finetune model={directory} corpus=DIR language=… output=DIR` makes one."
            )
        recognizer = cls(model, device=device, max_seconds=max_seconds)
        directories = [lm] if isinstance(lm, str | os.PathLike) else lm
        for language, found in load_language_models([str(one) for one in directories]).items():
            recognizer.decoders[language] = create_text_decoder(
                model.vocabularies[recognizer.check_language(language)],
                language,
                kind=decoder,
                lm=found,
                model_directory=Path(directory),
            )
        return recognizer

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that the model has a head for, in order."""
        return tuple(sorted(self.model.vocabularies))

    def check_language(self, language: str | None) -> str:
        """Returns the language to use; without one, the model's only one.

        Raises:
            ModelError: If the model has no head for it, or several to choose from.
        """
        heads = ", ".join(self.languages)
        if language is None:
            if len(self.languages) == 1:
                return self.languages[0]
            raise ModelError(f"`language` must be given: the model has heads for {heads}.")
        if language not in self.languages:
            raise ModelError(
                f"`language` must be one that the model has a head for ({heads}), "
                f"but is {language!r}."
            )
        return language

    def transcribe(
        self,
        audio: str | os.PathLike[str] | Waveform | Tensor,
        language: str | None = None,
        *,
        sample_rate: int = SAMPLE_RATE,
    ) -> Transcript:
        """Recognises one recording.

        Args:
            audio: A file of any format that `prepare` reads, or a waveform (S,), (channels, S) or
                (S, channels), floating point in [-1, 1].
            language: The head to use; may be left out where the model has one only.
            sample_rate: Samples per second of a waveform; a file knows its own.

        Raises:
            DataError: If the audio cannot be read.
            ModelError: If the model has no head for the language.
        """
        head = self.check_language(language)
        if isinstance(audio, str | os.PathLike):
            waveform, sample_rate = decode_audio(Path(audio))
        else:
            waveform = _to_array(audio)
        waveform = to_16k_mono(waveform, sample_rate)
        pieces = split_at_quiet_moments(waveform, round(self.max_seconds * SAMPLE_RATE))
        texts = [self.recognize([piece], head)[0] for piece in pieces]
        text = " ".join(part for part in texts if part)
        return Transcript(text=text, language=head, seconds=len(waveform) / SAMPLE_RATE)

    def recognize(self, waveforms: Sequence[Waveform], language: str) -> list[str]:
        """Recognises a batch; each text is what its waveform alone would give.

        Args:
            waveforms: B arrays (S_b,) at 16 kHz in [-1, 1].
            language: The head to use.

        Returns:
            B texts; "" for silence, whatever the model makes of it.
        """
        if not waveforms:
            return []
        if language in self.decoders:
            return [found[0].text for found in self.search(waveforms, language)]
        output = self.compute_logits(waveforms, language)
        texts = decode_greedy(output.logits, output.lengths, self.model.vocabularies[language])
        return [
            "" if is_silent(waveform) else text
            for waveform, text in zip(waveforms, texts, strict=True)
        ]

    def search(self, waveforms: Sequence[Waveform], language: str) -> list[list[Hypothesis]]:
        """Recognises a batch by the language's beam search.

        Args:
            waveforms: B arrays (S_b,) at 16 kHz in [-1, 1].
            language: The head to use; one of `decoders`.

        Returns:
            B n-best lists, best first, each with at least one text.
        """
        if not waveforms:
            return []
        output = self.compute_logits(waveforms, language)
        found = self.decoders[language].decode(output.logits, output.lengths)
        return [
            [EMPTY] if is_silent(waveform) else hypotheses
            for waveform, hypotheses in zip(waveforms, found, strict=True)
        ]

    @torch.inference_mode()
    def compute_logits(self, waveforms: Sequence[Waveform], language: str) -> CTCOutput:
        """Runs the model on a batch.

        Args:
            waveforms: B arrays (S_b,) at 16 kHz in [-1, 1]; B at least 1.
            language: The head to use.

        Returns:
            Logits (B, T, N), and frames (B,).
        """
        lengths = [max(len(waveform), _MIN_SAMPLES) for waveform in waveforms]
        batch = np.zeros((len(waveforms), max(lengths)), dtype=np.float32)  # (B, S)
        for row, waveform in zip(batch, waveforms, strict=True):
            row[: len(waveform)] = waveform
        output: CTCOutput = self.model(
            torch.from_numpy(batch).to(self.device),
            torch.tensor(lengths),
            language=language,
        )
        return output


def choose_device(name: str) -> torch.device:
    """Returns the device of that name; `auto` is a GPU where there is one.

    Raises:
        DataError: If this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DataError(f"`device` must be auto, cpu, cuda or cuda:N, but is {name!r}.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DataError(
            f"`device` is {name!r}, but torch sees {torch.cuda.device_count()} GPUs here: "
            "take `device=cpu`, or see what `speechvq doctor` says."
        )
    return device


def is_silent(waveform: Waveform) -> bool:
    """Returns whether no tenth of a second is louder than -70 dB below full scale.

    Args:
        waveform: (S,) at 16 kHz in [-1, 1].
    """
    if not len(waveform):
        return True
    starts = np.arange(0, len(waveform), SAMPLE_RATE // 10)
    energies = np.add.reduceat(np.square(waveform, dtype=np.float64), starts)
    sizes = np.diff(np.append(starts, len(waveform)))
    return bool(np.sqrt((energies / sizes).max()) < _SILENCE_RMS)


def split_at_quiet_moments(waveform: Waveform, max_samples: int) -> list[Waveform]:
    """Cuts a long waveform where it is quietest, so that no piece is longer than asked for.

    Args:
        waveform: (S,) at 16 kHz.
        max_samples: Longest piece.

    Returns:
        Pieces that joined give the waveform; the waveform itself where it is short enough.
    """
    window = min(SAMPLE_RATE // 10, max_samples)
    pieces = []
    while len(waveform) > max_samples:
        earliest = max_samples // 2
        power = np.square(waveform[earliest:max_samples], dtype=np.float64)
        sums = np.convolve(power, np.ones(min(window, len(power))), mode="valid")
        cut = earliest + int(sums.argmin()) + min(window, len(power)) // 2
        pieces.append(waveform[:cut])
        waveform = waveform[cut:]
    return [*pieces, waveform]


def _to_array(audio: Waveform | Tensor) -> Waveform:
    array = audio.detach().cpu().numpy() if isinstance(audio, Tensor) else np.asarray(audio)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"A waveform must be floating point in [-1, 1], but is {array.dtype}: "
            "divide 16-bit samples by 32768."
        )
    if array.ndim == 2:
        # torchaudio has channels first, soundfile last; there are fewer of them than samples.
        array = array.mean(axis=0 if array.shape[0] <= array.shape[1] else 1)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise DataError(
            "A waveform must be (S,) or (channels, S) of finite numbers, "
            f"but its shape is {array.shape}."
        )
    return np.ascontiguousarray(array, dtype=np.float32)
