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

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import (
    create_parser,
    describe_difference,
    format_rate,
    parse_path,
    run_recipe,
    write_result,
)

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

    def is_wanted(self, case: Case, variant: str) -> bool:
        """Restarts are measured on synthetic speech alone."""
        return case.name == "spoken" or "restarts" not in variant

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

    def read(self, path: Path) -> Any:
        """A JSON file."""
        return json.loads(path.read_text(encoding="utf-8"))


def measure_tokfsm(it: Measurement) -> None:
    """The paper's own experiment."""
    rows = []
    for preset, seed in (("tiny", 1), ("tiny", 2), ("tiny", 3), ("mini", 1)):
        output = it.work / "tokfsm" / f"{preset}_{seed}"
        if not (output / "metrics.json").exists():
            run_recipe("tokfsm", None, output, [f"preset={preset}", f"seed={seed}"])
        found = it.read(output / "metrics.json")
        interchange = {row["name"]: row["divergence"] for row in found["interchange"]}
        rows.append([
            f"{preset}, seed {seed}",
            *(f"{100 * found[f'legal_transitions{end}']:.1f} %" for end in ("_dense", "")),
            *(f"{found[f'loss{end}']:.3f}" for end in ("_best", "_dense", "")),
            *(f"{found[name]:.3f}" for name in (
                "code_precision", "code_recall", "neuron_precision", "strong_neuron_precision",
                "jsd_all", "jsd_random",
            )),
            f"{interchange['all feed_forward']:.2f}",
        ])  # fmt: skip
    write_result(
        "31-tokfsm.json",
        title="The paper's experiment: a machine whose states are known",
        machine=it.options.machine,
        command=COMMAND,
        columns=[
            "run", "legal, dense", "legal, codes", "best loss", "loss, dense", "loss, codes",
            "precision of codes", "their recall", "best neurons, as the paper",
            "strongest neurons", "JSD, all codes put in", "JSD, random codes",
            "JSD, feed-forward codes",
        ],
        rows=rows,
        notes=[
            "METHODS B.6.1 asks for: legal ≥ 95 %, loss of codes ≤ dense + 0.05, precision ≥ 0.9 "
            "and ≥ neurons + 0.3, JSD of all ≤ 0.05, of all feed-forward ≤ 0.5, of random codes "
            "≥ 0.8. Precision is that of layer 0, mean over states, on other texts than those of "
            "the choice; neurons at the same recall.",
            "Strongest neurons: inner values too, of either sign, five times as many. The paper "
            "does not compare with those.",
        ],
    )  # fmt: skip


def measure_cost(it: Measurement) -> None:
    """What k costs."""
    rows = []
    for case in (it.get_hindi(), it.get_spoken()):
        dense = it.evaluate(case, "no codes")
        start = it.read(it.evaluate_model(case, "start", case.model) / "metrics.json")
        rows.append([case.title, "before", format_rate(start, "cer"), *["–"] * 6])
        for variant in VARIANTS:
            if not it.is_wanted(case, variant):
                continue
            run, result = it.train(case, variant), it.evaluate(case, variant)
            metrics, lines = it.read(result / "metrics.json"), it.read_lines(run)
            dev = [line for line in lines if line["split"] == "dev"][-1]
            own = list(dev.get("bottlenecks", {}).values())
            rows.append([
                case.title,
                variant,
                format_rate(metrics, "cer"),
                "–" if result == dense else describe_difference(dense, result),
                f"{100 * dev['cer']:.1f}",
                f"{dev['loss']:.2f}",
                *(
                    [
                        f"{100 * (1 - dev['code_usage']):.1f} %",
                        f"{dev['code_perplexity']:.0f}",
                        f"{min(min(one['perplexity']) for one in own):.0f}",
                    ]
                    if own
                    else ["–"] * 3
                ),
            ])  # fmt: skip
    write_result(
        "32-codes-cost.json",
        title="Recognisers with codes: what they cost",
        machine=it.options.machine,
        command=COMMAND,
        columns=[
            "recogniser", "400 updates with", "CER on test % (95 %)", "less that without codes",
            "CER on dev %", "loss on dev", "codes unused on dev", "perplexity of 512, mean",
            "least of 20",
        ],
        rows=rows,
        notes=[
            "Layers 2 to 5 of 6 have a codebook of 512 codes for each of 4 heads and one after the "
            "feed-forward part: 20 codebooks. All rows of a recogniser start from the same one and "
            "learn as long; `no codes` is the control. Greedy decoding; intervals and paired "
            "differences by bootstrap.",
            "Synthetic speech shows what codes do in a recogniser that recognises; its scores say "
            "nothing about human speech.",
        ],
    )  # fmt: skip


PARTS = {"tokfsm": measure_tokfsm, "cost": measure_cost}


def main() -> None:
    """Entry point."""
    parser = create_parser(__doc__, "corpus", "work")
    parser.add_argument("--recognizer", type=parse_path, required=True, help="of Hindi")
    parser.add_argument("--pretrained", type=parse_path, required=True, help="of `make demo`")
    parser.add_argument("--only", choices=PARTS, help="one part")
    measurement = Measurement(parser.parse_args())
    for name, measure in PARTS.items():
        if measurement.options.only in (None, name):
            measure(measurement)


if __name__ == "__main__":
    main()
