"""Configuration of an analysis; imports neither torch nor Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MISSING_VALUE = "???"
"""What OmegaConf takes for "must be given"."""
MAX_SHIFT_SECONDS = 1.0
CONTROLS = ("random", "kmeans")


def list_missing(config: object, wanted: Mapping[str, str]) -> list[str]:
    """A sentence for every key that must be given and was not.

    Args:
        config: Has the keys as attributes.
        wanted: By key, what is to be given.
    """
    return [
        f"`{key}` must be given: {what}."
        for key, what in wanted.items()
        if getattr(config, key) in ("", MISSING_VALUE)
    ]


@dataclass(kw_only=True)
class PhoneSourceConfig:
    """Where the phones of utterances come from."""

    alignments: list[str] = field(default_factory=list)
    """Files of phones with times (.tsv, .TextGrid, .ctm), or directories of TextGrids."""
    tier: str | None = None
    """Tier of the phones in alignment files; null: the only one, or the one named phones."""
    alignment_shift: float = 0.0
    """Seconds that are added to all times in alignment files: below 0 where they lag."""
    gaps_are_silence: bool = False
    """Whether what an alignment leaves out is silence; false: its phone is unknown."""
    phone_map: str | None = None
    """Table with the columns phone, ipa and maybe language, which renames phones to IPA."""
    recognizer: str | None = None
    """Recogniser that aligns transcripts where no file has phones (needs the extra `phones`)."""
    min_confidence: float = 0.5
    """Words that the recogniser aligns with less confidence than this have no phones."""

    def validate_phone_sources(self) -> list[str]:
        """Returns a sentence for every problem of these keys."""
        problems = []
        if not abs(self.alignment_shift) <= MAX_SHIFT_SECONDS:
            problems.append(
                f"`alignment_shift` must be {-MAX_SHIFT_SECONDS:g} to {MAX_SHIFT_SECONDS:g} "
                f"seconds, but is {self.alignment_shift}."
            )
        if not 0 <= self.min_confidence <= 1:
            problems.append(f"`min_confidence` must be 0 to 1, but is {self.min_confidence}.")
        return problems


@dataclass(kw_only=True)
class AnalyzeConfig(PhoneSourceConfig):
    """Which model is analysed on which utterances, and where their phones come from."""

    corpus: str = MISSING_VALUE
    """Directory of the corpus, as `prepare` leaves it."""
    model: str = MISSING_VALUE
    """Directory of the model, as `pretrain`, `finetune` or `import` leave it."""
    output: str = MISSING_VALUE
    """Directory for `codes.parquet`, `representations/`, `analysis.json` and `report.html`."""
    split: list[str] = field(default_factory=lambda: ["test"])
    """Splits to read; empty for all."""
    language: list[str] = field(default_factory=list)
    """Languages to read; empty for all that the splits have."""
    where: str | None = None
    """Only rows with these values: `source=noa_hindi,speaker=x`."""
    limit: int = 0
    """At most this many utterances of each language, the first of the corpus; 0 for all."""
    min_frames: int = 30
    """Phones and codes with fewer frames are counted, but nothing is concluded from them alone;
    sharing asks for 50 in each language, whatever is smaller here."""
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))
    """Codes to compare with, on 39 MFCCs: `random` projection, `kmeans`; as many as the model's."""
    control_size: int = 320
    """Entries of the controls' codebooks where the model has none of its own."""
    layers: list[int] = field(default_factory=list)
    """Layers whose representations are kept: 0 is the first layer's input; empty for all."""
    num_sampled_frames: int = 20000
    """About how many frames of each layer are kept beside the means of all utterances; 0 keeps
    no representation at all."""
    num_attention_utterances: int = 200
    """About how many utterances, as many of each language, are watched for where attention heads
    look; 0 for none."""
    batch_seconds: float = 60.0
    """Seconds of audio in a batch, padding included. Changes speed and memory, not the result."""
    seed: int = 1
    """Of what is drawn: sampled frames, controls, permutations, bootstrap samples."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, …; `auto` takes a GPU where there is one."""

    def validate(self) -> list[str]:
        """Returns a sentence for every problem, none where all is well."""
        problems = list_missing(
            self,
            {
                "corpus": "`corpus=DIR`, a directory that `prepare` left",
                "model": "`model=DIR`, a model directory",
                "output": "`output=DIR`, where the report goes",
            },
        )
        problems += [
            f"`{key}` must be 0 or more, but is {value}."
            for key, value in (
                ("limit", self.limit),
                ("min_frames", self.min_frames),
                ("num_sampled_frames", self.num_sampled_frames),
                ("num_attention_utterances", self.num_attention_utterances),
                ("seed", self.seed),
            )
            if value < 0
        ]
        problems += [
            f"`{key}` must name each of its values once, but is {values!r}."
            for key, values in (
                ("split", self.split),
                ("language", self.language),
                ("controls", self.controls),
                ("layers", [str(layer) for layer in self.layers]),
            )
            if len(set(values)) != len(values)
        ]
        problems += [
            f"`controls` must be among {', '.join(CONTROLS)}, but has {name!r}."
            for name in self.controls
            if name not in CONTROLS
        ]
        problems += self.validate_phone_sources()
        if self.control_size < 2:
            problems.append(f"`control_size` must be 2 or more, but is {self.control_size}.")
        if not self.batch_seconds > 0:
            problems.append(f"`batch_seconds` must be positive, but is {self.batch_seconds}.")
        return problems
