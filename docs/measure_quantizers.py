"""Measures quantisers on real speech, and writes `docs/results/10-quantizers-real.json`.

    python docs/measure_quantizers.py --corpus CORPUS --phones phones.tsv --runs DIR --machine '…'

The same `tiny` encoder is pretrained with each quantiser on the same audio, with the same updates.
How well codes name phones is measured on dev utterances of Mboshi, whose phones were aligned by
others; then some encoders are finetuned alike, on an hour of transcripts, with two seeds. Runs are
resumable: start the same line again after an interruption. Two run at a time, with one thread each;
about two hours and a half on two cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import create_parser, parse_path, read_summary, run_recipe, write_result
from numpy.typing import NDArray

from speechvq.analysis.phones import (
    compute_chance_pnmi,
    compute_phone_purity,
    compute_pnmi,
    count_pairs,
)
from speechvq.data.audio import decode_flac
from speechvq.data.corpus import read_utterances
from speechvq.data.records import SAMPLE_RATE
from speechvq.models.directory import load_pretrain_model

COMMAND = (
    "python docs/measure_quantizers.py --corpus corpus --phones mboshi/phones.tsv --runs runs "
    "--machine '…'"
)
STEPS = 500
PRETRAIN = ["precision=fp32", "max_dev_seconds=300", "tensorboard=false", f"steps={STEPS}"]
FINETUNE = [
    "precision=fp32", "validate_every=250", "checkpoint_every=250", "log_every=50",
    "tensorboard=false", "steps=500", "max_train_seconds=3600",
]  # fmt: skip
QUANTIZERS = {
    "gumbel": ("Gumbel", ["quantizer=gumbel_tiny"]),
    "simvq": ("SimVQ", ["quantizer=simvq"]),
    "simvq8k": (
        "SimVQ, one codebook",
        ["quantizer=simvq", "architecture.quantizer.num_codebooks=1",
         "architecture.quantizer.codebook_size=8192", "architecture.quantizer.code_dim=64"],
    ),
    "vq": ("VQ, straight-through", ["quantizer=vq"]),
    "ema": ("EMA with restarts", ["quantizer=ema"]),
    "fsq": ("FSQ 8·8·5", ["quantizer=fsq"]),
    "random": ("random projection", ["quantizer=random"]),
    "bestrq": (
        "random projection, prediction (BEST-RQ)",
        ["quantizer=random", "architecture.objective=prediction"],
    ),
}  # fmt: skip
"""Name of the run: name in the table, and what pretraining is told."""
FINETUNED = ("gumbel", "simvq", "vq")
LANGUAGES = {"mdw_Latn": "mboshi", "hin_Deva": "noa_hindi"}
"""Language: its source."""
SEEDS = (1, 2)


def read_phones(path: Path) -> dict[str, list[tuple[str, float, float]]]:
    """Phones of each file: name, start and end in seconds."""
    phones = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            phones[row["path"]].append(
                (row["phone"], float(row["start_seconds"]), float(row["end_seconds"]))
            )
    return phones


def label_frames(
    model_directory: Path, corpus: Path, phones: dict[str, list[tuple[str, float, float]]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Phone and codes of each frame of Mboshi's dev: (N,) and (N, G).

    A frame has the phone that is spoken at its middle; frames without one are left out.
    """
    model = load_pretrain_model(model_directory)
    numbers: dict[str, int] = {}
    labels: list[int] = []
    codes: list[NDArray[np.int64]] = []
    rows = read_utterances(
        corpus, splits=["dev"], languages=["mdw_Latn"], columns=["id", "audio", "path"]
    )
    for row in rows:
        if row.path not in phones:
            continue
        waveform = torch.from_numpy(decode_flac(row.audio))[None]
        with torch.inference_mode():
            found, _ = model.extract_codes(waveform, torch.tensor([waveform.shape[1]]))
        num_frames = found.shape[1]
        middles = (np.arange(num_frames) + 0.5) * waveform.shape[1] / num_frames / SAMPLE_RATE
        names = [name for name, _, _ in phones[row.path]]
        starts = np.array([start for _, start, _ in phones[row.path]])
        ends = np.array([end for _, _, end in phones[row.path]])
        places = np.searchsorted(starts, middles, side="right") - 1
        inside = (places >= 0) & (middles < ends[places])
        labels.extend(numbers.setdefault(names[i], len(numbers)) for i in places[inside])
        codes.append(found[0].numpy()[inside])
    return np.array(labels), np.concatenate(codes)


def describe_quantizer(name: str, directory: Path, corpus: Path, phones: Any) -> list[Any]:
    """One row of the table of codebooks."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    dev = [line for line in lines if line["split"] == "dev"][-1]
    config = json.loads((directory / "config.json").read_text())
    quantizer = config["architecture"]["quantizer"]
    size, number = quantizer["codebook_size"], quantizer["num_codebooks"]
    labels, codes = label_frames(directory / "model", corpus, phones)
    counts = count_pairs(labels, codes)
    chance = compute_chance_pnmi(labels, codes, rng=np.random.default_rng(0))
    seconds = min(line["compute_time"] for line in train) / config["log_every"]
    loss = dev.get("contrastive_loss", dev.get("prediction_loss"))
    return [
        QUANTIZERS[name][0], f"{number} x {size}", f"{number * math.log2(size):.1f}",
        f"{loss:.2f}", f"{100 * dev['accuracy']:.1f}", f"{100 * dev['equal_share']:.1f}",
        " / ".join(f"{100 * used / size:.0f}" for used in dev["used_codes"]),
        " / ".join(f"{value:.0f}" for value in dev["perplexity"]),
        f"{dev.get('joint_perplexity', dev['perplexity'][0]):.0f}",
        f"{compute_pnmi(counts):.3f}", f"{chance:.3f}", f"{compute_phone_purity(counts):.3f}",
        len(labels),
        f"{seconds:.2f}",
    ]  # fmt: skip


def finetune(options: argparse.Namespace, name: str, language: str, seed: int) -> float:
    """Best CER on dev after finetuning."""
    short = language.partition("_")[0]
    output = run_recipe(
        "finetune", options.corpus, options.runs / "f" / f"{short}_1h_{name}_s{seed}",
        [f"where=source={LANGUAGES[language]}", f"language={language}", *FINETUNE,
         f"model={options.runs / 'q' / name / 'model'}", f"seed={seed}"],
    )  # fmt: skip
    return float(read_summary(output)["best"]["cer"])


def write_codebooks(options: argparse.Namespace, directories: dict[str, Path], phones: Any) -> None:
    """Write the table of codebooks."""
    rows = [
        describe_quantizer(name, directory, options.corpus, phones)
        for name, directory in directories.items()
    ]
    write_result(
        "10-quantizers-real.json",
        title="Quantisers on real speech: codebooks after pretraining",
        machine=options.machine,
        command=COMMAND,
        columns=["quantiser", "codes", "bits", "dev loss", "dev accuracy %", "distractors equal %",
                 "used %", "perplexity", "joint perplexity", "PNMI", "PNMI by chance",
                 "phone purity", "frames", "s per update"],
        rows=rows,
        notes=[
            f"`tiny`, {STEPS} updates of 60 s, 19 languages, one seed. Loss and accuracy are "
            "not comparable between codebooks of other sizes, nor between the two tasks: a "
            "poorer codebook is easier. PNMI and purity are of the tuple of codes, on dev of "
            "Mboshi; they rise with the number of codes in use: compare at like joint "
            "perplexity. Seconds: the quickest interval of 25 updates, on one core beside "
            "another run.",
        ],
    )  # fmt: skip


def write_scores(options: argparse.Namespace, scores: dict[tuple[str, str, int], float]) -> None:
    """Write the table of error rates; what is not measured yet stays a dash."""
    texts = {key: f"{100 * score:.1f}" for key, score in scores.items()}
    write_result(
        "11-quantizers-finetuned.json",
        title="Quantisers on real speech: error rates after finetuning",
        machine=options.machine,
        command=COMMAND,
        columns=["quantiser", *(f"{code}, dev CER %, seed {seed}" for code in LANGUAGES
                                for seed in SEEDS)],
        rows=[
            [QUANTIZERS[name][0],
             *(texts.get((name, code, seed), "–") for code in LANGUAGES for seed in SEEDS)]
            for name in FINETUNED
        ],
        notes=["500 updates of 32 s on one hour of transcripts; the best validation of two. "
               "The seeds are those of finetuning."],
    )  # fmt: skip


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "corpus", "runs")
    parser.add_argument("--phones", type=parse_path, required=True, help="Mboshi's phones.tsv")
    options = parser.parse_args()
    phones = read_phones(options.phones)
    with ThreadPoolExecutor(2) as pool:
        jobs = {
            name: pool.submit(
                run_recipe, "pretrain", options.corpus, options.runs / "q" / name,
                [*PRETRAIN, *keys],
            )
            for name, (_, keys) in QUANTIZERS.items()
        }  # fmt: skip
        write_codebooks(options, {name: job.result() for name, job in jobs.items()}, phones)
        tasks = [(name, code, seed) for seed in SEEDS for name in FINETUNED for code in LANGUAGES]
        scores = {}
        for task, score in zip(
            tasks, pool.map(lambda task: finetune(options, *task), tasks), strict=True
        ):
            scores[task] = score
            write_scores(options, scores)


if __name__ == "__main__":
    main()
