"""A folder of synthetic speech in many languages, with transcripts and phone times.

Writes what people bring: audio files and a `manifest.tsv`, ready for `data_prep.prepare`, and
beside them `phones.tsv` with the exact time of every phone. No speaker of the train split speaks in
dev or test, in any language, and no sentence stands in two splits.

Every language is a shard, spoken by a process of its own: espeak-ng's output depends on what its
process said before, and so the files are the same whatever the number of workers.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from speechvq.data.sentence_lists import load_grammar
from speechvq.data.synthesis import Voice, load_synthesizer

VARIANTS = {
    "train": (
        *("Alex", "Andy", "Annie", "Denis", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee"),
        *("Marco", "Michael", "Reed", "adam", "anika", "antonio", "belinda", "benjamin", "boris"),
        *("david", "ed", "f1", "f2", "f4", "grandma", "ian", "linda", "m1", "m2", "m3", "m5", "m7"),
    ),
    "dev": ("Alicia", "Mario", "f3", "m4", "caleb", "steph"),
    "test": ("Andrea", "Mike", "f5", "m6", "marcelo", "shelby"),
}
"""Voice variants of each split; whispering and robot voices are left out."""

MANIFEST_COLUMNS = ("path", "language", "speaker", "split", "seconds", "transcript")
PHONE_COLUMNS = ("path", "phone", "start_seconds", "end_seconds")

Report = Callable[[int, int], None]
"""Called with (utterances done, utterances in all)."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One utterance that is to be spoken."""

    path: str
    split: str
    text: str
    voice: Voice


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Utterances that one process speaks, in this order."""

    language: str
    lines: Sequence[Line]


def plan_shards(
    languages: Sequence[str], num_sentences: dict[str, int], *, num_voices: int, seed: int
) -> list[Shard]:
    """Decide who says what; a function of the arguments alone.

    Args:
        languages: Codes with a sentence list and a voice.
        num_sentences: Sentences per language in each split (``train``, ``dev``, ``test``).
        num_voices: Speakers per language and split at most; a split has a fixed stock of variants.
        seed: Seed of sentences and voices.

    Returns:
        One shard per language.

    Raises:
        DataError: For a language without a sentence list, or with too few sentences.
    """
    shards = []
    for language in languages:
        texts = load_grammar(language).sample(sum(num_sentences.values()), seed=seed)
        lines = []
        for split, count in num_sentences.items():
            rng = random.Random(f"{language}:{split}:{seed}")
            stock = VARIANTS[split]
            voices = [
                Voice(variant=v, rate=rng.randrange(135, 190, 5), pitch=rng.randrange(30, 71, 5))
                for v in rng.sample(stock, min(num_voices, len(stock)))
            ]
            chosen, texts = texts[:count], texts[count:]
            lines += [
                Line(
                    path=f"audio/{language}/{split}-{number:05d}.flac",
                    split=split,
                    text=text,
                    voice=voices[number % len(voices)],
                )
                for number, text in enumerate(chosen)
            ]
        shards.append(Shard(language=language, lines=lines))
    return shards


def synthesize_corpus(
    output: Path, shards: Sequence[Shard], *, num_workers: int, report: Report | None = None
) -> dict[str, float]:
    """Speak all shards and write audio, `manifest.tsv` and `phones.tsv`.

    Args:
        output: Directory; made when missing. The manifest is written last, so that a folder with a
            manifest is complete.
        shards: What to speak.
        num_workers: Processes at a time; changes nothing in the output.
        report: Told about progress after every shard.

    Returns:
        Seconds of audio per language.

    Raises:
        MissingDependencyError: When `espeakng-loader` is not installed.
    """
    output.mkdir(parents=True, exist_ok=True)
    total, done = sum(len(shard.lines) for shard in shards), 0
    manifest: list[list[str]] = []
    phones: list[list[str]] = []
    # A process that is forked, or used for a second shard, would carry espeak-ng's state along.
    with ProcessPoolExecutor(
        num_workers, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        futures = [pool.submit(speak_shard, output, shard) for shard in shards]
        for shard, future in zip(shards, futures, strict=True):
            rows, phone_rows = future.result()
            manifest += rows
            phones += phone_rows
            done += len(shard.lines)
            if report is not None:
                report(done, total)
    _write_table(output / "phones.tsv", PHONE_COLUMNS, phones)
    _write_table(output / "manifest.tsv", MANIFEST_COLUMNS, manifest)
    seconds: dict[str, float] = {}
    for row in manifest:
        seconds[row[1]] = seconds.get(row[1], 0.0) + float(row[4])
    return seconds


def speak_shard(output: Path, shard: Shard) -> tuple[list[list[str]], list[list[str]]]:
    """Speak one shard into FLAC files; runs in a fresh process.

    Args:
        output: Directory that paths are relative to.
        shard: What to speak.

    Returns:
        Rows of the manifest and rows of the phone table.
    """
    import soundfile

    synthesizer = load_synthesizer()
    manifest, phones = [], []
    for line in shard.lines:
        spoken = synthesizer.speak(line.text, language=shard.language, voice=line.voice)
        path = output / line.path
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, spoken.waveform, spoken.sample_rate, subtype="PCM_16")
        seconds = len(spoken.waveform) / spoken.sample_rate
        speaker = f"espeak-{line.voice.name}"
        manifest.append(
            [line.path, shard.language, speaker, line.split, f"{seconds:.3f}", line.text]
        )
        phones += [
            [line.path, phone.phone]
            + [f"{sample / spoken.sample_rate:.4f}" for sample in (phone.start, phone.end)]
            for phone in spoken.phones
        ]
    return manifest, phones


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE)
        writer.writerows(chain([columns], rows))
    temporary.replace(path)
