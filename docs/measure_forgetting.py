"""Measures what going on with one language forgets of others, and writes
`docs/results/13-forgetting.json`.

    python docs/measure_forgetting.py --model MODEL --corpus CORPUS --runs DIRECTORY --machine '…'

A `tiny` that was pretrained on all languages of a corpus goes on twice for as many updates: with
one language alone, and with all of them. The loss on dev is that before the first update and after
the last.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from measuring import create_parser, parse_path, read_summary, run_recipe, write_result

COMMAND = (
    "python docs/measure_forgetting.py --model runs/pretrained/model --corpus corpus --runs runs "
    "--machine '…'"
)
STEPS = 200
PRETRAIN = ["precision=fp32", "max_dev_seconds=300", "tensorboard=false", f"steps={STEPS}"]


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "corpus", "runs")
    parser.add_argument(
        "--model", type=parse_path, required=True, help="what `pretrain` made of the corpus"
    )
    options = parser.parse_args()
    corpus, runs = options.corpus, options.runs / "forgetting"
    keys = [*PRETRAIN, f"init={options.model}", f"old_corpus={corpus}"]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(run_recipe, "pretrain", corpus, runs / name, [*keys, *more])
            for name, more in (("alone", ["where=source=mboshi"]), ("all", []))
        ]
        alone, together = (read_summary(job.result())["forgetting"]["old"] for job in jobs)
    rows = [
        [language, *(f"{value:.3f}" for value in (*alone[language], together[language][1]))]
        for language in sorted(alone)
    ]
    write_result(
        "13-forgetting.json",
        title="Going on with one language: what is forgotten",
        machine=options.machine,
        command=COMMAND,
        columns=["language", "before", "after, Mboshi alone", "after, all languages"],
        rows=rows,
        notes=[
            f"Contrastive loss on dev, nats a masked frame, before and after {STEPS} updates "
            "of 60 s with a learning rate that rises to the preset's 1e-3 again; languages with a "
            "dev split; one seed."
        ],
    )


if __name__ == "__main__":
    main()
