"""Checks codes against a machine whose states are known: `speechvq tokfsm output=DIR`.

Leaves `metrics.json` and `report.html` in `output`.
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.tokfsm.config import TokfsmConfig


def run(config: TokfsmConfig) -> None:
    """Trains both models, measures them and writes the report."""
    from speechvq.deploy.progress import StepsProgress
    from speechvq.deploy.recognizer import choose_device
    from speechvq.tokfsm.experiment import run_experiment
    from speechvq.tokfsm.report import check_output, write_report

    check_output(config)
    result = run_experiment(
        config,
        device=choose_device(config.device),
        create_progress=lambda name, num_steps: StepsProgress(f"tokfsm, {name}", num_steps).advance,
    )
    print(write_report(config, result))


def main() -> None:
    """Entry point of `python -m recipes.tokfsm` and `speechvq tokfsm`."""
    launch(run, TokfsmConfig, "tokfsm")


if __name__ == "__main__":
    main()
