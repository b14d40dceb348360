"""Synthetic speech with exact phone times, from the espeak-ng inside the wheel `espeakng-loader`.

One formant synthesiser with some ninety languages, hundreds of times faster than real time:
acoustically poor, but its phone boundaries are exact, it needs no download, and its voice variants
× rate × pitch stand for speakers. It feeds `speechvq.data.synthetic_corpus`.

espeak-ng keeps its state in globals: it is initialised once per process (`load_synthesizer`), and
its output depends on everything that was spoken before in the same process. Reproducible audio
therefore takes a fresh process and the same sequence of calls.

Where it blends a phone into the one before (English l after a vowel, Malayalam double stops), the
blended phone has no time of its own and is left out of the track; the interval before it covers
both.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechvq.errors import DataError, MissingDependencyError

SILENCE_PHONE = "SIL"
"""Name of pauses in phone tracks."""

ESPEAK_VOICES = {
    "arb_Arab": "ar",
    "asm_Beng": "as",
    "ben_Beng": "bn",
    "deu_Latn": "de",
    "eng_Latn": "en-us",
    "fra_Latn": "fr",
    "guj_Gujr": "gu",
    "hin_Deva": "hi",
    "ind_Latn": "id",
    "ita_Latn": "it",
    "kan_Knda": "kn",
    "mal_Mlym": "ml",
    "mar_Deva": "mr",
    "npi_Deva": "ne",
    "ory_Orya": "or",
    "pan_Guru": "pa",
    "pes_Arab": "fa",
    "pol_Latn": "pl",
    "por_Latn": "pt",
    "rus_Cyrl": "ru",
    "sin_Sinh": "si",
    "snd_Arab": "sd",
    "spa_Latn": "es",
    "swh_Latn": "sw",
    "tam_Taml": "ta",
    "tel_Telu": "te",
    "tur_Latn": "tr",
    "urd_Arab": "ur",
}
"""espeak-ng's voice of each language code."""

# espeak-ng's C interface (speak_lib.h, API revision 12).
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_PHONEME_EVENTS = 0x0001
_PHONEME_NAMES_IN_IPA = 0x0002
_DO_NOT_EXIT = 0x8000
_PARAMETER_RATE, _PARAMETER_PITCH = 1, 3
_CHARACTERS_UTF8 = 1
_EVENT_LIST_END, _EVENT_PHONEME = 0, 7
_STRESS_MARKS = str.maketrans("", "", "ˈˌ'-")
_IPA = {"r.": "ɽ"}
"""Of names that espeak-ng forgot to turn into IPA."""


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_void_p), ("text", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One synthetic speaker.

    Attributes:
        variant: Name of a voice variant of espeak-ng, such as ``f2``.
        rate: Words a minute, 80 to 450.
        pitch: 0 to 99; 50 is the variant's own.
    """

    variant: str
    rate: int = 160
    pitch: int = 50

    @property
    def name(self) -> str:
        """Identifier of the speaker."""
        return f"{self.variant}-{self.rate}-{self.pitch}"


@dataclass(frozen=True, kw_only=True)
class PhoneInterval:
    """One phone in time; `start` and `end` are samples at the rate of the waveform."""

    phone: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class SpokenSentence:
    """Audio of one sentence.

    Attributes:
        waveform: (S,), 16-bit samples.
        sample_rate: Samples a second.
        phones: Phones in order of time, IPA without stress marks; pauses are `SILENCE_PHONE`.
    """

    waveform: NDArray[np.int16]
    sample_rate: int
    phones: list[PhoneInterval]


class SpeechSynthesizer:
    """espeak-ng, initialised; get it from `load_synthesizer`, since a process can hold only one."""

    def __init__(self) -> None:
        library_path, data_path = _locate_espeak()
        self._variants = data_path / "voices" / "!v"
        self._library = ctypes.CDLL(str(library_path))
        options = _PHONEME_EVENTS | _PHONEME_NAMES_IN_IPA | _DO_NOT_EXIT
        self.sample_rate: int = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, str(data_path).encode(), options
        )
        if self.sample_rate <= 0:
            raise DataError(
                f"espeak-ng cannot read its data in `{data_path}` ({len(str(data_path))} "
                "characters; it takes no more than some 150): make the environment in a shorter "
                "path, or install `espeakng-loader` again."
            )
        self._audio: list[bytes] = []
        self._marks: list[tuple[int, str]] = []
        self._callback = _Callback(self._collect)  # the library keeps a pointer: keep it alive
        self._library.espeak_SetSynthCallback(self._callback)

    def list_variants(self) -> list[str]:
        """Names of all voice variants, sorted."""
        return sorted(path.name for path in self._variants.iterdir() if path.is_file())

    def speak(self, text: str, *, language: str, voice: Voice) -> SpokenSentence:
        """Speak one sentence.

        Args:
            text: What to say.
            language: A key of `ESPEAK_VOICES`.
            voice: The speaker.

        Returns:
            The audio and its phone track.

        Raises:
            DataError: When language or variant are unknown, or nothing in the text can be spoken.
        """
        self._select(language, voice)
        self._audio.clear()
        self._marks.clear()
        # Breath noise is random; espeak-ng seeds it with the time when it starts.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        data = prepare_text(text, language).encode()
        status = self._library.espeak_Synth(
            data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _CHARACTERS_UTF8, None, None
        )
        waveform = np.frombuffer(b"".join(self._audio), dtype=np.int16)
        phones = _join_marks(self._marks, len(waveform))
        if status != 0 or all(phone.phone == SILENCE_PHONE for phone in phones):
            raise DataError(f"espeak-ng finds nothing to speak in {text!r} ({language}).")
        return SpokenSentence(waveform=waveform, sample_rate=self.sample_rate, phones=phones)

    def _select(self, language: str, voice: Voice) -> None:
        if language not in ESPEAK_VOICES:
            known = ", ".join(sorted(ESPEAK_VOICES))
            raise DataError(f"`{language}` cannot be spoken; languages with a voice: {known}.")
        # espeak-ng ignores an unknown variant and speaks with the default voice.
        if not (self._variants / voice.variant).is_file():
            raise DataError(
                f"espeak-ng has no voice variant `{voice.variant}`; `list_variants()` names all."
            )
        name = f"{ESPEAK_VOICES[language]}+{voice.variant}"
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise DataError(f"espeak-ng has no voice `{name}` for {language}.")
        self._library.espeak_SetParameter(_PARAMETER_RATE, voice.rate, 0)
        self._library.espeak_SetParameter(_PARAMETER_PITCH, voice.pitch, 0)

    def _collect(self, samples: object, count: int, events: ctypes.Array[_Event]) -> int:
        """Take one block of audio and its events from the library."""
        if samples and count > 0:
            self._audio.append(ctypes.string_at(samples, 2 * count))  # type: ignore[arg-type]
        index = 0
        while events[index].type != _EVENT_LIST_END:
            event = events[index]
            if event.type == _EVENT_PHONEME:
                # At most 8 bytes without a terminator; a letter may be cut in the middle.
                name = ctypes.string_at(ctypes.addressof(event.id), 8).split(b"\0")[0]
                self._marks.append((event.sample, name.decode(errors="ignore")))
            index += 1
        return 0


@cache
def load_synthesizer() -> SpeechSynthesizer:
    """The synthesiser of this process, initialised at the first call.

    Raises:
        MissingDependencyError: When `espeakng-loader` is not installed.
    """
    return SpeechSynthesizer()


def prepare_text(text: str, language: str) -> str:
    """Write a text the way espeak-ng's rules expect it.

    Its Assamese rules know only the precomposed letter YYA (U+09DF), which Unicode's normal form C
    takes apart.
    """
    return text.replace("\u09af\u09bc", "\u09df") if language == "asm_Beng" else text


def _join_marks(marks: list[tuple[int, str]], num_samples: int) -> list[PhoneInterval]:
    """Turn start marks into intervals that cover the audio; empty names are pauses."""
    starts = [(0, ""), *marks] if not marks or marks[0][0] > 0 else marks
    ends = [start for start, _ in starts[1:]] + [num_samples]
    phones: list[PhoneInterval] = []
    for (start, name), end in zip(starts, ends, strict=True):
        phone = name.translate(_STRESS_MARKS).strip() or SILENCE_PHONE
        phone = _IPA.get(phone, phone)
        start, end = min(start, num_samples), min(end, num_samples)
        if end <= start:
            continue
        if phones and phone == phones[-1].phone == SILENCE_PHONE:
            phones[-1] = PhoneInterval(phone=phone, start=phones[-1].start, end=end)
        else:
            phones.append(PhoneInterval(phone=phone, start=start, end=end))
    return phones


def _locate_espeak() -> tuple[Path, Path]:
    """Path of the shared library and of its data directory."""
    try:
        import espeakng_loader
    except ImportError:
        raise MissingDependencyError("espeakng_loader", "demo", "synthesise speech") from None
    data_path = Path(espeakng_loader.get_data_path())
    return Path(espeakng_loader.get_library_path()), data_path
