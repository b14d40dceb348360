"""Finds a language model's weights on dev: `speechvq tune_lm corpus=DIR model=DIR lm=DIR`.

Saves them in the model directory, where `evaluate` and `Recognizer.load` find them.
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.decoding.config import TuneLmConfig


def run(config: TuneLmConfig) -> None:
    """Tune, and show what was tried."""
    from speechvq.deploy.tuning import describe, tune_language_model

    print(describe(tune_language_model(config), config.model))


def main() -> None:
    """Entry point of `python -m recipes.tune_lm` and `speechvq tune_lm`."""
    launch(run, TuneLmConfig, "tune_lm")


if __name__ == "__main__":
    main()
