"""Codebook features: finetunes a pretrained model or a recogniser with bottlenecks of codes.

python -m recipes.bottleneck corpus=DIR model=DIR output=DIR
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.training.bottleneck_config import BottleneckTrainConfig


def run(config: BottleneckTrainConfig) -> None:
    """Finetune, and say where the model is."""
    from speechvq.training.code_jobs import run_bottleneck
    from speechvq.training.engine import get_rank

    directory = run_bottleneck(config)
    if get_rank() == 0:
        print(f"Model with codes: {directory.model}\nReport: {directory.path / 'report.html'}")


def main() -> None:
    """Entry point of `python -m recipes.bottleneck` and `speechvq bottleneck`."""
    launch(run, BottleneckTrainConfig, "bottleneck")


if __name__ == "__main__":
    main()
