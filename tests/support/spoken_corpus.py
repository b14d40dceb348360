"""A corpus of espeak-ng's: eight languages, each spoken by the same eight voices, with the time of
every phone.

Crossed, so that no difference between languages is one between voices. A language can also be
spoken once more by other voices and go by another name: two languages that share everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.phone_intervals import PhoneInterval, label_frames, name_phone
from speechvq.data.audio import load_audio
from speechvq.data.labels import read_labels
from speechvq.data.sentence_lists import load_grammar
from speechvq.data.synthesis import Voice
from speechvq.data.synthetic_corpus import Line, Shard, synthesize_corpus

LANGUAGES = (
    *("hin_Deva", "ben_Beng", "tam_Taml", "tel_Telu"),
    *("eng_Latn", "spa_Latn", "deu_Latn", "tur_Latn"),
)
VOICES = (
    Voice(variant="f1", rate=150, pitch=55),
    Voice(variant="m1", rate=170, pitch=45),
    Voice(variant="f2", rate=160, pitch=60),
    Voice(variant="m3", rate=145, pitch=40),
    Voice(variant="f4", rate=175, pitch=50),
    Voice(variant="m7", rate=155, pitch=35),
    Voice(variant="linda", rate=165, pitch=65),
    Voice(variant="adam", rate=150, pitch=50),
)
OTHER_VOICES = (
    Voice(variant="f5", rate=150, pitch=50),
    Voice(variant="m2", rate=165, pitch=40),
    Voice(variant="belinda", rate=160, pitch=60),
    Voice(variant="m5", rate=150, pitch=45),
    Voice(variant="f3", rate=170, pitch=55),
    Voice(variant="m6", rate=155, pitch=35),
    Voice(variant="anika", rate=160, pitch=60),
    Voice(variant="david", rate=145, pitch=50),
)
_HOP_SECONDS, _CENTRE_SECONDS = 0.02, 0.0125


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is spoken as one language.

    Attributes:
        name: Of the language in the corpus.
        spoken: What the voices speak.
        voices: Who, of `VOICES` and `OTHER_VOICES`.
        seed: Of the sentences.
    """

    name: str
    spoken: str
    voices: Sequence[Voice] = VOICES
    seed: int = 1


PARTS = tuple(Part(name=one, spoken=one) for one in LANGUAGES)


@dataclass(frozen=True, kw_only=True)
class SpokenUtterance:
    """One utterance.

    Attributes:
        path: Of its audio.
        language: Its language.
        voice: Place among `VOICES` and `OTHER_VOICES`.
        times: (T,) centres of frames of 20 ms, seconds.
        phones: T phones; `sil` is silence.
        places: (T,) number of each frame's interval, to know where a phone begins and ends.
    """

    path: str
    language: str
    voice: int
    times: NDArray[np.float32]
    phones: list[str]
    places: NDArray[np.int64]

    def load(self, directory: Path) -> NDArray[np.float32]:
        """(S,) at 16 kHz."""
        return load_audio(directory / self.path).waveform


def speak_corpus(
    directory: Path, parts: Sequence[Part], *, num_sentences: int, num_workers: int
) -> None:
    """Speaks `num_sentences` sentences for each language and voice into a directory."""
    everybody = [*VOICES, *OTHER_VOICES]
    shards = []
    for part in parts:
        count = num_sentences * len(part.voices)
        texts = load_grammar(part.spoken).sample(count, seed=part.seed)
        lines = [
            Line(
                path=f"audio/{part.name}/{number:04d}-{everybody.index(voice)}.flac",
                split="test",
                text=text,
                voice=voice,
            )
            for number, (text, voice) in enumerate(zip(texts, cycle(part.voices), strict=False))
        ]
        shards.append(Shard(language=part.spoken, lines=lines))
    synthesize_corpus(directory, shards, num_workers=num_workers)


def read_utterances(directory: Path) -> list[SpokenUtterance]:
    """Reads what `speak_corpus` wrote, in its order."""
    labels: dict[str, list[PhoneInterval]] = {}
    for label in read_labels(directory / "phones.tsv"):
        interval = PhoneInterval(name_phone(label.text), label.begin_seconds, label.end_seconds)
        labels.setdefault(label.recording, []).append(interval)
    found = []
    for path, intervals in labels.items():
        num_frames = int((intervals[-1].end_seconds - _CENTRE_SECONDS) / _HOP_SECONDS)
        times = (_CENTRE_SECONDS + _HOP_SECONDS * np.arange(num_frames)).astype(np.float32)
        begins = [one.begin_seconds - 1e-6 for one in intervals]
        phones = label_frames(intervals, times)
        found.append(
            SpokenUtterance(
                path=path,
                language=path.split("/")[1],
                voice=int(Path(path).stem.split("-")[1]),
                times=times,
                phones=[phone or "" for phone in phones],
                places=np.searchsorted(begins, times.astype(np.float64), "right") - 1,
            )
        )
    return found


def list_inventories(utterances: Sequence[SpokenUtterance]) -> dict[str, list[str]]:
    """Phones of each language, without silence."""
    found: dict[str, set[str]] = {}
    for one in utterances:
        found.setdefault(one.language, set()).update(one.phones)
    return {language: sorted(phones - {"", "sil"}) for language, phones in found.items()}
