"""Measures what self-training brings, and writes `docs/results/21-self-training.json` and its
picture.

    python docs/measure_self_training.py --corpus CORPUS --model MODEL --runs RUNS --machine '…'

Ten minutes of Mboshi are transcribed, the rest of its training split counts as untranscribed: its
text is read only here, to say how right the labels were. A recogniser is finetuned on the ten
minutes, then in rounds on its own labels too; one that knows all transcripts says what could be
had. Resumable: start the same line again after an interruption.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from measuring import (
    DOCS,
    create_parser,
    describe_difference,
    format_rate,
    parse_path,
    read_summary,
    run_recipe,
    write_result,
)

from speechvq.data.corpus import read_utterances
from speechvq.decoding.alignment import Unit, count_edits
from speechvq.deploy.evaluation_files import read_metrics
from speechvq.reporting.charts import Series, draw_lines

COMMAND = (
    "python docs/measure_self_training.py --corpus corpus --model runs/pretrained/model "
    "--runs runs --machine '…'"
)
LANGUAGE, SOURCE, MINUTES, STEPS, ROUNDS = "mdw_Latn", "mboshi", 10, 500, 3
FINETUNE = [
    f"where=source={SOURCE}", f"language={LANGUAGE}", f"steps={STEPS}", "precision=fp32",
    "validate_every=250", "checkpoint_every=250", "log_every=50", "tensorboard=false",
]  # fmt: skip


def evaluate(corpus: Path, model: Path, output: Path) -> Path:
    """Score a recogniser on test."""
    keys = [f"model={model}", f"language={LANGUAGE}", "split=test", f"where=source={SOURCE}"]
    return run_recipe("evaluate", corpus, output, keys)


def read_label_cer(run: Path, number: int, texts: dict[str, str]) -> float:
    """The true character error rate of the labels that a round kept."""
    path = run / "rounds" / str(number) / "decisions.parquet"
    rows = [row for row in pq.read_table(path).to_pylist() if row["kept"]]
    edits = count_edits(
        [texts[row["id"]] for row in rows], [row["text"] for row in rows], Unit.CHARACTER
    )
    return float(edits.errors.sum() / edits.reference_lengths.sum())


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "corpus", "runs")
    parser.add_argument(
        "--model", type=parse_path, required=True, help="what `pretrain` made of the corpus"
    )
    options = parser.parse_args()
    corpus, runs = options.corpus, options.runs / "self_training"
    run = run_recipe(
        "self_train", corpus, runs / "rounds",
        [*FINETUNE, f"pretrained={options.model}", f"max_train_seconds={60 * MINUTES}",
         f"rounds={ROUNDS}"],
    )  # fmt: skip
    whole = run_recipe(
        "finetune", corpus, runs / "all_transcripts", [*FINETUNE, f"model={options.model}"]
    )
    scored = {
        name: evaluate(corpus, model, runs / "test" / name)
        for name, model in (
            ("seed", run / "rounds" / "0" / "run" / "model"),
            ("best", run / "model"),
            ("all", whole / "model"),
        )
    }
    write(read_summary(run), run, whole, scored, corpus, options.machine)


def write(
    summary: dict[str, Any],
    run: Path,
    whole: Path,
    scored: dict[str, Path],
    corpus: Path,
    machine: str,
) -> None:
    """Write the table and the picture."""
    utterances = read_utterances(corpus, splits=["train"], languages=[LANGUAGE], columns=["text"])
    texts = {row.id: row.text or "" for row in utterances}
    best = summary["best"]["round"]
    test = {name: format_rate(read_metrics(path), "cer") for name, path in scored.items()}
    rows = []
    for one in summary["rounds"]:
        number = one["number"]
        labels = ["–"] * 3
        if number:
            true = read_label_cer(run, number, texts)
            likely = one["similar_cer"]
            labels = [
                f"{one['kept_seconds'] / 60:.0f} of {one['seconds'] / 60:.0f}",
                "–" if likely is None else f"{100 * likely:.1f}", f"{100 * true:.1f}",
            ]  # fmt: skip
        on_test = test["best"] if number == best else test["seed"] if number == 0 else ""
        rows.append([f"round {number}", *labels, format_rate(one, "cer"), on_test])
    all_dev = f"{100 * read_summary(whole)['best']['cer']:.1f}"
    rows.append(["all transcripts", "–", "–", "0", all_dev, test["all"]])
    before, after = (read_metrics(scored[name])["cer"] for name in ("seed", "best"))
    write_result(
        "21-self-training.json",
        title=f"Self-training: {MINUTES} minutes of Mboshi transcribed, the rest without text",
        machine=machine,
        command=COMMAND,
        columns=["recogniser", "minutes of labels kept", "likely CER of the labels %",
                 "their true CER %", "dev CER % (95 %)", "test CER % (95 %)"],
        rows=rows,
        notes=[
            f"{STEPS} updates a round, from the pretrained model; greedy decoding; one seed. Round "
            "0 knows the transcribed minutes alone. The likely CER is what self-training itself "
            "can know: that of dev utterances that meet the same criteria.",
            f"{summary['stopped']} Round {best} is best on dev.",
            "Paired by utterance on test, best round less round 0: "
            + describe_difference(scored["seed"], scored["best"]) + ".",
            "![error rate by round](self-training.svg)",
        ],
        headline=[
            {
                "what": f"{LANGUAGE}, {MINUTES} min of transcripts: CER on test before / after "
                "self-training on the rest without text",
                "figure": f"{100 * before:.1f} % / {100 * after:.1f} %",
            }
        ],
    )  # fmt: skip
    rounds = summary["rounds"]
    picture = draw_lines(
        [
            Series(
                name="dev",
                x=[one["number"] for one in rounds],
                y=[100 * one["cer"] for one in rounds],
                low=[100 * one["cer_interval"][0] for one in rounds],
                high=[100 * one["cer_interval"][1] for one in rounds],
            )
        ],
        x_label="round",
        y_label="CER on dev, %",
        whole_x=True,
    )
    (DOCS / "self-training.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
