"""Contrastive pretraining on untranscribed speech.

python -m recipes.pretrain corpus=DIR output=DIR preset=tiny
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.training.pretrain_config import PretrainConfig


def run(config: PretrainConfig) -> None:
    """Pretrain, or say what it would cost."""
    from speechvq.training.engine import get_rank
    from speechvq.training.planning import print_pretrain_plan
    from speechvq.training.pretraining import run_pretraining

    if config.plan:
        print_pretrain_plan(config)
        return
    directory = run_pretraining(config)
    if get_rank() == 0:
        print(f"Pretrained model: {directory.model}\nReport: {directory.path / 'report.html'}")


def main() -> None:
    """Entry point of `python -m recipes.pretrain` and `speechvq pretrain`."""
    launch(run, PretrainConfig, "pretrain")


if __name__ == "__main__":
    main()
