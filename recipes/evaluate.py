"""Scores a recogniser: `speechvq evaluate corpus=DIR model=DIR language=hin_Deva output=DIR`.

Leaves `metrics.json` (rates, intervals, counts), `hypotheses.tsv` and `report.html` in `output`.
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.decoding.config import EvaluateConfig


def run(config: EvaluateConfig) -> None:
    """Scores, writes the report and says where it is."""
    from speechvq.deploy.evaluation import evaluate
    from speechvq.deploy.evaluation_report import describe

    evaluation = evaluate(config)
    print(describe(evaluation))


def main() -> None:
    """Runs the verb `evaluate`."""
    launch(run, EvaluateConfig, "evaluate")


if __name__ == "__main__":
    main()
