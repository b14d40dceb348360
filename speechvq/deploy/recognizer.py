"""A recogniser ready for use: audio in, text out. Needs neither fairseq2 nor Hydra.

    from speechvq import Recognizer
    Recognizer.load("runs/hindi/model").transcribe("greeting.wav").text

Loads a model directory (`speechvq.models.directory`), recognises batches, decodes greedily or, with
a language model, by beam search (`speechvq.deploy.text_decoder`). Long recordings go through
`speechvq.deploy.windows`; many files through `speechvq.deploy.transcribing`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechvq.data.audio import Waveform, from_pcm, open_audio, to_16k_mono, to_pcm
from speechvq.data.records import SAMPLE_RATE
from speechvq.decoding.forced_alignment import LabelSpan, align_labels, align_spans, find_spans
from speechvq.decoding.greedy import decode_best_path
from speechvq.decoding.hypotheses import Hypothesis
from speechvq.deploy.log_probs import choose_best, compute_log_probs, score_languages
from speechvq.deploy.text_decoder import TextDecoder, create_text_decoder, load_language_models
from speechvq.deploy.windows import OVERLAP_SECONDS, WINDOW_SECONDS, WindowMerger, cut_windows
from speechvq.deploy.words import Word
from speechvq.errors import DataError, ModelError
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import load_model


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What was recognised in one recording.

    Attributes:
        text: The words; "" where nothing was recognised.
        language: The language whose head recognised it; "" where several heads heard nothing.
        seconds: Length of the audio.
        words: The words with their times and confidences.
    """

    text: str
    language: str
    seconds: float
    words: tuple[Word, ...] = ()


class Recognizer:
    """A CTC recogniser of one or several languages.

    Args:
        model: The model; put into evaluation mode and onto the device.
        device: `cpu`, `cuda`, …, or `auto` for a GPU where there is one.
        max_seconds: Longer audio is recognised in overlapping windows of this length, so that
            memory stays bounded.
        decoders: Beam searches, by language; other languages are decoded greedily.

    Raises:
        DataError: If `max_seconds` is too short for windows to overlap, or there is no such device.
    """

    def __init__(
        self,
        model: CTCModel,
        *,
        device: str = "auto",
        max_seconds: float = WINDOW_SECONDS,
        decoders: Mapping[str, TextDecoder] | None = None,
    ) -> None:
        if not max_seconds >= 2 * OVERLAP_SECONDS:
            raise DataError(
                f"`max_seconds` must be at least {2 * OVERLAP_SECONDS:g}, twice what windows "
                f"overlap, but is {max_seconds:g}."
            )
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
        max_seconds: float = WINDOW_SECONDS,
        lm: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        decoder: str = "beam",
    ) -> Recognizer:
        """Loads a model directory that `finetune` left.

        Args:
            directory: The model directory.
            device: `cpu`, `cuda`, …, or `auto` for a GPU where there is one.
            max_seconds: Longer audio is recognised in overlapping windows of this length.
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
            language: The head to use; by default the one that is surest of the first window.
            sample_rate: Samples per second of a waveform; a file knows its own.

        Raises:
            DataError: If the audio cannot be read.
            ModelError: If the model has no head for the language.
        """
        head = None if language is None else self.check_language(language)
        if head is None and len(self.languages) == 1:
            head = self.languages[0]
        words: list[Word] = []
        seconds = 0.0
        merger = None
        blocks = _read_blocks(audio, sample_rate)
        for window in cut_windows(blocks, self.max_seconds, OVERLAP_SECONDS):
            seconds = window.end_seconds
            head = head or self.choose_language([window.samples])
            if head is None:
                continue  # nobody said anything yet
            merger = merger or self.create_merger(head)
            spans = self.recognize_labels([window.samples], head)[0]
            words += merger.add(window.begin_seconds, seconds, window.is_last, spans)
        return Transcript(
            text=" ".join(word.text for word in words),
            language=head or "",
            seconds=seconds,
            words=tuple(words),
        )

    def align(
        self,
        audio: str | os.PathLike[str] | Waveform | Tensor,
        text: str,
        language: str | None = None,
        *,
        sample_rate: int = SAMPLE_RATE,
    ) -> tuple[Word, ...]:
        """Finds when the words of a known text are said (forced alignment).

        Args:
            audio: As for `transcribe`; at most `max_seconds` long.
            text: What is said, normalised as the model's training text was.
            language: The head to use; may be left out where the model has one only.
            sample_rate: Samples per second of a waveform; a file knows its own.

        Raises:
            DataError: If the audio cannot be read, is too long, or too short for the text.
            ModelError: If the model has no head for the language.
        """
        head = self.check_language(language)
        waveform = np.concatenate([np.zeros(0, np.float32), *_read_blocks(audio, sample_rate)])
        seconds = len(waveform) / SAMPLE_RATE
        if seconds > self.max_seconds:
            raise DataError(
                f"Audio must be at most `max_seconds` ({self.max_seconds:g}) long to be aligned, "
                f"but has {seconds:.1f} s: cut it where the text can be cut."
            )
        log_probs = self.compute_log_probs([waveform], head)[0]
        path = align_labels(log_probs, self.model.vocabularies[head].encode(text))
        return tuple(self.create_merger(head).add(0.0, seconds, True, find_spans(log_probs, path)))

    def choose_language(self, waveforms: Sequence[Waveform]) -> str | None:
        """Returns the language whose head is surest of what it hears; None where none hears
        anything.
        """
        return choose_best(score_languages(self.model, waveforms))

    def create_merger(self, language: str) -> WindowMerger:
        """Returns what joins the labels of this recogniser's windows."""
        return WindowMerger(
            self.model.vocabularies[language],
            frame_seconds=self.model.frame_samples / SAMPLE_RATE,
            overlap_seconds=OVERLAP_SECONDS,
        )

    def recognize_labels(
        self, waveforms: Sequence[Waveform], language: str
    ) -> list[list[LabelSpan]]:
        """Recognises a batch; what `recognize` makes texts of, with times and probabilities.

        Args:
            waveforms: B arrays (S_b,) at 16 kHz in [-1, 1].
            language: The head to use.

        Returns:
            Of each, the labels that were recognised: of a beam search's text, or, should the
            vocabulary spell it with more labels than there are frames, of the best path.
        """
        rows = self.compute_log_probs(waveforms, language)
        if language not in self.decoders:
            return [find_spans(row, row.argmax(dim=-1)) for row in rows]
        found: list[list[LabelSpan]] = []
        for row in rows:
            text = self.decoders[language].decode(row)[0].text
            spans = align_spans(row, self.model.vocabularies[language].encode(text))
            found.append(find_spans(row, row.argmax(dim=-1)) if spans is None else spans)
        return found

    def recognize(self, waveforms: Sequence[Waveform], language: str) -> list[str]:
        """Recognises a batch; each text is what its waveform alone would give.

        Args:
            waveforms: B arrays (S_b,) at 16 kHz in [-1, 1].
            language: The head to use.

        Returns:
            B texts; "" for silence, whatever the model makes of it.
        """
        if language in self.decoders:
            return [found[0].text for found in self.search(waveforms, language)]
        vocabulary = self.model.vocabularies[language]
        return [
            decode_best_path(row, vocabulary) for row in self.compute_log_probs(waveforms, language)
        ]

    def search(self, waveforms: Sequence[Waveform], language: str) -> list[list[Hypothesis]]:
        """Recognises a batch by the language's beam search.

        Args:
            waveforms: B arrays (S_b,) at 16 kHz in [-1, 1].
            language: The head to use; one of `decoders`.

        Returns:
            B n-best lists, best first, each with at least one text.
        """
        decoder = self.decoders[language]
        return [decoder.decode(row) for row in self.compute_log_probs(waveforms, language)]

    def compute_log_probs(self, waveforms: Sequence[Waveform], language: str) -> list[Tensor]:
        """Computes what decoders search through.

        Args:
            waveforms: B arrays (S_b,) at 16 kHz in [-1, 1].
            language: The head to use.

        Returns:
            B natural log-probabilities (T_b, N), float32 on the CPU; where it is silent the blank
            is certain.
        """
        if not waveforms:
            return []
        return [row[language] for row in compute_log_probs(self.model, waveforms, [language])]


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


def _read_blocks(
    audio: str | os.PathLike[str] | Waveform | Tensor, sample_rate: int
) -> Iterator[Waveform]:
    """Yields stretches of a file or a waveform at 16 kHz."""
    if not isinstance(audio, str | os.PathLike):
        yield to_16k_mono(_to_array(audio), sample_rate)
        return
    with open_audio(Path(audio)) as stream:
        for block in stream.blocks:
            if not np.isfinite(block).all():
                raise DataError(f"{str(audio)!r} holds samples that are NaN or infinite.")
            yield from_pcm(to_pcm(block))  # as the decoder of `speechvq transcribe` gives them


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
