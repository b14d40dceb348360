"""CTC finetuning of one or several languages, from a pretrained model or from scratch.

python -m recipes.finetune corpus=DIR model=DIR language=hin_Deva output=DIR
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.training.finetune_config import FinetuneConfig


def run(config: FinetuneConfig) -> None:
    """Finetune, or say what it would cost."""
    from speechvq.training.engine import get_rank
    from speechvq.training.finetuning import run_finetuning
    from speechvq.training.planning import print_finetune_plan

    if config.plan:
        print_finetune_plan(config)
        return
    directory = run_finetuning(config)
    if get_rank() == 0:
        print(f"Recogniser: {directory.model}\nReport: {directory.path / 'report.html'}")


def main() -> None:
    """Entry point of `python -m recipes.finetune` and `speechvq finetune`."""
    launch(run, FinetuneConfig, "finetune")


if __name__ == "__main__":
    main()
