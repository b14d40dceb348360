"""What a recogniser makes of segments, and how sure it is: its text, a second one to compare.

Where there is a language model, the text is that of beam search with it and the second one that of
greedy decoding: where they differ, the acoustics alone did not decide. Without one, the second text
is heard in the same audio played a tenth faster, of which the recogniser has to make the same; two
searches without a language model all but agree, and segments are shorter than a window, so that
neither other searches nor other windows would tell anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soxr
from torch import Tensor

from speechvq.data.audio import Waveform
from speechvq.data.index import CorpusIndex
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.rows import RowReader
from speechvq.decoding.forced_alignment import align_spans, find_spans
from speechvq.decoding.greedy import decode_best_path
from speechvq.deploy.progress import ProgressLine
from speechvq.deploy.recognizer import Recognizer
from speechvq.json_lines import read_json_lines

SECOND_SPEED = 1.1
_WINDOW_BATCHES = 8
_ROW_GROUPS = 64
"""Row groups of the corpus kept in memory while segments are recognised by length."""


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """What was recognised in one segment.

    Attributes:
        id: The segment.
        text: What the recogniser writes; "" for nothing.
        second_text: What the second decoding writes; None without one.
        confidence: Mean probability of the labels, 0 for no text.
        min_word_confidence: Confidence of the most doubtful word, 0 for no text.
        lm_score: Natural log-probability of the text by the language model, divided by its letters
            and word boundaries; None without a language model.
    """

    id: str
    text: str
    second_text: str | None
    confidence: float
    min_word_confidence: float
    lm_score: float | None


class SegmentRecognizer:
    """Recognises segments of one language twice.

    Args:
        recognizer: With a decoder for the language where there is a language model.
        language: The head to use.
        second: The second decoding: `lm`, `speed` or `none`.
    """

    def __init__(self, recognizer: Recognizer, language: str, second: str) -> None:
        self._recognizer = recognizer
        self._language = recognizer.check_language(language)
        self._vocabulary = recognizer.model.vocabularies[language]
        self._decoder = recognizer.decoders.get(language)
        self._second = second

    def recognize(self, names: list[str], waveforms: list[Waveform]) -> list[Recognition]:
        """Recognise a batch.

        Args:
            names: B ids.
            waveforms: B arrays (S_b,) at 16 kHz in [-1, 1].
        """
        rows = self._recognizer.compute_log_probs(waveforms, self._language)
        second: list[str | None] = [None] * len(rows)
        if self._second == "speed":
            faster = [_play_faster(waveform) for waveform in waveforms]
            second = list(map(self._decode, self._compute(faster)))
        elif self._second == "lm":
            second = [decode_best_path(row, self._vocabulary) for row in rows]
        return [
            self._describe(name, row, other, len(waveform) / SAMPLE_RATE)
            for name, row, other, waveform in zip(names, rows, second, waveforms, strict=True)
        ]

    def _compute(self, waveforms: list[Waveform]) -> list[Tensor]:
        return self._recognizer.compute_log_probs(waveforms, self._language)

    def _decode(self, row: Tensor) -> str:
        if self._decoder is not None:
            return self._decoder.decode(row)[0].text
        return decode_best_path(row, self._vocabulary)

    def _describe(self, name: str, row: Tensor, second: str | None, seconds: float) -> Recognition:
        text, score = decode_best_path(row, self._vocabulary), None
        spans = find_spans(row, row.argmax(dim=-1)) if text else []
        if self._decoder is not None:
            found = self._decoder.decode(row)[0]
            text, settings = found.text, self._decoder.settings
            spans = align_spans(row, self._vocabulary.encode(text)) or []
            if text and self._decoder.model is not None and settings.lm_weight:
                bonus = 0.0
                if self._decoder.model.unit == "word":
                    bonus = settings.word_score * len(text.split())
                score = (found.language_score - bonus) / settings.lm_weight / (len(text) + 1)
        merger = self._recognizer.create_merger(self._language)
        words = merger.add(0.0, seconds, True, spans)
        return Recognition(
            id=name,
            text=text,
            second_text=second,
            confidence=float(np.mean([span.probability for span in spans])) if spans else 0.0,
            min_word_confidence=min((word.confidence for word in words), default=0.0),
            lm_score=score,
        )


def _play_faster(waveform: Waveform) -> Waveform:
    """Return the same at `SECOND_SPEED`; pitch moves along, as in training with `speeds`."""
    rate = SAMPLE_RATE * SECOND_SPEED
    return np.asarray(soxr.resample(waveform, rate, SAMPLE_RATE, quality="MQ"), dtype=np.float32)


def recognize_index(
    recognizer: SegmentRecognizer,
    index: CorpusIndex,
    path: Path,
    *,
    batch_seconds: float,
    verb: str,
) -> dict[str, Recognition]:
    """Recognise all segments of an index, or the rest of them after an interruption.

    Args:
        recognizer: Recognises batches.
        index: The segments.
        path: File of one JSON object a segment, which grows batch by batch.
        batch_seconds: Audio of a batch.
        verb: What is done, for the progress line.

    Returns:
        By id, in the index's order.

    Raises:
        DataError: Audio is damaged.
    """
    found = {line["id"]: Recognition(**line) for line in read_json_lines(path)}
    missing = np.array([row for row, name in enumerate(index.ids) if name not in found], dtype=int)
    rows = RowReader(index, capacity=_ROW_GROUPS)
    total = float(index.num_samples[missing].sum()) / SAMPLE_RATE
    progress = ProgressLine(verb, total)
    with path.open("a", encoding="utf-8") as file:
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            file.write("\n")  # a kill cut the last line off
        for batch in _cut_batches(index, missing, batch_seconds):
            waveforms = [rows.read_waveform(int(row)) for row in batch]
            for one in recognizer.recognize([index.ids[row] for row in batch], waveforms):
                found[one.id] = one
                file.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
            file.flush()
            progress.advance(len(batch), float(index.num_samples[batch].sum()) / SAMPLE_RATE)
    if len(missing):
        progress.close()
    return {name: found[name] for name in index.ids}


def _cut_batches(
    index: CorpusIndex, positions: np.ndarray, batch_seconds: float
) -> Iterator[np.ndarray]:
    """Yield batches of like length out of neighbours in the corpus."""
    seconds = index.num_samples[positions] / SAMPLE_RATE
    window = np.cumsum(seconds) // (_WINDOW_BATCHES * batch_seconds)
    for number in np.unique(window):
        members = positions[window == number]
        members = members[np.argsort(-index.num_samples[members], kind="stable")]
        while len(members):
            longest = index.num_samples[members[0]] / SAMPLE_RATE
            count = max(1, int(batch_seconds // longest))
            yield members[:count]
            members = members[count:]
