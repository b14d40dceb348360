"""Writes a corpus in the formats of others, one utterance at a time.

The audio is the corpus's own FLAC, byte for byte; what a format has no place for is lost, as
`docs/preparing.md` lists. Standing: `speechvq.data.convert` feeds these; the readers of
`speechvq.data.formats` read the result.
"""

from __future__ import annotations

import gzip
import io
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from speechvq.data.records import Utterance

_MAX_FOLDER = 10_000
"""Files in one folder."""


class FormatWriter(ABC):
    """Base of all writers: audio files with running numbers, tables opened once.

    Args:
        root: Where to write; exists.
        final: Where the result will stand in the end, for formats that name absolute paths.
        get_text: The transcript of an utterance, on one line; None where it has none.
    """

    def __init__(
        self, root: Path, final: Path, get_text: Callable[[Utterance], str | None]
    ) -> None:
        self.root = root
        self.final = final
        self.get_text = get_text
        self.num_written = 0
        self.num_left_out = 0
        self._tables: dict[str, IO[str]] = {}

    def add(self, utterance: Utterance) -> None:
        """Writes one utterance; one that the format cannot express is counted and left out."""
        if self._write(utterance):
            self.num_written += 1
        else:
            self.num_left_out += 1

    def close(self) -> None:
        """Completes the tables."""
        for table in self._tables.values():
            table.close()

    @abstractmethod
    def _write(self, utterance: Utterance) -> bool:
        """Writes one utterance; returns whether the format can express it."""

    def _write_audio(self, folder: str, utterance: Utterance, name: str = "") -> str:
        """Writes the audio file; returns its path relative to the folder."""
        number = f"{self.num_written:08d}"
        name = name or f"{self.num_written // _MAX_FOLDER:04d}/{number}"
        path = self.root / folder / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(utterance.audio)
        return f"{name}.flac"

    def _write_line(self, path: str, line: str, header: str = "") -> None:
        if path not in self._tables:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            self._tables[path] = self._open(self.root / path)
            if header:
                self._tables[path].write(header + "\n")
        self._tables[path].write(line + "\n")

    def _open(self, path: Path) -> IO[str]:
        return path.open("w", encoding="utf-8", newline="\n")


class ManifestWriter(FormatWriter):
    """`manifest.tsv` and audio files."""

    _COLUMNS = (
        *("path", "language", "split", "speaker", "recording", "transcript", "licence", "source"),
        *("url", "seconds"),
    )

    def _write(self, utterance: Utterance) -> bool:
        path = f"audio/{self._write_audio('audio', utterance)}"
        cells = (
            *(path, utterance.language, utterance.split, utterance.speaker, utterance.recording),
            *(self.get_text(utterance), utterance.licence, utterance.source, utterance.url),
            f"{utterance.num_seconds:.4f}",
        )
        self._write_line("manifest.tsv", join_cells(cells), "\t".join(self._COLUMNS))
        return True


class FairseqWriter(FormatWriter):
    """`<language>/<split>.tsv`, `.wrd`, `.ltr` and `dict.ltr.txt`; `dev` is `valid` there."""

    def __init__(
        self, root: Path, final: Path, get_text: Callable[[Utterance], str | None]
    ) -> None:
        super().__init__(root, final, get_text)
        self._letters: dict[str, Counter[str]] = {}

    def _write(self, utterance: Utterance) -> bool:
        language = utterance.language
        folder = f"{language}/audio"
        path = self._write_audio(folder, utterance)
        stem = f"{language}/{'valid' if utterance.split == 'dev' else utterance.split}"
        text = self.get_text(utterance) or ""
        letters = [*text.replace(" ", "|"), "|"] if text else []
        root = str(self.final.absolute() / folder)
        self._write_line(f"{stem}.tsv", f"{path}\t{utterance.num_samples}", root)
        self._write_line(f"{stem}.wrd", text)
        self._write_line(f"{stem}.ltr", " ".join(letters))
        counts = self._letters.setdefault(language, Counter())
        if utterance.split == "train":
            counts.update(letters)
        return True

    def close(self) -> None:
        """Completes the tables and writes the dictionary of each language's training text."""
        for language, counts in self._letters.items():
            ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            for letter, count in ordered:
                self._write_line(f"{language}/dict.ltr.txt", f"{letter} {count}")
        super().close()


class CommonVoiceWriter(FormatWriter):
    """`<language>/clips`, `train.tsv`, `dev.tsv`, `test.tsv`, `validated.tsv`,
    `clip_durations.tsv`; other splits stand in `validated.tsv` alone.
    """

    _COLUMNS = (
        *("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes"),
        *("down_votes", "age", "gender", "accents", "variant", "locale", "segment"),
    )

    def _write(self, utterance: Utterance) -> bool:
        folder = utterance.language
        name = self._write_audio(f"{folder}/clips", utterance, f"{self.num_written:08d}")
        text = self.get_text(utterance)
        values = {"client_id": utterance.speaker, "path": name, "sentence": text}
        values |= {"up_votes": "2", "down_votes": "0", "locale": utterance.language}
        line = join_cells(values.get(column) for column in self._COLUMNS)
        header = "\t".join(self._COLUMNS)
        if utterance.split in ("train", "dev", "test"):
            self._write_line(f"{folder}/{utterance.split}.tsv", line, header)
        self._write_line(f"{folder}/validated.tsv", line, header)
        length = f"{name}\t{round(1000 * utterance.num_seconds)}"
        self._write_line(f"{folder}/clip_durations.tsv", length, "clip\tduration[ms]")
        return True


class FleursWriter(FormatWriter):
    """`<language>/train.tsv`, `dev.tsv`, `test.tsv` and `audio/<split>/`; no other split."""

    def _write(self, utterance: Utterance) -> bool:
        if utterance.split not in ("train", "dev", "test"):
            return False
        folder = f"{utterance.language}/audio/{utterance.split}"
        number = f"{self.num_written:08d}"
        text = self.get_text(utterance) or ""
        letters = " ".join("|".join(text.split())) + " |" if text else ""
        cells = (
            *(str(self.num_written), self._write_audio(folder, utterance, number)),
            *(text, utterance.text, letters, str(utterance.num_samples), "OTHER"),
        )
        self._write_line(f"{utterance.language}/{utterance.split}.tsv", join_cells(cells))
        return True


class _NumberingWriter(FormatWriter):
    """Base of formats whose speakers and recordings are numbers: `SPEAKERS.TXT` and `CHAPTERS.TXT`
    explain them.
    """

    def __init__(
        self, root: Path, final: Path, get_text: Callable[[Utterance], str | None]
    ) -> None:
        super().__init__(root, final, get_text)
        self._speakers: dict[tuple[str, str | None], int] = {}
        self._chapters: dict[tuple[str, str | None, str], int] = {}
        self._lengths: Counter[tuple[str, int, int]] = Counter()

    def _number(self, utterance: Utterance) -> tuple[int, int]:
        key = (utterance.source, utterance.speaker)
        if key not in self._speakers:
            self._speakers[key] = len(self._speakers) + 1
            line = f"{self._speakers[key]} | {utterance.speaker or ''} | {utterance.source}"
            self._write_line("SPEAKERS.TXT", line, ";ID | SPEAKER | SOURCE")
        place = (*key, utterance.recording)
        if place not in self._chapters:
            self._chapters[place] = len(self._chapters) + 1
            line = f"{self._chapters[place]} | {self._speakers[key]} | {utterance.recording}"
            self._write_line("CHAPTERS.TXT", line, ";ID | READER | RECORDING")
        return self._speakers[key], self._chapters[place]


class LibriSpeechWriter(_NumberingWriter):
    """`<language>/<split>/<speaker>/<chapter>/` with a transcript per chapter."""

    def _write(self, utterance: Utterance) -> bool:
        speaker, chapter = self._number(utterance)
        folder = f"{utterance.language}/{utterance.split}/{speaker}/{chapter}"
        index = self._lengths[folder, speaker, chapter]
        self._lengths[folder, speaker, chapter] += 1
        name = f"{speaker}-{chapter}-{index:04d}"
        self._write_audio(folder, utterance, name)
        text = self.get_text(utterance) or ""
        path = self.root / folder / f"{speaker}-{chapter}.trans.txt"
        with path.open("a", encoding="utf-8", newline="\n") as file:  # one a chapter: too many
            file.write(f"{name} {text}\n")
        return True


class MlsWriter(_NumberingWriter):
    """`mls_<language>/<split>/` with `transcripts.txt`, `segments.txt` and `audio/`; only what
    is transcribed.
    """

    def _write(self, utterance: Utterance) -> bool:
        text = self.get_text(utterance)
        if not text:
            return False
        speaker, book = self._number(utterance)
        folder = f"mls_{utterance.language}/{utterance.split}"
        name = f"{speaker}_{book}_{self.num_written:06d}"
        self._write_audio(f"{folder}/audio/{speaker}/{book}", utterance, name)
        self._write_line(f"{folder}/transcripts.txt", f"{name}\t{text}")
        times = (f"{utterance.start_seconds:.2f}", f"{utterance.end_seconds:.2f}")
        self._write_line(f"{folder}/segments.txt", join_cells((name, utterance.url, *times)))
        return True


class TranscriptsWriter(FormatWriter):
    """`<language>/<split>/transcript.txt` and `audio/`, as IndicWav2Vec's fine-tuning reads them;
    only what is transcribed.
    """

    def _write(self, utterance: Utterance) -> bool:
        text = self.get_text(utterance)
        if not text:
            return False
        split = "valid" if utterance.split == "dev" else utterance.split
        folder = f"{utterance.language}/{split}"
        name = self._write_audio(f"{folder}/audio", utterance, f"{self.num_written:08d}")
        self._write_line(f"{folder}/transcript.txt", f"{name.removesuffix('.flac')} {text}")
        return True


class OpenSlrWriter(FormatWriter):
    """`<language>/line_index.tsv` with the clips beside it; only what is transcribed; no splits."""

    def __init__(
        self, root: Path, final: Path, get_text: Callable[[Utterance], str | None]
    ) -> None:
        super().__init__(root, final, get_text)
        self._speakers: dict[tuple[str, str | None], int] = {}

    def _write(self, utterance: Utterance) -> bool:
        text = self.get_text(utterance)
        if not text:
            return False
        key = (utterance.source, utterance.speaker)
        speaker = self._speakers.setdefault(key, len(self._speakers) + 1)
        stem = f"{utterance.language[:3]}_{speaker:05d}_{self.num_written:011d}"
        self._write_audio(utterance.language, utterance, stem)
        self._write_line(f"{utterance.language}/line_index.tsv", f"{stem}\t{text}")
        return True


class NemoWriter(FormatWriter):
    """`<split>_manifest.json`, a JSON object a line."""

    def _write(self, utterance: Utterance) -> bool:
        values = {
            "audio_filepath": f"audio/{self._write_audio('audio', utterance)}",
            "duration": round(utterance.num_seconds, 6),
            "text": self.get_text(utterance) or "",
            **describe_utterance(utterance),
            "lang": utterance.language,
        }
        self._write_line(f"{utterance.split}_manifest.json", dump_object(values))
        return True


class LhotseWriter(FormatWriter):
    """`cuts_<split>.jsonl.gz`: a MonoCut with one supervision per utterance."""

    def _write(self, utterance: Utterance) -> bool:
        path = f"audio/{self._write_audio('audio', utterance)}"
        seconds = utterance.num_seconds
        name = f"{utterance.id}"
        supervision = {
            "id": name,
            "recording_id": name,
            "start": 0.0,
            "duration": seconds,
            "channel": 0,
            "language": utterance.language,
            "custom": describe_utterance(utterance) | {"split": utterance.split},
        }
        text = self.get_text(utterance)
        supervision |= {"text": text} if text else {}
        supervision |= {"speaker": utterance.speaker} if utterance.speaker else {}
        recording = {
            "id": name,
            "sources": [{"type": "file", "channels": [0], "source": path}],
            "sampling_rate": 16_000,
            "num_samples": utterance.num_samples,
            "duration": seconds,
            "channel_ids": [0],
        }
        cut = {
            **{"id": name, "start": 0.0, "duration": seconds, "channel": 0},
            **{"supervisions": [supervision], "recording": recording, "type": "MonoCut"},
        }
        self._write_line(f"cuts_{utterance.split}.jsonl.gz", dump_object(cut))
        return True

    def _open(self, path: Path) -> IO[str]:
        # Without name and time in the header: the same corpus gives the same bytes.
        stream = gzip.GzipFile(filename="", fileobj=path.open("wb"), mode="wb", mtime=0)
        return io.TextIOWrapper(stream, encoding="utf-8", newline="\n")


def describe_utterance(utterance: Utterance) -> dict[str, Any]:
    """Returns what is known of an utterance beside audio, text and language, without Nones."""
    values = {
        "speaker": utterance.speaker,
        "recording": utterance.recording,
        "source": utterance.source,
        "licence": utterance.licence,
        "url": utterance.url,
    }
    return {key: value for key, value in values.items() if value}


def dump_object(values: dict[str, Any]) -> str:
    """Returns a JSON object on one line."""
    return json.dumps(values, ensure_ascii=False)


def join_cells(cells: Any) -> str:
    """Returns a line of a table without quoting: white space inside a cell becomes a space."""
    return "\t".join("" if cell is None else " ".join(str(cell).split()) for cell in cells)
