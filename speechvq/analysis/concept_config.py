"""Configuration of `speechvq concepts`; imports neither torch nor Hydra."""

from __future__ import annotations

from dataclasses import dataclass, field

from speechvq.analysis.config import MISSING_VALUE, PhoneSourceConfig, list_missing


@dataclass(kw_only=True)
class ConceptsConfig(PhoneSourceConfig):
    """Which model's codes are compared with which concepts, on which utterances."""

    model: str = MISSING_VALUE
    """Directory of a model with bottlenecks of codes."""
    corpus: str = MISSING_VALUE
    """Directory of the corpus, as `prepare` leaves it."""
    output: str = MISSING_VALUE
    """Directory for `concepts.json`, `metrics.json`, `codes.parquet` and `report.html`."""
    dense: str | None = None
    """Model without bottlenecks whose neurons codes are compared with; null: the model's own, its
    bottlenecks bypassed."""
    second: str | None = None
    """Model with the same bottlenecks from another seed, whose codes are matched with these."""
    dev_split: str = "dev"
    """Split on which codes are chosen."""
    test_split: str = "test"
    """Split on which they are measured; where the corpus lacks one of the two, all utterances are
    divided by speaker."""
    language: list[str] = field(default_factory=list)
    """Languages to read; empty for all that the splits have."""
    head: str | None = None
    """The one head through which all languages go, of a recogniser with joint labels; null: each
    language has its own."""
    where: str | None = None
    """Only rows with these values: `source=noa_hindi,speaker=x`."""
    limit: int = 0
    """At most this many utterances of each language and split, the first ones; 0 for all."""
    sex_table: str | None = None
    """Table with the columns speaker and sex, and maybe source; null: sex is left out."""
    min_recall: float = 0.1
    """The code of a concept has at least this recall on dev, where one has."""
    min_support: int = 30
    """Concepts with fewer frames on dev or test are listed as rare, and enter no median."""
    min_utterances: int = 10
    """The same for concepts of whole utterances; they are rare too with fewer than 2 speakers."""
    num_permutations: int = 100
    """Permutations of labels; 0 for none."""
    num_neuron_frames: int = 8000
    """About how many frames of each split are kept to compare neurons on; 0 for no neurons."""
    num_cards: int = 4
    """Codes of each kind that are shown with audio; 0 for none."""
    batch_seconds: float = 60.0
    """Seconds of audio in a batch, padding included. Changes speed and memory, not the result."""
    seed: int = 1
    """Of permutations, of sampled frames, of a division by speaker."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, …; `auto` takes a GPU where there is one."""

    def validate(self) -> list[str]:
        """Returns a sentence for every problem, none where all is well."""
        problems = list_missing(
            self,
            {
                "model": "`model=DIR`, a model with bottlenecks",
                "corpus": "`corpus=DIR`, a directory that `prepare` left",
                "output": "`output=DIR`, where the report goes",
            },
        )
        problems += [
            f"`{key}` must be 0 or more, but is {getattr(self, key)}."
            for key in ("limit", "num_permutations", "num_neuron_frames", "num_cards", "seed")
            if getattr(self, key) < 0
        ]
        problems += [
            f"`{key}` must be 1 or more, but is {getattr(self, key)}."
            for key in ("min_support", "min_utterances")
            if getattr(self, key) < 1
        ]
        if len(set(self.language)) != len(self.language):
            problems.append(
                f"`language` must name each of its values once, but is {self.language!r}."
            )
        if self.dev_split == self.test_split:
            problems.append(
                "`dev_split` and `test_split` must differ, or codes would be chosen where they are "
                f"measured, but both are {self.dev_split!r}."
            )
        if not 0 <= self.min_recall <= 1:
            problems.append(f"`min_recall` must be 0 to 1, but is {self.min_recall}.")
        if not self.batch_seconds > 0:
            problems.append(f"`batch_seconds` must be positive, but is {self.batch_seconds}.")
        return problems + self.validate_phone_sources()
