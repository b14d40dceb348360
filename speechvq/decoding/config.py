"""Configuration of an evaluation (`recipes.evaluate`); imports neither torch nor Hydra."""

from __future__ import annotations

from dataclasses import dataclass, field

MISSING_VALUE = "???"
"""What OmegaConf takes for "must be given"."""


@dataclass(kw_only=True)
class EvaluateConfig:
    """Which recogniser is scored on which utterances."""

    corpus: str = MISSING_VALUE
    """Directory of the corpus, as `prepare` leaves it."""
    model: str = MISSING_VALUE
    """Directory of the recogniser, as `finetune` leaves it."""
    output: str = MISSING_VALUE
    """Directory for `metrics.json`, `hypotheses.tsv` and `report.html`."""
    language: list[str] = field(default_factory=list)
    """Languages to score, such as `hin_Deva` or `hin_Deva,mdw_Latn`; empty for all heads of the
    model that have text in the split."""
    split: str = "test"
    """Split of the corpus to score. Tune on dev, report test once."""
    where: str | None = None
    """Only rows with these values: `source=noa_hindi,speaker=x`."""
    limit: int = 0
    """At most this many utterances of each language, the first of the corpus; 0 for all."""
    normalizer: str = "basic"
    """Text normaliser that references and hypotheses both go through before they are scored."""
    batch_seconds: float = 120.0
    """Seconds of audio in a batch, padding included. Changes speed and memory, not the result."""
    num_examples: int = 6
    """How many of the worst and how many of the best utterances the report lets one hear."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, …; `auto` takes a GPU where there is one."""

    def validate(self) -> list[str]:
        """Returns a sentence for every problem, none where all is well."""
        problems = [
            f"`{key}` must be given: {what}."
            for key, value, what in (
                ("corpus", self.corpus, "`corpus=DIR`, a directory that `prepare` left"),
                ("model", self.model, "`model=DIR`, a model directory that `finetune` left"),
                ("output", self.output, "`output=DIR`, where the report goes"),
            )
            if value in ("", MISSING_VALUE)
        ]
        if not self.split:
            problems.append(
                "`split` must name a split of the corpus, such as `test`, but is empty."
            )
        if self.limit < 0:
            problems.append(f"`limit` must be 0 (all) or more, but is {self.limit}.")
        if not self.batch_seconds > 0:
            problems.append(f"`batch_seconds` must be positive, but is {self.batch_seconds}.")
        if self.num_examples < 0:
            problems.append(f"`num_examples` must be 0 or more, but is {self.num_examples}.")
        if len(set(self.language)) != len(self.language):
            problems.append(f"`language` must name each language once, but is {self.language!r}.")
        return problems
