"""Trains an n-gram language model: `speechvq train_lm corpus=DIR language=hin_Deva output=DIR`.

Leaves `lm.arpa` (and `lm.bin`), `lexicon.txt` and `summary.json` in `output`.
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.decoding.config import TrainLmConfig


def run(config: TrainLmConfig) -> None:
    """Train, and say how good it is."""
    from speechvq.decoding.lm_training import describe, train_language_model

    print(describe(train_language_model(config), config.output))


def main() -> None:
    """Entry point of `python -m recipes.train_lm` and `speechvq train_lm`."""
    launch(run, TrainLmConfig, "train_lm")


if __name__ == "__main__":
    main()
