"""Analyses what a model's codes stand for: `speechvq analyze corpus=DIR model=DIR output=DIR`.

Leaves `codes.parquet`, `representations/`, `analysis.json` and `report.html` in `output`.
"""

from __future__ import annotations

import sys

from speechvq.analysis.config import AnalyzeConfig
from speechvq.config.application import launch


def run(config: AnalyzeConfig) -> None:
    """Analyses, writes the report and says what was found."""
    from speechvq.analysis.analyze import analyze
    from speechvq.deploy.progress import ProgressLine
    from speechvq.deploy.recognizer import choose_device

    print(
        analyze(
            config,
            device=choose_device(config.device),
            create_progress=lambda seconds: ProgressLine("analyze", seconds),
            note=lambda text: print(f"analyze: {text}", file=sys.stderr),
        )
    )


def main() -> None:
    """Runs the verb `analyze`."""
    launch(run, AnalyzeConfig, "analyze")


if __name__ == "__main__":
    main()
