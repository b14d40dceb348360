"""Configurations of evaluations and language models; import neither torch nor Hydra."""

from __future__ import annotations

from dataclasses import dataclass, field

MISSING_VALUE = "???"
"""What OmegaConf takes for "must be given"."""
DECODERS = ("auto", "greedy", "beam", "reference")
LM_UNITS = ("word", "character")
LM_TRAINERS = ("auto", "kaldingram", "lmplz")
KALDINGRAM_ORDERS = range(2, 6)
LMPLZ_ORDERS = range(2, 7)


@dataclass(frozen=True, kw_only=True)
class BeamSettings:
    """Weights and limits of a beam search; all scores are natural logarithms.

    Attributes:
        lm_weight: Factor of the language model's log-probability; flashlight's and IndicWav2Vec's
            weights are for log10, 2.3 times ours.
        word_score: Added for each word, with models of words.
        beam_size: Hypotheses kept after each frame.
        beam_threshold: Hypotheses this much below the best are dropped.
        num_best: Texts to return.
    """

    lm_weight: float = 0.8
    word_score: float = 0.0
    beam_size: int = 64
    beam_threshold: float = 25.0
    num_best: int = 10


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
    decoder: str = "auto"
    """`greedy`; `beam`, by flashlight-text; `reference`, by our own search, slow; `auto`: `beam`
    with a language model, else `greedy`."""
    lm: list[str] = field(default_factory=list)
    """Language models that `train_lm` left, each for its own language. Other languages are scored
    without."""
    lm_weight: float | None = None
    """Factor of the language model's log-probability; null: as `tune_lm` found it, else 0.8."""
    word_score: float | None = None
    """Added for each word, with models of words; null: as `tune_lm` found it, else 0."""
    beam_size: int = 64
    """Hypotheses kept after each frame."""
    num_best: int = 10
    """Texts of each utterance in `n_best.jsonl`, and for the oracle error rates."""

    def get_decoder(self) -> str:
        """Returns the decoder, the one that fits where it is left open."""
        if self.decoder != "auto":
            return self.decoder
        return "beam" if self.lm else "greedy"

    def validate(self) -> list[str]:
        """Returns a sentence for every problem, none where all is well."""
        problems = _find_missing(
            ("corpus", self.corpus, "`corpus=DIR`, a directory that `prepare` left"),
            ("model", self.model, "`model=DIR`, a model directory that `finetune` left"),
            ("output", self.output, "`output=DIR`, where the report goes"),
        )
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
        return problems + self._validate_decoding()

    def _validate_decoding(self) -> list[str]:
        problems = []
        if self.decoder not in DECODERS:
            problems.append(
                f"`decoder` must be one of {', '.join(DECODERS)}, but is {self.decoder!r}."
            )
        if self.lm and self.decoder == "greedy":
            problems.append("`lm` needs a beam search, but `decoder` is greedy.")
        problems += [
            f"`{key}` weighs a language model: give one with `lm=DIR`."
            for key, value in (("lm_weight", self.lm_weight), ("word_score", self.word_score))
            if value is not None and not self.lm
        ]
        problems += [
            f"`{key}` must be 1 or more, but is {value}."
            for key, value in (("beam_size", self.beam_size), ("num_best", self.num_best))
            if value < 1
        ]
        return problems


@dataclass(kw_only=True)
class TrainLmConfig:
    """A language model, and what text it is made of."""

    language: str = MISSING_VALUE
    """Language of the text, such as `hin_Deva`."""
    output: str = MISSING_VALUE
    """Directory for `lm.arpa`, `lexicon.txt` and `summary.json`: new, empty, or an older one of the
    same kind, which is replaced."""
    corpus: str | None = None
    """Directory of a corpus: its training transcripts are text, those of its other splits must not
    be, and dev says how good the model is."""
    where: str | None = None
    """Only training transcripts of rows with these values: `source=noa_hindi`. What is kept out
    does not depend on it."""
    text: list[str] = field(default_factory=list)
    """Text files, UTF-8, a sentence a line."""
    unit: str = "word"
    """`word`: used with a lexicon, writes known words only. `character`: writes any word."""
    order: int | None = None
    """Longest n-gram; null: 3 for words, 5 for characters. 6 needs KenLM's `lmplz`."""
    prune: float = 0.0
    """N-grams are dropped whose loss raises the perplexity by less than this share: 1e-8 is
    gentle; 0 keeps all. By kaldingram only."""
    min_counts: list[int] = field(default_factory=list)
    """Least counts of 1-grams, 2-grams, …: `[0,0,2]` drops trigrams that occur once. By `lmplz`
    only: kaldingram's own cut-offs leave words with no probability at all."""
    lexicon_size: int = 0
    """Most words in the lexicon, the most frequent; 0 for all."""
    normalizer: str | None = None
    """Text normaliser; null: the corpus', or `basic` without one."""
    trainer: str = "auto"
    """`kaldingram`, KenLM's `lmplz`, or `auto`: kaldingram up to order 5."""

    def validate(self) -> list[str]:
        """Returns a sentence for every problem, none where all is well."""
        problems = _find_missing(
            ("language", self.language, "`language=hin_Deva`, whose text it is"),
            ("output", self.output, "`output=DIR`, where the language model goes"),
        )
        if not self.corpus and not self.text:
            problems.append("`corpus=DIR`, `text=FILE` or both must be given, but neither is.")
        if self.where and not self.corpus:
            problems.append("`where` needs `corpus`: it chooses among its transcripts.")
        if self.unit not in LM_UNITS:
            problems.append(f"`unit` must be one of {', '.join(LM_UNITS)}, but is {self.unit!r}.")
        if self.trainer not in LM_TRAINERS:
            problems.append(
                f"`trainer` must be one of {', '.join(LM_TRAINERS)}, but is {self.trainer!r}."
            )
        elif self.get_order() not in LMPLZ_ORDERS:
            problems.append(f"`order` must be 2 to 6, but is {self.order}.")
        elif self.trainer == "kaldingram" and self.get_order() not in KALDINGRAM_ORDERS:
            problems.append(f"`order` must be 2 to 5 with kaldingram, but is {self.order}.")
        if not 0 <= self.prune < 1:
            problems.append(f"`prune` must be 0 or more and less than 1, but is {self.prune}.")
        if self.prune and self.get_trainer() == "lmplz":
            problems.append(
                "`prune` is kaldingram's; with `lmplz` use `min_counts`, such as "
                "`min_counts=[0,0,1]`."
            )
        if self.min_counts and self.get_trainer() == "kaldingram":
            problems.append("`min_counts` is lmplz's; with kaldingram use `prune`, such as 1e-8.")
        if len(self.min_counts) > self.get_order() or any(one < 0 for one in self.min_counts):
            problems.append(
                f"`min_counts` must be at most `order` ({self.get_order()}) numbers from 0 up, "
                f"but is {self.min_counts}."
            )
        if self.lexicon_size < 0:
            problems.append(f"`lexicon_size` must be 0 (all) or more, but is {self.lexicon_size}.")
        return problems

    def get_order(self) -> int:
        """Returns the order, the unit's own where none is given."""
        return self.order if self.order is not None else 3 if self.unit == "word" else 5

    def get_trainer(self) -> str:
        """Returns who trains."""
        if self.trainer != "auto":
            return self.trainer
        return "kaldingram" if self.get_order() in KALDINGRAM_ORDERS else "lmplz"


@dataclass(kw_only=True)
class TuneLmConfig:
    """Which weights of a language model are tried on dev."""

    corpus: str = MISSING_VALUE
    """Directory of the corpus; its dev split is used, and no other."""
    model: str = MISSING_VALUE
    """Directory of the recogniser; the weights are saved there, in `decoding.json`."""
    lm: str = MISSING_VALUE
    """Directory of the language model."""
    where: str | None = None
    """Only rows with these values: `source=noa_hindi`."""
    limit: int = 0
    """At most this many utterances, the first of the corpus; 0 for all."""
    lm_weights: list[float] = field(default_factory=lambda: [0.1, 0.25, 0.5, 0.8, 1.2, 1.8])
    """Factors of the language model's log-probability (natural logarithm)."""
    word_scores: list[float] = field(default_factory=lambda: [-1.0, 0.0, 1.0, 2.5, 4.0])
    """What each word adds; with models of characters only 0 is tried."""
    metric: str = "wer"
    """`wer` or `cer`: what should be least; the other decides between equals."""
    beam_size: int = 64
    """Hypotheses kept after each frame."""
    decoder: str = "beam"
    """`beam` or `reference`."""
    normalizer: str = "basic"
    """Text normaliser of the scores."""
    batch_seconds: float = 120.0
    """Seconds of audio in a batch, padding included."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, …; `auto` takes a GPU where there is one."""

    def validate(self) -> list[str]:
        """Returns a sentence for every problem, none where all is well."""
        problems = _find_missing(
            ("corpus", self.corpus, "`corpus=DIR`, a directory that `prepare` left"),
            ("model", self.model, "`model=DIR`, a model directory that `finetune` left"),
            ("lm", self.lm, "`lm=DIR`, a directory that `train_lm` left"),
        )
        problems += [
            f"`{key}` must hold at least one number, but is empty."
            for key, values in (("lm_weights", self.lm_weights), ("word_scores", self.word_scores))
            if not values
        ]
        if any(weight < 0 for weight in self.lm_weights):
            problems.append(f"`lm_weights` must be 0 or more, but are {self.lm_weights}.")
        if self.metric not in ("wer", "cer"):
            problems.append(f"`metric` must be wer or cer, but is {self.metric!r}.")
        if self.decoder not in ("beam", "reference"):
            problems.append(f"`decoder` must be beam or reference, but is {self.decoder!r}.")
        if self.limit < 0:
            problems.append(f"`limit` must be 0 (all) or more, but is {self.limit}.")
        if self.beam_size < 1:
            problems.append(f"`beam_size` must be 1 or more, but is {self.beam_size}.")
        if not self.batch_seconds > 0:
            problems.append(f"`batch_seconds` must be positive, but is {self.batch_seconds}.")
        return problems


def _find_missing(*keys: tuple[str, str, str]) -> list[str]:
    return [
        f"`{key}` must be given: {what}."
        for key, value, what in keys
        if value in ("", MISSING_VALUE)
    ]
