"""A transcript as a file: txt, srt, vtt, tsv, json, TextGrid, CTM.

Words with times (`speechvq.deploy.words`) come in; each file appears whole or not at all. Subtitles
and lines of text end at pauses. Tables, TextGrid and CTM are read back by
`speechvq.data.labels.read_labels`.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from speechvq.data.labels import write_labels
from speechvq.data.timed_label import Label
from speechvq.deploy.words import Word
from speechvq.durable import write_durably

SUFFIXES = {
    "txt": ".txt",
    "srt": ".srt",
    "vtt": ".vtt",
    "tsv": ".tsv",
    "json": ".json",
    "textgrid": ".TextGrid",
    "ctm": ".ctm",
}
"""By the names of `--output-format`."""

_PAUSE_SECONDS = 0.6
_MAX_CUE_SECONDS = 6.0
_MAX_CUE_CHARACTERS = 84
_LINE_CHARACTERS = 42


@dataclass(frozen=True, slots=True)
class FileTranscript:
    """What was recognised in a file.

    Attributes:
        path: The file.
        language: Whose head recognised it; "" where nothing was recognised in any.
        seconds: Length of the audio.
        words: In order.
        language_scores: By language, where it was chosen among the heads.
    """

    path: Path
    language: str
    seconds: float
    words: Sequence[Word]
    language_scores: dict[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All words with spaces between."""
        return " ".join(word.text for word in self.words)


def group_words(words: Sequence[Word]) -> list[list[Word]]:
    """Returns the words of each line: a line ends at a pause, and at what a subtitle holds."""
    groups: list[list[Word]] = []
    num_characters = 0
    for word in words:
        if (
            not groups
            or word.begin_seconds - groups[-1][-1].end_seconds >= _PAUSE_SECONDS
            or word.end_seconds - groups[-1][0].begin_seconds > _MAX_CUE_SECONDS
            or num_characters + 1 + len(word.text) > _MAX_CUE_CHARACTERS
        ):
            groups.append([])
            num_characters = -1
        groups[-1].append(word)
        num_characters += 1 + len(word.text)
    return groups


def write_transcript(transcript: FileTranscript, path: Path, name: str) -> None:
    """Writes a file.

    Args:
        transcript: What was recognised.
        path: Where to.
        name: Of the format, one of `SUFFIXES`.
    """
    if name in _TEXTS:
        write_durably(path, _TEXTS[name](transcript).encode("utf-8", "surrogateescape"))
        return
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    recording = re.sub(r"\s+", "_", transcript.path.stem)  # CTM holds no white space
    labels = [
        Label(
            recording=recording.encode("utf-8", "replace").decode(),
            tier="words",
            text=word.text,
            begin_seconds=round(word.begin_seconds, 6),
            end_seconds=round(word.end_seconds, 6),
            confidence=round(word.confidence, 4),
        )
        for word in transcript.words
    ]
    try:
        write_labels(labels, temporary, num_seconds=transcript.seconds)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _format_text(transcript: FileTranscript) -> str:
    return "".join(f"{_join(group)}\n" for group in group_words(transcript.words))


def _format_srt(transcript: FileTranscript) -> str:
    return "\n".join(
        f"{number}\n{_format_range(group, ',')}\n{_wrap(group)}\n"
        for number, group in enumerate(group_words(transcript.words), 1)
    )


def _format_vtt(transcript: FileTranscript) -> str:
    cues = [
        f"{_format_range(group, '.')}\n{_escape(_wrap(group))}\n"
        for group in group_words(transcript.words)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _format_table(transcript: FileTranscript) -> str:
    name = re.sub(r"[\t\r\n]", " ", transcript.path.name)
    rows = ["path\tword\tstart_seconds\tend_seconds\tconfidence"]
    rows += [
        f"{name}\t{word.text}\t{word.begin_seconds:.3f}\t{word.end_seconds:.3f}"
        f"\t{word.confidence:.4f}"
        for word in transcript.words
    ]
    return "\n".join(rows) + "\n"


def _format_json(transcript: FileTranscript) -> str:
    document = {
        "file": str(transcript.path).encode("utf-8", "replace").decode(),
        "language": transcript.language,
        "language_scores": {
            name: round(score, 4) if score > float("-inf") else None
            for name, score in transcript.language_scores.items()
        },
        "seconds": round(transcript.seconds, 3),
        "text": transcript.text,
        "segments": [
            {
                "begin": round(group[0].begin_seconds, 3),
                "end": round(group[-1].end_seconds, 3),
                "text": _join(group),
                "words": [
                    {
                        "text": word.text,
                        "begin": round(word.begin_seconds, 3),
                        "end": round(word.end_seconds, 3),
                        "confidence": round(word.confidence, 4),
                    }
                    for word in group
                ],
            }
            for group in group_words(transcript.words)
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


_TEXTS: dict[str, Callable[[FileTranscript], str]] = {
    "txt": _format_text,
    "srt": _format_srt,
    "vtt": _format_vtt,
    "tsv": _format_table,
    "json": _format_json,
}


def _join(group: Sequence[Word]) -> str:
    return " ".join(word.text for word in group)


def _wrap(group: Sequence[Word]) -> str:
    return textwrap.fill(
        _join(group), _LINE_CHARACTERS, break_long_words=False, break_on_hyphens=False
    )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _format_range(group: Sequence[Word], point: str) -> str:
    begin = _format_clock(group[0].begin_seconds, point)
    return f"{begin} --> {_format_clock(group[-1].end_seconds, point)}"


def _format_clock(seconds: float, point: str) -> str:
    millis = round(seconds * 1000)
    hours, rest = divmod(millis, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"
