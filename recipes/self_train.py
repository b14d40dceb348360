"""Self-training: a recogniser labels speech without text and learns from what it is sure of.

python -m recipes.self_train corpus=DIR pretrained=DIR language=hin_Deva output=DIR
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.self_training.config import SelfTrainConfig


def run(config: SelfTrainConfig) -> None:
    """Train in rounds, and say where the results are."""
    from speechvq.self_training.rounds import run_self_training

    path = run_self_training(config).path
    print(
        f"Recogniser: {path / 'model'}\nReport: {path / 'report.html'}\n"
        f"To correct: {path / 'doubtful.html'}"
    )


def main() -> None:
    """Entry point of `python -m recipes.self_train` and `speechvq self_train`."""
    launch(run, SelfTrainConfig, "self_train")


if __name__ == "__main__":
    main()
