"""Measures adapters against full finetuning; writes `docs/results/20-adapters.json`.

    python docs/measure_adapters.py --data DATA --model MODEL --work DIRECTORY --machine '…'

Five languages with minutes of transcripts (`../shared/DATA.md`): the Malayalam Speech Corpus is
split by speaker; of Common Voice, whose clips are of two to nine speakers a language, every fifth
clip is for test and every tenth for dev, by speakers that train has, too. On one pretrained
encoder: a recogniser for each language, all of it finetuned; one joint recogniser with a head a
language; and one with a head and adapters a language on the frozen encoder. Runs are resumable. Two
run at a time, with one thread each.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from measuring import (
    create_parser,
    describe_difference,
    format_rate,
    parse_path,
    read_summary,
    run_recipe,
    write_result,
)

from speechvq.deploy.evaluation_files import read_metrics
from speechvq.models.directory import load_ctc_model

LANGUAGES = {
    "mal_Mlym": "msc_malayalam",
    "tam_Taml": "common_voice",
    "pan_Guru": "common_voice",
    "asm_Beng": "common_voice",
    "ory_Orya": "common_voice",
}
"""Language: its source."""
COMMAND = "python docs/measure_adapters.py --data data --model MODEL --work work --machine '…'"
SHARES = ["dev_share=0.15", "test_share=0.2"]
CLIP_SPLITS = ["test", "train", "train", "dev", "train", "test", *["train"] * 4]
FINETUNE = ["precision=fp32", "log_every=50", "checkpoint_every=250", "tensorboard=false"]
SINGLE_STEPS = 500
JOINT_STEPS = 1500
ALPHA = 0.5
ADAPTER_DIM = 64
ADAPTER_RATES = ("1e-3", "3e-3")


@dataclass(frozen=True)
class System:
    """A way to serve the languages.

    Attributes:
        label: Name in the table.
        find: A language's run.
    """

    label: str
    find: Callable[[str], Path]


class Measurement:
    """All runs.

    Args:
        data: Directory of the sources.
        model: Pretrained model.
        work: Where the runs lie.
        machine: What it runs on.
    """

    def __init__(self, data: Path, model: Path, work: Path, machine: str) -> None:
        self.data = data
        self.model = model
        self.work = work
        self.machine = machine
        self.corpus = work / "corpus"

    def prepare(self) -> None:
        """Make a corpus of the five languages with splits of our own."""
        inputs = []
        for source in sorted(set(LANGUAGES.values())):
            inputs.append(self.work / "input" / source)
            self._copy_source(source, inputs[-1])
        run_recipe(
            "prepare", None, self.corpus,
            [f"input=[{','.join(map(str, inputs))}]", "workers=2", *SHARES],
        )  # fmt: skip

    def _copy_source(self, source: str, output: Path) -> None:
        """Copy the languages of a source, and its manifest with our splits, or none."""
        if (output / "manifest.tsv").exists():
            return
        with (self.data / source / "manifest.tsv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        chosen = [row for row in rows if LANGUAGES.get(row["language"]) == source]
        for number, row in enumerate(chosen):
            target = output / row["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.data / source / row["path"], target)
            row["split"] = CLIP_SPLITS[number % 10] if source == "common_voice" else ""
        with (output / "manifest.tsv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, list(chosen[0]), delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None
            )
            writer.writeheader()
            writer.writerows(chosen)

    def finetune(self, name: str, *keys: str) -> Path:
        """Finetune on the pretrained encoder."""
        return run_recipe(
            "finetune", self.corpus, self.work / "f" / name,
            [f"model={self.model}", *FINETUNE, *keys],
        )  # fmt: skip

    def finetune_joint(self, name: str, *keys: str) -> Path:
        """Finetune on all languages at once."""
        return self.finetune(
            name, f"language=[{','.join(LANGUAGES)}]", f"steps={JOINT_STEPS}",
            f"batch.language_alpha={ALPHA}", "validate_every=250", *keys,
        )  # fmt: skip

    def train(self) -> list[System]:
        """Train everything, two runs at a time."""
        with ThreadPoolExecutor(2) as pool:
            joint = pool.submit(self.finetune_joint, "joint")
            adapted = [
                pool.submit(
                    self.finetune_joint, f"adapters_{rate}", f"adapter_dim={ADAPTER_DIM}",
                    f"optimizer.lr={rate}",
                )
                for rate in ADAPTER_RATES
            ]  # fmt: skip
            singles = {
                code: pool.submit(
                    self.finetune, code, f"language={code}", f"steps={SINGLE_STEPS}",
                    "validate_every=125", "checkpoint_every=125", "log_every=25",
                )
                for code in LANGUAGES
            }  # fmt: skip
        best = min(
            (run.result() for run in adapted), key=lambda run: read_summary(run)["best"]["cer"]
        )
        return [
            System("each its own, all learns", lambda code: singles[code].result()),
            System("joint, all learns", lambda _: joint.result()),
            System(f"joint, adapters of {ADAPTER_DIM}, encoder frozen", lambda _: best),
        ]

    def evaluate(self, run: Path, language: str) -> Path:
        """Score a recogniser on a language's test split."""
        return run_recipe(
            "evaluate", self.corpus, self.work / "test" / f"{run.name}_{language}",
            [f"model={run / 'model'}", f"language={language}", "split=test"],
        )  # fmt: skip

    def measure(self) -> None:
        """Do everything and write it down."""
        self.prepare()
        systems = self.train()
        pairs = [(system, code) for code in LANGUAGES for system in systems]
        with ThreadPoolExecutor(2) as pool:
            paths = list(
                pool.map(lambda pair: self.evaluate(pair[0].find(pair[1]), pair[1]), pairs)
            )
        scores = {
            (system.label, code): path for (system, code), path in zip(pairs, paths, strict=True)
        }
        self._write(systems, scores)

    def _write(self, systems: list[System], scores: dict[tuple[str, str], Path]) -> None:
        rows = []
        for code in LANGUAGES:
            for system in systems:
                run = system.find(code)
                hours = read_summary(run)["corpus"]["languages"][code]["hours"]
                metrics = read_metrics(scores[system.label, code])
                rows.append(
                    [
                        code, f"{60 * hours:.1f}", system.label,
                        f"{_count_own(run, code) / 1e6:.2f}", metrics["num_utterances"],
                        format_rate(metrics, "wer"), format_rate(metrics, "cer"),
                    ]
                )  # fmt: skip
        full, joint, adapted = (system.label for system in systems)
        differences = [
            f"{code}: {describe_difference(scores[full, code], scores[adapted, code])}"
            for code in LANGUAGES
        ]
        write_result(
            "20-adapters.json",
            title="Languages with minutes of transcripts: adapters against full finetuning",
            machine=self.machine,
            command=COMMAND,
            columns=["language", "minutes of transcripts", "system", "million weights of its own",
                     "test utterances", "test WER % (95 %)", "test CER % (95 %)"],
            rows=rows,
            notes=[
                "Encoder: `tiny` after 2,400 updates, pretrained on the five sources' speech, "
                "these clips' audio included (their text was never seen). Malayalam is split by "
                f"speaker ({', '.join(SHARES)}); of the others every fifth clip is for test, every "
                "tenth for dev, by speakers that train has, too (two to nine a language). Greedy "
                "decoding, one seed.",
                f"Each its own: {SINGLE_STEPS} updates; joint: {JOINT_STEPS} updates over the five "
                f"languages, drawn with p ∝ hours^{ALPHA}; adapters chose their rate on dev among "
                f"{', '.join(ADAPTER_RATES)} ({systems[2].find('').name}).",
                "Only adapters had two rates to choose from; all others learned at the preset's "
                "1e-3. 77 of the 112 sentences of Malayalam's test stand in its training text, "
                "read by others. With 14 to 17 test utterances a language differs by luck.",
                "CER, adapters less each its own, paired by utterance: "
                + "; ".join(differences) + ".",
                "Means of the five languages' CER: "
                + "; ".join(_list_means(scores, (full, joint, adapted))) + ".",
            ],
        )  # fmt: skip


def _count_own(run: Path, language: str) -> int:
    """Weights that a language adds to what others share: all where nothing is shared."""
    model = load_ctc_model(run / "model")
    if len(model.heads) == 1:
        return sum(parameter.numel() for parameter in model.parameters())
    return sum(p.numel() for part in model.get_parts(language) for p in part.parameters())


def _list_means(scores: dict[tuple[str, str], Path], labels: tuple[str, ...]) -> Iterator[str]:
    for label in labels:
        rates = [read_metrics(scores[label, code])["cer"] for code in LANGUAGES]
        yield f"{label} {100 * sum(rates) / len(rates):.1f} %"


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "work")
    parser.add_argument("--data", type=parse_path, required=True, help="directory of the sources")
    parser.add_argument("--model", type=parse_path, required=True, help="pretrained model")
    options = parser.parse_args()
    Measurement(options.data, options.model, options.work, options.machine).measure()


if __name__ == "__main__":
    main()
