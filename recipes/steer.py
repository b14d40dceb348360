"""Switches codes of a recogniser and says what it then writes: `speechvq steer model=DIR …`.

One recording (`audio=FILE`) or an experiment with controls (`corpus=DIR concepts=DIR`). Leaves
`steering.json` and `report.html` in `output`.
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.steering.config import SteerConfig


def run(config: SteerConfig) -> None:
    """Switches codes, writes the report and says what was found."""
    from speechvq.deploy.progress import ProgressLine
    from speechvq.deploy.recognizer import choose_device
    from speechvq.steering.experiment import run_experiment
    from speechvq.steering.recording import steer_recording
    from speechvq.steering.recording_report import write_recording_report
    from speechvq.steering.report import write_report
    from speechvq.steering.results import check_output

    check_output(config)
    device = choose_device(config.device)
    if config.audio is not None:
        print(write_recording_report(config, steer_recording(config, device=device)))
        return
    experiment = run_experiment(
        config,
        device=device,
        create_progress=lambda name, seconds: ProgressLine(f"steer, {name}", seconds),
    )
    print(write_report(config, experiment))


def main() -> None:
    """Runs the verb `steer`."""
    launch(run, SteerConfig, "steer")


if __name__ == "__main__":
    main()
