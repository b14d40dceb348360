"""Small corpora as their public specifications describe them, written by the tests.

Every writer returns nothing and leaves a tree; audio is a second of a tone whose length tells the
clips apart.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def make_audio(seconds: float = 1.0, kind: str = "WAV") -> bytes:
    """Encodes a tone."""
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * RATE)) / RATE)
    buffer = io.BytesIO()
    soundfile.write(buffer, tone, RATE, format=kind)
    return buffer.getvalue()


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Writes files under a root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


WAV = make_audio()

COMMON_VOICE_COLUMNS = (
    "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender"
    "\taccents\tvariant\tlocale\tsegment\n"
)


def _voice(speaker: str, name: str, sentence: str, locale: str = "pa-IN") -> str:
    return f"{speaker}\t{name}\tid\t{sentence}\t\t2\t0\t\t\t\t\t{locale}\t\n"


COMMON_VOICE: dict[str, str | bytes] = {
    "cv/pa-IN/train.tsv": COMMON_VOICE_COLUMNS
    + _voice("s1", "a.mp3", 'ਸਤਿ "ਸ੍ਰੀ" ਅਕਾਲ')
    + "too\tmany"
    + "\t" * 13
    + "\n",
    "cv/pa-IN/test.tsv": COMMON_VOICE_COLUMNS + _voice("s2", "b.mp3", "ਦੋ"),
    "cv/pa-IN/validated.tsv": COMMON_VOICE_COLUMNS
    + _voice("s1", "a.mp3", 'ਸਤਿ "ਸ੍ਰੀ" ਅਕਾਲ')
    + _voice("s2", "b.mp3", "ਦੋ")
    + _voice("s2", "c.mp3", "ਤਿੰਨ"),
    "cv/pa-IN/other.tsv": COMMON_VOICE_COLUMNS + _voice("s9", "z.mp3", "?"),
    "cv/pa-IN/clip_durations.tsv": "clip\tduration[ms]\na.mp3\t1000\nb.mp3\t1512\n",
    **{f"cv/pa-IN/clips/{name}.mp3": WAV for name in "abcz"},
}

FLEURS: dict[str, str | bytes] = {
    "fleurs/hi_in/train.tsv": (
        '7\t101.wav\tवह "यहाँ" है।\tवह यहाँ है\tव ह | य ह ा ँ | ह ै |\t16000\tFEMALE\n'
        "7\t102.wav\tवह यहाँ है।\tवह यहाँ है\tव ह |\t32000\tMALE\n"
        "only\tthree\tcells\n"
    ),
    "fleurs/hi_in/dev.tsv": "8\t103.wav\tदो।\tदो\tद ो |\t16000\tMALE\n",
    "fleurs/hi_in/audio/train/101.wav": WAV,
    "fleurs/hi_in/audio/train/102.wav": make_audio(2),
    "fleurs/hi_in/audio/dev/103.wav": WAV,
}

LIBRISPEECH: dict[str, str | bytes] = {
    "LibriSpeech/train-clean-100/19/198/19-198.trans.txt": (
        "19-198-0000 NORTHANGER ABBEY\n19-198-0001 THIS LITTLE WORK\nnonsense\n"
    ),
    "LibriSpeech/train-clean-100/19/198/19-198-0000.flac": make_audio(kind="FLAC"),
    "LibriSpeech/train-clean-100/19/198/19-198-0001.flac": make_audio(kind="FLAC"),
    "LibriSpeech/dev-other/116/288045/116-288045.trans.txt": "116-288045-0000 AS I APPROACHED\n",
    "LibriSpeech/dev-other/116/288045/116-288045-0000.flac": make_audio(kind="FLAC"),
    "LibriSpeech/SPEAKERS.TXT": "; ID | SEX | SUBSET | MINUTES | NAME\n",
}

MLS: dict[str, str | bytes] = {
    "mls_polish/train/transcripts.txt": "6758_8950_000000\twieczorem dom\nbroken line\n",
    "mls_polish/train/segments.txt": "6758_8950_000000\thttp://archive.org/book\t11.10\t21.94\n",
    "mls_polish/train/audio/6758/8950/6758_8950_000000.flac": make_audio(kind="FLAC"),
    "mls_polish/test/transcripts.txt": "8_9_000001\tdrugi\n",
    "mls_polish/test/segments.txt": "8_9_000001\thttp://archive.org/other\t0.0\t9.0\n",
    "mls_polish/test/audio/8/9/8_9_000001.flac": make_audio(kind="FLAC"),
}

KATHBATH: dict[str, str | bytes] = {
    "audio/bengali/valid/844424931537866-594-f.m4a": WAV,
    "audio/bengali/test_known/844424931029859-973-m.m4a": WAV,
    "transcripts/bengali/valid/transcription_n2w.txt": (
        "844424931537866-594-f.m4a\tআমি ভালো আছি\n no text\n"
    ),
    "transcripts/bengali/test_known/transcription_n2w.txt": (
        "844424931029859-973-m.m4a\tকেমন আছো\n"
    ),
}

TRANSCRIPTS: dict[str, str | bytes] = {
    "mucs/hindi/train/transcript.txt": "0001 यह एक है\n0002.wav\tदो तीन\n\nalone\n",
    "mucs/hindi/train/audio/0001.wav": WAV,
    "mucs/hindi/train/audio/0002.wav": WAV,
    "mucs/hindi/valid/transcript.txt": "0001 दूसरा\n",
    "mucs/hindi/valid/audio/0001.wav": WAV,
}

OPENSLR: dict[str, str | bytes] = {
    "ta_in_female/line_index.tsv": ("taf_00008_00022380451\t ஆஸ்த்ரேலியப் பெண்ணுக்கு \nmissing_tab\n"),
    "ta_in_female/taf_00008_00022380451.wav": WAV,
}

FAIRSEQ: dict[str, str | bytes] = {
    "odia/train.tsv": "/somewhere/else/odia/clips\nb1/1.wav\t16000\nb1/2.wav\t16000\nno length\n",
    "odia/train.wrd": "ଏକ ଦୁଇ\nତିନି\n\n",
    "odia/train.ltr": "ଏ କ | ଦ ୁ ଇ |\nତ ି ନ ି |\n\n",
    "odia/dict.ltr.txt": "| 5\nଏ 1\n",
    "odia/valid.tsv": "/somewhere/else/odia/clips\nb2/3.wav\t16000\n",
    "odia/valid.ltr": "ଚ ା ର ି | ପ ା ଞ ୍ ଚ |\n",
    "odia/clips/b1/1.wav": WAV,
    "odia/clips/b1/2.wav": WAV,
    "odia/clips/b2/3.wav": WAV,
}

_NEMO_LINES: list[dict[str, object]] = [
    {"audio_filepath": "wav/a.wav", "duration": 1.0, "text": "एक"},
    {
        "audio_filepath": "wav/long.wav",
        "offset": 0.5,
        "duration": 1.25,
        "text": "दो",
        "speaker": "s1",
    },
    {"audio_filepath": "wav/long.wav", "offset": 2, "duration": 1, "text": "तीन"},
    {"audio_filepath": "wav/a.wav", "offset": -1, "duration": 1},
]
NEMO: dict[str, str | bytes] = {
    "train_manifest.json": "".join(
        json.dumps({**line, "lang": "hi"}, ensure_ascii=False) + "\n" for line in _NEMO_LINES
    )
    + "{not json\n",
    "wav/a.wav": WAV,
    "wav/long.wav": make_audio(4),
}

TEXT_FILES: dict[str, str | bytes] = {
    "bengali/bulletin-1/sent_1.wav": WAV,
    "bengali/bulletin-1/sent_1.txt": "আমি\nভালো\n",
    "bengali/bulletin-2/sent_1.wav": WAV,
    "bengali/bulletin-2/sent_1.txt": "আছি\n",
    "bengali/bulletin-2/sent_2.wav": WAV,
}

AUDIO: dict[str, str | bytes] = {
    "radio/gujarati/one.wav": WAV,
    "radio/gujarati/two.flac": make_audio(kind="FLAC"),
    "radio/readme.txt": "not audio",
}
