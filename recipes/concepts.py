"""Finds what a model's codes stand for: `speechvq concepts model=DIR corpus=DIR output=DIR`.

Leaves `concepts.json`, `metrics.json`, `codes.parquet` and `report.html` in `output`.
"""

from __future__ import annotations

import sys

from speechvq.analysis.concept_config import ConceptsConfig
from speechvq.config.application import launch


def run(config: ConceptsConfig) -> None:
    """Finds concepts, writes the report and says what was found."""
    from speechvq.analysis.concepts import find_concepts
    from speechvq.deploy.progress import ProgressLine
    from speechvq.deploy.recognizer import choose_device

    print(
        find_concepts(
            config,
            device=choose_device(config.device),
            create_progress=lambda seconds: ProgressLine("concepts", seconds),
            note=lambda text: print(f"concepts: {text}", file=sys.stderr),
        )
    )


def main() -> None:
    """Runs the verb `concepts`."""
    launch(run, ConceptsConfig, "concepts")


if __name__ == "__main__":
    main()
