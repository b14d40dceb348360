"""The records that travel through data preparation: one utterance, one rejection.

`Utterance` is a row of the corpus (`speechvq.data.corpus`); `Rejection` is a row of `rejected.tsv`.
Both are plain dataclasses, so that they pickle quickly between processes and need neither pyarrow
nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

SAMPLE_RATE = 16_000
"""Samples per second of all audio in a corpus."""


@dataclass(kw_only=True, slots=True)
class Utterance:
    """One row of a corpus: at most some tens of seconds of speech of one language.

    Fields that were not read (`columns=` of `read_utterances`) hold their defaults.
    """

    id: str
    """Unique in the corpus: `<source>/<path>`, followed by `#<start>-<end>` (seconds) for a piece
    of a longer recording."""
    language: str
    """ISO 639-3 code, underscore, ISO 15924 script: `hin_Deva`."""
    split: str = "train"
    """`train`, `dev`, `test`, or any other name that the manifest gave; in the corpus it is the
    directory, not a column."""
    audio: bytes = b""
    """A complete FLAC file, 16 kHz, mono, 16 bit."""
    num_samples: int = 0
    """Length of the audio in samples at 16 kHz."""
    text: str | None = None
    """Normalised transcript; None where there is none."""
    raw_text: str | None = None
    """The transcript as it came, before normalisation."""
    source: str = ""
    """Where the recording came from: the manifest's column, else the name of the input
    directory."""
    licence: str | None = None
    """What may be done with the recording, in the manifest's words."""
    url: str | None = None
    """Where the recording was found."""
    speaker: str | None = None
    """Speaker label, unique within its source only."""
    recording: str = ""
    """The recording that the utterance was cut from; the path of the file where the manifest names
    none."""
    path: str = ""
    """The file, relative to its input directory."""
    start_seconds: float = 0.0
    """Where the utterance begins in its file."""
    end_seconds: float = 0.0
    """Where the utterance ends in its file."""
    snr_db: float | None = None
    """Estimated signal-to-noise ratio (WADA); None where it is undefined, never NaN."""
    vad_snr_db: float | None = None
    """Power of the windows with speech over the power of those without, in dB; None where there
    are too few of either."""
    speech_ratio: float | None = None
    """Share of the frames that the voice activity detector calls speech, 0 to 1."""
    speech_probability: float | None = None
    """Mean probability of speech, 0 to 1."""
    loudness_lufs: float | None = None
    """Integrated loudness (ITU-R BS.1770-4); None under 0.4 s or below the gate."""
    clipped_share: float | None = None
    """Share of the samples at full scale, 0 to 1."""
    zero_share: float | None = None
    """Share of the frames of 20 ms that are digital silence, 0 to 1."""
    dropout_share: float | None = None
    """Share of the frames that are torn out: digital silence beside loud frames, 0 to 1."""
    dc_offset: float | None = None
    """Mean of the samples, relative to full scale."""
    bandwidth_hz: float | None = None
    """Where the spectrum ends in a cliff: about 4000 for telephone speech that was resampled; 8000
    where there is none."""
    variation_db: float | None = None
    """How much the level of a band varies: 7 to 30 for speech, 2 for steady noise."""
    tone_share: float | None = None
    """Share of the energy in tones that stand still for 0.35 s: more in music than in speech."""
    letters_per_second: float | None = None
    """Letters of the transcript a second, combining marks not counted; None without one."""
    peak_dbfs: float | None = None
    """Largest absolute sample, in dB relative to full scale."""
    rms_dbfs: float | None = None
    """Root mean square over the utterance, in dB relative to full scale."""
    original_sample_rate: int | None = None
    """Samples per second in the file, before resampling."""
    original_channels: int | None = None
    """Channels in the file, before they were averaged."""
    flags: list[str] = field(default_factory=list)
    """What a user may want to leave out: see `Flag`."""

    @property
    def num_seconds(self) -> float:
        """Length in seconds."""
        return self.num_samples / SAMPLE_RATE


class Flag(StrEnum):
    """Marks on rows that are kept, but that some uses should leave out."""

    DIGITS = "digits"
    """The transcript holds digits: how they were read is unknown."""
    PIPE = "pipe"
    """The transcript holds a literal `|`, which is the word separator of CTC vocabularies."""
    SYMBOLS = "symbols"
    """The transcript holds symbols that are read aloud (`%`, `₹`, `+`, …) and that normalisation
    removes."""
    NUMBERS_EXPANDED = "numbers_expanded"
    """Numbers in the transcript were spelled out: how they were read is a guess."""
    FOREIGN_SCRIPT = "foreign_script"
    """The transcript holds letters of a script that the language is not written in."""
    CLIPPED = "clipped"
    """More than 0.1 % of the samples stand at full scale."""
    NO_SPEECH = "no_speech_detected"
    """The clip has a transcript, but the detector heard no speech in it."""
    LONGER = "longer_than_declared"
    """The audio is clearly longer than the manifest said."""
    NEAR_DUPLICATE = "near_duplicate"
    """Another utterance of the corpus sounds the same."""
    TEXT_IN_OTHER_SPLIT = "text_in_other_split"
    """The same transcript stands in another split."""


class Reason(StrEnum):
    """Why audio was set aside."""

    MISSING_FILE = "missing_file"
    OUTSIDE_INPUT = "outside_input"
    BAD_ROW = "bad_row"
    DUPLICATE = "duplicate"
    UNKNOWN_LANGUAGE = "unknown_language"
    NOT_A_FILE = "not_a_file"
    ENCRYPTED = "encrypted"
    OVER_LIMIT = "over_archive_limit"
    UNREADABLE = "unreadable"
    DECODER_CRASHED = "decoder_crashed"
    DECODER_HUNG = "decoder_hung"
    TRUNCATED = "truncated"
    NON_FINITE = "non_finite"
    SILENT = "silent"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    TOO_LONG_TRANSCRIBED = "too_long_transcribed"
    NO_SPEECH = "no_speech"
    DIGITAL_SILENCE = "digital_silence"
    DROPOUTS = "dropouts"
    STEADY_NOISE = "steady_noise"
    TONES = "tones"
    LITTLE_SPEECH = "little_speech"
    LOW_SNR = "low_snr"
    LOW_VAD_SNR = "low_vad_snr"
    CLIPPED = "clipped"
    DC_OFFSET = "dc_offset"
    TOO_QUIET = "too_quiet"
    NARROW_BAND = "narrow_band"
    TOO_FAST = "too_fast"
    TOO_SLOW = "too_slow"
    DUPLICATE_AUDIO = "duplicate_audio"
    NEAR_DUPLICATE = "near_duplicate"
    SPLIT_LEAK = "split_leak"
    TEXT_OVERLAP = "text_overlap"


@dataclass(kw_only=True, slots=True)
class Rejection:
    """Audio that was set aside: a file, or a part of one."""

    path: str
    """The file, relative to its input directory, as the manifest spells it."""
    source: str
    """As in `Utterance`."""
    language: str
    """As the manifest spells it."""
    reason: Reason
    """The rule that was broken."""
    num_samples: int = 0
    """How much audio was set aside, at 16 kHz: decoded where the file could be decoded, else as
    declared, else 0."""
    value: float | None = None
    """The measured value, in the unit of the rule."""
    threshold: float | None = None
    """The limit that the value broke."""
    detail: str = ""
    """The decoder's message, or the remedy."""

    @property
    def seconds(self) -> float:
        """How much audio was set aside."""
        return self.num_samples / SAMPLE_RATE
