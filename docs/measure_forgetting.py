"""Measures what going on with one language forgets of others, and writes
`docs/results/13-forgetting.json`.

    python docs/measure_forgetting.py --model MODEL --corpus CORPUS --runs DIRECTORY --machine '…'

A `tiny` that was pretrained on all languages of a corpus goes on twice for as many updates: with
one language alone, and with all of them. The loss on dev is that before the first update and after
the last.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure_quantizers import run
from measure_real_speech import read_summary, write_json

COMMAND = (
    "python docs/measure_forgetting.py --model runs/pretrained/model --corpus corpus --runs runs "
    "--machine '…'"
)
STEPS = 300
PRETRAIN = ["precision=fp32", "max_dev_seconds=300", "tensorboard=false", f"steps={STEPS}"]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="what `pretrain` made of it")
    parser.add_argument("--corpus", type=Path, required=True, help="what `prepare` made")
    parser.add_argument("--runs", type=Path, required=True, help="where the runs shall lie")
    parser.add_argument("--machine", required=True, help="processor, cores, memory, GPU")
    options = parser.parse_args()
    corpus, runs, model = (
        path.absolute() for path in (options.corpus, options.runs, options.model)
    )
    keys = [*PRETRAIN, f"init={model}", f"old_corpus={corpus}"]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(run, "pretrain", corpus, runs / "forgetting" / name, [*keys, *more])
            for name, more in (("alone", ["where=source=mboshi"]), ("all", []))
        ]
        alone, together = (read_summary(job.result())["forgetting"]["old"] for job in jobs)
    rows = [
        [language, *(f"{value:.3f}" for value in (*alone[language], together[language][1]))]
        for language in sorted(alone)
    ]
    write_json(
        "13-forgetting.json",
        options.machine,
        {
            "title": "Going on with one language: what is forgotten",
            "columns": ["language", "before", "after, Mboshi alone", "after, all languages"],
            "rows": rows,
            "notes": [
                f"Contrastive loss on dev, nats a masked frame, before and after {STEPS} updates "
                "of 60 s with a learning rate that rises to the preset's 1e-3 again; one seed."
            ],
        },
        COMMAND,
    )  # fmt: skip


if __name__ == "__main__":
    main()
