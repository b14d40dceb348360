"""Recognisers with codebooks, on real and on synthetic speech: what is measured of them."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import run_recipe

from speechvq.data.synthetic_corpus import plan_shards, synthesize_corpus

SPOKEN = ("hin_Deva", "spa_Latn")
JOINT = "mul_Zyyy"
"""The language of the recogniser that writes both."""
SENTENCES = {"train": 400, "dev": 120, "test": 120}
QUIET = (
    "log_every=25", "validate_every=100", "checkpoint_every=200", "tensorboard=false",
    "precision=fp32",
)  # fmt: skip
RATE = ("optimizer.lr=0.0005", "optimizer.warmup_share=0.1", "optimizer.hold_share=0.4")
UPPER = "layers=[2,3,4,5]"
"""Where codes are, unless a variant says `all layers`."""
CODES = (
    "codebook_size=512", "restart_every=50", "mask_prob=0.05",
    "channel_mask_prob=0.016",
)  # fmt: skip
VARIANTS = {
    "no codes": ["dense=true"],
    "k = 64": ["num_active=64"],
    "k = 8": ["num_active=8"],
    "k = 8, seed 2": ["num_active=8", "seed=2"],
    "k = 8, no restarts": ["num_active=8", "restart_every=0"],
    "k = 1": ["num_active=1"],
    "all layers, k = 8": ["num_active=8"],
    "all layers, k = 8, seed 2": ["num_active=8", "seed=2"],
    "all layers, k = 1": ["num_active=1"],
}
_PLAIN = str.maketrans({"=": "", ",": ""})


@dataclass(frozen=True)
class Case:
    """A recogniser that gets codes.

    Attributes:
        name: Of its directory.
        title: In tables.
        corpus: What it learns from and is measured on.
        keys: Which part of the corpus, and batches.
        model: Without codes.
        variants: Of `VARIANTS`, those that are trained.
        chosen: Of them, the one whose codes are read and switched.
    """

    name: str
    title: str
    corpus: Path
    keys: list[str]
    model: Path
    variants: tuple[str, ...]
    chosen: str


class Measurement:
    """All parts.

    Args:
        options: Of the command line.
    """

    def __init__(self, options: Any) -> None:
        self.options = options
        self.work: Path = options.work
        self.work.mkdir(parents=True, exist_ok=True)

    def get_hindi(self) -> Case:
        """Real speech."""
        return Case(
            "hindi",
            "Hindi, read, 47 min",
            self.options.corpus,
            ["where=source=noa_hindi", "batch.batch_seconds=32", "batch.max_seconds=20"],
            self.options.recognizer,
            ("no codes", "k = 64", "k = 8", "k = 8, seed 2", "k = 1"),
            "k = 8",
        )

    def get_spoken(self) -> Case:
        """Synthetic speech of two languages, and the recogniser of both."""
        corpus, joint = (self._prepare(name) for name in ("speech", "joint"))
        assert corpus.exists()
        keys = ["batch.batch_seconds=24", "batch.max_seconds=10"]
        trained = self.work / "spoken" / "recognizer"
        if not (trained / "summary.json").exists():
            run_recipe("finetune", joint, trained, [
                f"model={self.options.pretrained}", f"language={JOINT}", "steps=700", *keys, *QUIET,
            ])  # fmt: skip
        variants = tuple(name for name in VARIANTS if name != "k = 64")
        return Case(
            "spoken", "Hindi and Spanish, espeak-ng", joint, keys, trained / "model", variants,
            "all layers, k = 8",
        )  # fmt: skip

    def train(self, case: Case, variant: str) -> Path:
        """A recogniser with codes."""
        output = self.work / case.name / "_".join(variant.translate(_PLAIN).split())
        if not (output / "summary.json").exists():
            run_recipe("bottleneck", case.corpus, output, [
                f"model={case.model}", "steps=400", *case.keys, *QUIET, *RATE, *CODES,
                *VARIANTS[variant], *([] if variant.startswith("all layers") else [UPPER]),
            ])  # fmt: skip
        return output

    def evaluate(self, case: Case, variant: str) -> Path:
        """Scores of a recogniser with codes."""
        run = self.train(case, variant)
        return self.evaluate_model(case, run.name, run / "model")

    def evaluate_model(self, case: Case, name: str, model: Path) -> Path:
        """Scores of a recogniser on test."""
        output = self.work / case.name / f"{name}_test"
        if not (output / "metrics.json").exists():
            keys = [key for key in case.keys if key.startswith("where")]
            run_recipe("evaluate", case.corpus, output, [f"model={model}", "split=test", *keys])
        return output

    def read_lines(self, run: Path) -> list[dict[str, Any]]:
        """`metrics.jsonl` of a run."""
        text = (run / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def _prepare(self, name: str) -> Path:
        speech, corpus = self.work / "spoken" / name, self.work / "spoken" / f"{name}_corpus"
        if not corpus.exists():
            if name == "joint":
                self._relabel(speech)
            elif not speech.exists():
                shards = plan_shards(SPOKEN, SENTENCES, num_voices=16, seed=7)
                synthesize_corpus(speech, shards, num_workers=2, report=lambda done, total: None)
            run_recipe("prepare", None, corpus, [f"input=[{speech}]", "workers=2"])
        return corpus

    def _relabel(self, joint: Path) -> None:
        """The same speech under one language, for one head."""
        speech = joint.with_name("speech")
        joint.mkdir(exist_ok=True)
        if not (joint / "audio").exists():
            shutil.copytree(speech / "audio", joint / "audio", copy_function=os.link)
        text = (speech / "manifest.tsv").read_text(encoding="utf-8")
        for language in SPOKEN:
            text = text.replace(f"\t{language}\t", f"\t{JOINT}\t")
        (joint / "manifest.tsv").write_text(text, encoding="utf-8")

    def find_concepts(self, case: Case) -> Path:
        """What the codes of a recogniser stand for, beside another seed."""
        output = self.work / case.name / "concepts"
        if not (output / "concepts.json").exists():
            run_recipe("concepts", None, output, [
                f"model={self.train(case, case.chosen) / 'model'}",
                f"second={self.train(case, f'{case.chosen}, seed 2') / 'model'}",
                f"dense={self.train(case, 'no codes') / 'model'}",
                *self._choose_speech(case),
                *([] if case.name == "spoken" else [f"recognizer={self.options.aligner}"]),
            ])  # fmt: skip
        return output

    def steer(self, case: Case) -> Path:
        """What switching its codes does."""
        output = self.work / case.name / "steering"
        if not (output / "steering.json").exists():
            run_recipe("steer", None, output, [
                f"model={self.train(case, case.chosen) / 'model'}",
                f"concepts={self.find_concepts(case)}", *self._choose_speech(case),
                *(["num_spans=10"] if case.name == "spoken" else []),
            ])  # fmt: skip
        return output

    def _choose_speech(self, case: Case) -> list[str]:
        if case.name == "spoken":
            phones = self.work / "spoken" / "speech" / "phones.tsv"
            return [
                f"corpus={self._prepare('speech')}", f"alignments=[{phones}]", f"head={JOINT}",
            ]  # fmt: skip
        return [f"corpus={case.corpus}", "where=source=noa_hindi", "language=[hin_Deva]"]

    def read(self, path: Path) -> Any:
        """A JSON file."""
        return json.loads(path.read_text(encoding="utf-8"))
