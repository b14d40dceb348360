"""Measures codebook features; writes `docs/results/31-…` to `34-….json`.

    python docs/measure_codebook_features.py --corpus CORPUS --recognizer HINDI --pretrained DEMO \
        --work DIRECTORY --machine '…' [--only tokfsm|cost|concepts|steering]

CORPUS is what `prepare` makes of the five sources of `../shared/DATA.md`, HINDI a recogniser
finetuned on an hour of it, DEMO what `make demo` pretrained. Half an hour to an hour of read speech
does not make a good recogniser, so that all is measured on synthetic speech as well: Hindi and
Spanish by espeak-ng, for one recogniser that writes both with the same head. Runs are resumable,
what stands is read.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import create_parser, parse_path, read_summary, run_recipe

from speechvq.data.synthetic_corpus import plan_shards, synthesize_corpus

COMMAND = (
    "python docs/measure_codebook_features.py --corpus corpus --recognizer hin_60m/model "
    "--pretrained demo/pretrained/model --work work --machine '…'"
)
SPOKEN = ("hin_Deva", "spa_Latn")
JOINT = "mul_Zyyy"
"""The language of the recogniser that writes both."""
SENTENCES = {"train": 400, "dev": 120, "test": 120}
QUIET = (
    "log_every=25", "validate_every=100", "checkpoint_every=200", "tensorboard=false",
    "precision=fp32",
)  # fmt: skip
RATE = ("optimizer.lr=0.0005", "optimizer.warmup_share=0.1", "optimizer.hold_share=0.4")
CODES = (
    "layers=[2,3,4,5]", "codebook_size=512", "restart_every=50", "mask_prob=0.05",
    "channel_mask_prob=0.016",
)  # fmt: skip
VARIANTS = {
    "no codes": ["dense=true"],
    "k = 64": ["num_active=64"],
    "k = 8": ["num_active=8"],
    "k = 8, seed 2": ["num_active=8", "seed=2"],
    "k = 8, no restarts": ["num_active=8", "restart_every=0"],
    "k = 1": ["num_active=1"],
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
    """

    name: str
    title: str
    corpus: Path
    keys: list[str]
    model: Path


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
        return Case("spoken", "Hindi and Spanish, espeak-ng", joint, keys, trained / "model")

    def train(self, case: Case, variant: str) -> Path:
        """A recogniser with codes."""
        output = self.work / case.name / "_".join(variant.translate(_PLAIN).split())
        if not (output / "summary.json").exists():
            run_recipe("bottleneck", case.corpus, output, [
                f"model={case.model}", "steps=400", *case.keys, *QUIET, *RATE, *CODES,
                *VARIANTS[variant],
            ])  # fmt: skip
        return output

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


def main() -> None:
    """Entry point."""
    parser = create_parser(__doc__, "corpus", "work")
    parser.add_argument("--recognizer", type=parse_path, required=True, help="of Hindi")
    parser.add_argument("--pretrained", type=parse_path, required=True, help="of `make demo`")
    measurement = Measurement(parser.parse_args())
    for variant in VARIANTS:
        for case in (measurement.get_hindi(), measurement.get_spoken()):
            print(read_summary(measurement.train(case, variant)))


if __name__ == "__main__":
    main()
