"""The configuration of data preparation; no torch, no Hydra."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from speechvq.data.format_names import ARCHIVE_SUFFIXES, DIGIT_POLICIES, FORMAT_NAMES
from speechvq.data.storage import is_remote, strip_file_scheme
from speechvq.data.text import NORMALIZER_NAMES, get_normalizer
from speechvq.errors import DataError
from speechvq.languages import parse_language

PREPARE_FILE = "prepare.json"
"""In the output: with which configuration and input it was begun."""
FORGET_FILE = "forget.json"
"""In a corpus from which something is being deleted: what, and how far it is."""
MAX_TRANSCRIBED_SECONDS = 600.0
"""Transcribed clips stay whole, and longer ones are not even candidates."""
MISSING_VALUE = "???"
"""Value of a field that the user must set."""


@dataclass(kw_only=True)
class SegmentConfig:
    """How long untranscribed recordings are cut at pauses."""

    max_segment_seconds: float = 20.0
    """No segment is longer; untranscribed recordings up to this length stay whole."""
    min_seconds: float = 0.4
    """Clips shorter than this are set aside, and no segment is cut shorter (0.4 s is about one
    syllable and 20 frames)."""
    vad: str = "silero"
    """Speech detector: `silero`, or `webrtc` (30 ms, mode 2, 300 ms, 90 %, as in IndicWav2Vec):
    quicker, and fooled by noise and music."""
    max_pause_seconds: float = 1.0
    """A pause up to this length stays inside a segment; a longer one ends it."""
    padding_seconds: float = 0.2
    """How much of the pause is kept on either side of a segment."""
    threshold: float = 0.5
    """Speech begins where its probability reaches this, and ends 0.15 below it."""


@dataclass(kw_only=True)
class DecideConfig:
    """What is accepted, by what was measured. Changing it decodes nothing again.

    A limit of `null` is no limit. A measure that is undefined for a segment (too short, silent)
    breaks every limit that is set on it, unless `undefined=keep`.
    """

    undefined: str = "reject"
    """`reject`: a measure that is undefined breaks its limit; `keep`: it does not."""
    min_seconds: float | None = None
    """Shorter segments are rejected; below `segment.min_seconds` it has no effect."""
    max_zero_share: float | None = 0.9
    """Share of digital silence; speech behind a noise gate has up to 0.8."""
    max_dropout_share: float | None = 0.2
    """Share that is torn out: digital silence beside loud frames; a synthesiser's stops give up to
    0.15, every other half second zeroed 0.3 and more."""
    min_variation_db: float | None = 4.0
    """Variation of the bands' levels: steady noise stays under it."""
    max_tone_share: float | None = 0.5
    """Share of the energy in sustained tones: music goes beyond it."""
    min_speech_ratio: float | None = None
    """Share of windows with speech."""
    min_snr_db: float | None = None
    """Signal-to-noise ratio by WADA; IndicWav2Vec takes 15."""
    min_vad_snr_db: float | None = None
    """Signal-to-noise ratio by speech and pauses; undefined where a segment has no pause."""
    max_clipped_share: float | None = 0.1
    """Share of samples at full scale."""
    max_dc_offset: float | None = 0.2
    """Mean of the samples, either sign, relative to full scale."""
    min_loudness_lufs: float | None = None
    """Integrated loudness."""
    min_bandwidth_hz: float | None = None
    """Where the spectrum ends; 4500 rejects telephone speech that was resampled."""
    max_letters_per_second: float | None = 40.0
    """A transcript that is longer was not spoken in that time."""
    min_letters_per_second: float | None = None
    """A transcript that is shorter leaves much unsaid."""
    duplicates: str = "reject"
    """What becomes of a segment whose samples another has: `reject` or `keep`."""
    near_duplicates: str = "flag"
    """What becomes of a segment that sounds like another: `reject`, `flag` or `keep`."""
    max_fingerprint_bits: int = 20
    """Fingerprints of 128 bits that differ in at most so many are the same sound."""
    split_leaks: str = "reject"
    """Equal sounds in two splits of the manifest: `reject` those in the split that comes first of
    train, others, dev, test; or `report`. Splits that we make have none."""
    text_overlap: str = "report"
    """Transcripts that stand in train and in another split: `report` them, `leave_out` those in
    train, or `move`: keep equal transcripts together in splits that we make."""


@dataclass(kw_only=True)
class ArchiveConfig:
    """How far an archive of the input may unfold before it, or a member, is set aside."""

    max_ratio: float = 200.0
    """Times its size; audio stays under 20, digital silence in WAV reaches 1000."""
    max_member_gb: float = 4.0
    """Gigabytes of one member."""
    max_total_gb: float = 8000.0
    """Gigabytes of all members."""
    max_members: int = 5_000_000
    """Number of members."""


@dataclass(kw_only=True)
class PrepareConfig:
    """From folders of recordings to a corpus."""

    input: list[str] = field(default_factory=list)
    """A directory, an archive (tar, zip) or a URL (`s3://`, `gs://`) that holds a corpus in one of
    the known formats; or a list of them."""
    format: str = ""
    """The format of the input, such as `common_voice`; empty to find out (docs/preparing.md)."""
    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
    """Limits for tar and zip archives."""
    language: str = ""
    """The language of what does not say it, such as `hin_Deva`."""
    output: str = MISSING_VALUE
    """Where the corpus will stand: a new or empty directory, or one that the same command was
    preparing."""
    publish: str = ""
    """Where the corpus is copied when it is complete: a URL (`s3://bucket/corpus`, `gs://`) or a
    directory, empty or published to before. Only what changed is copied; measurements and the
    report stay here."""
    workers: int = 0
    """Processes on this machine; 0 is one per core. The output does not depend on it."""
    plan: bool = False
    """Say hours, files, disk and time, and write nothing."""
    shard: str = ""
    """`i/n`: do only every n-th piece of work, beginning with piece i, into the same output; the
    last one completes the corpus."""
    dask_scheduler: str = ""
    """Address of a Dask scheduler (`tcp://host:8786`) whose workers share the file system; empty
    for local processes."""
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    """Cutting of long recordings."""
    decide: DecideConfig = field(default_factory=DecideConfig)
    """What is accepted."""
    decide_only: bool = False
    """Say what the limits under `decide` would accept of what was measured, and write nothing."""
    keep_measurements: bool = True
    """Keep the audio of every candidate, also of the rejected, so that the same command with other
    limits needs no decoding: about 61 MB an hour, as much again as the corpus. The table of what
    was measured (1 MB for 5,000 segments) stays in any case."""
    max_transcribed_seconds: float = 30.0
    """Transcribed clips stay whole; longer ones are set aside."""
    max_recording_seconds: float = 86_400.0
    """Files longer than this are set aside. More than 20 minutes lie on the disk while they are
    read: 115 MB an hour."""
    decode_timeout_seconds: float = 60.0
    """CPU seconds that decoding any file may take, and 20 more for every megabyte; then its decoder
    has hung, and the file is set aside."""
    silence_dbfs: float = -70.0
    """A frame of 20 ms counts as sound where its level is above this."""
    min_sound_seconds: float = 0.1
    """A file with less sound than this is silent, and set aside."""
    max_length_difference_seconds: float = 0.5
    """A file this much shorter than its manifest says is truncated, and set aside."""
    normalizer: str = "basic"
    """Text normaliser: basic, verbatim, indic (needs the extra `indic`)."""
    digits: str = "flag"
    """Digits in transcripts: `flag` them, `keep` them without a word, or `expand` numbers that can
    be read in one way only (needs the extra `indic`); numbers in words are flagged too."""
    dev_share: float = 0.0
    """Share of the hours of each language without a split in the manifest that becomes `dev`,
    disjoint by recording and speaker."""
    test_share: float = 0.0
    """The same for `test`."""
    part_minutes: float = 0.0
    """About how much audio goes into one part file, which is one piece of work; 0 chooses 5 to 60
    minutes by the size of the input."""
    seed: int = 1
    """Decides which recordings become dev and test."""

    def validate(self) -> list[str]:
        """Returns every problem of this configuration as a sentence."""
        return [*_check_paths(self), *_check_numbers(self), *_check_names(self)]


@dataclass(kw_only=True)
class ForgetConfig:
    """What to delete from a corpus."""

    corpus: str = MISSING_VALUE
    """The corpus that `prepare` made."""
    recording: str = ""
    """Delete this recording: the label, or the path of the file where the manifest had none."""
    speaker: str = ""
    """Delete all recordings of this speaker."""
    source: str = ""
    """Only in this source; labels of speakers are unique within a source only."""

    def validate(self) -> list[str]:
        """Returns every problem of this configuration as a sentence."""
        problems = []
        if self.corpus == MISSING_VALUE:
            problems.append("`corpus` must be set: `corpus=DIR`.")
        elif is_remote(self.corpus):
            problems.append(
                f"`corpus` must be a directory of this machine, but is {self.corpus}: delete from"
                " the corpus that was published there, then publish it again."
            )
        elif not Path(self.corpus).is_dir():
            problems.append(f"`corpus` must be a directory, but {self.corpus!r} is none.")
        is_interrupted = (Path(self.corpus) / FORGET_FILE).exists()
        if bool(self.recording) == bool(self.speaker) and not is_interrupted:
            problems.append("Either `recording` or `speaker` must be set: what to delete.")
        return problems


def _check_paths(config: PrepareConfig) -> list[str]:
    problems = [
        f"`input` must name directories, archives or URLs, but {path!r} is none."
        for path in map(strip_file_scheme, config.input)
        if not is_remote(path) and not Path(path).is_dir() and not _is_archive(path)
    ]
    problems += [
        f"`input` must lie where other processes can read it, but {path!r} is in the memory of this"
        " one; write it to a directory."
        for path in config.input
        if path.startswith("memory://")
    ]
    if not config.input and not (Path(config.output) / PREPARE_FILE).is_file():
        problems.append(
            "`input` must be set: `input=DIR`, or `input=[DIR,DIR]`; only an `output` that was"
            " prepared before can be decided again without."
        )
    if config.output == MISSING_VALUE:
        problems.append("`output` must be set: `output=DIR`.")
    elif is_remote(config.output):
        problems.append(
            f"`output` must be a directory of this machine, but is {config.output}: a corpus is"
            f" made here, and copied when it is complete: `output=DIR publish={config.output}`."
        )
    elif Path(config.output).exists() and not Path(config.output).is_dir():
        problems.append(f"`output` must be a directory, but {config.output!r} is a file.")
    if config.publish and not is_remote(config.publish):
        problems += _check_publish_directory(Path(config.publish), Path(config.output))
    return problems


def _check_publish_directory(place: Path, output: Path) -> list[str]:
    here, there = output.resolve(), place.resolve()
    if here in (there, *there.parents) or there in here.parents:
        return ["`publish` must lie outside `output`, and `output` outside `publish`."]
    if place.exists() and not place.is_dir():
        return [f"`publish` must be a directory or a URL, but {str(place)!r} is a file."]
    return []


def _is_archive(path: str) -> bool:
    return path.lower().endswith(ARCHIVE_SUFFIXES) and Path(path).is_file()


def _check_numbers(config: PrepareConfig) -> list[str]:
    segment = config.segment
    limits: list[tuple[str, float, float, float]] = [
        ("workers", config.workers, 0, 4096),
        ("segment.max_segment_seconds", segment.max_segment_seconds, 1, 3600),
        ("segment.min_seconds", segment.min_seconds, 0.05, segment.max_segment_seconds / 4),
        ("segment.max_pause_seconds", segment.max_pause_seconds, 0.05, 60),
        ("segment.padding_seconds", segment.padding_seconds, 0, 5),
        ("segment.threshold", segment.threshold, 0.15, 0.99),
        (
            "max_transcribed_seconds",
            config.max_transcribed_seconds,
            segment.min_seconds,
            MAX_TRANSCRIBED_SECONDS,
        ),
        ("max_recording_seconds", config.max_recording_seconds, 1, 86_400),
        ("silence_dbfs", config.silence_dbfs, -120, 0),
        ("min_sound_seconds", config.min_sound_seconds, 0, 60),
        ("max_length_difference_seconds", config.max_length_difference_seconds, 0.01, 3600),
        ("archive.max_ratio", config.archive.max_ratio, 1, 1e9),
        ("archive.max_member_gb", config.archive.max_member_gb, 0, 1e6),
        ("archive.max_total_gb", config.archive.max_total_gb, 0, 1e9),
        ("archive.max_members", config.archive.max_members, 1, 1e12),
        ("dev_share", config.dev_share, 0, 0.5),
        ("test_share", config.test_share, 0, 0.5),
        ("part_minutes", config.part_minutes, 0, 1440),
        ("decode_timeout_seconds", config.decode_timeout_seconds, 0.1, 86_400),
        ("decide.max_fingerprint_bits", config.decide.max_fingerprint_bits, 0, 32),
    ]
    limits += [
        (f"decide.{key}", value, low, high)
        for key, (low, high) in _DECIDE_RANGES.items()
        if (value := getattr(config.decide, key)) is not None
    ]
    return [
        f"`{key}` must be {low:g} to {high:g}, but is {value:g}."
        for key, value, low, high in limits
        if not low <= value <= high  # also catches NaN
    ]


_DECIDE_RANGES: dict[str, tuple[float, float]] = {
    "min_seconds": (0, 3600),
    "max_zero_share": (0, 1),
    "max_dropout_share": (0, 1),
    "min_variation_db": (0, 100),
    "max_tone_share": (0, 1),
    "min_speech_ratio": (0, 1),
    "min_snr_db": (-20, 100),
    "min_vad_snr_db": (-100, 200),
    "max_clipped_share": (0, 1),
    "max_dc_offset": (0, 1),
    "min_loudness_lufs": (-100, 0),
    "min_bandwidth_hz": (0, 8000),
    "max_letters_per_second": (0, 1000),
    "min_letters_per_second": (0, 1000),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "segment.vad": ("silero", "webrtc"),
    "decide.undefined": ("reject", "keep"),
    "decide.duplicates": ("reject", "keep"),
    "decide.near_duplicates": ("reject", "flag", "keep"),
    "decide.split_leaks": ("reject", "report"),
    "decide.text_overlap": ("report", "leave_out", "move"),
}


def _check_names(config: PrepareConfig) -> list[str]:
    problems = []
    for key, choices in _CHOICES.items():
        section, _, name = key.partition(".")
        value = getattr(getattr(config, section), name)
        if value not in choices:
            problems.append(f"`{key}` must be one of {', '.join(choices)}, but is {value!r}.")
    try:
        get_normalizer(config.normalizer)
    except DataError:
        problems.append(
            f"`normalizer` must be one of {', '.join(NORMALIZER_NAMES)}, but is"
            f" {config.normalizer!r}."
        )
    if config.digits not in DIGIT_POLICIES:
        problems.append(
            f"`digits` must be one of {', '.join(DIGIT_POLICIES)}, but is {config.digits!r}."
        )
    if config.format and config.format not in FORMAT_NAMES:
        problems.append(
            f"`format` must be one of {', '.join(FORMAT_NAMES)}, but is {config.format!r}."
        )
    if config.language:
        try:
            parse_language(config.language)
        except DataError as error:
            problems.append(f"`language`: {error}")
    if config.shard and parse_shard(config.shard) is None:
        problems.append(
            f"`shard` must be `i/n` with 0 <= i < n, such as 0/8, but is {config.shard!r}."
        )
    return problems


def parse_shard(shard: str) -> tuple[int, int] | None:
    """Returns i and n of `i/n`; (0, 1) for an empty string; None if it is malformed."""
    if not shard:
        return 0, 1
    first, _, second = shard.partition("/")
    if not (first.isdigit() and second.isdigit()) or int(first) >= int(second):
        return None
    return int(first), int(second)
