"""Deletes a recording or a speaker from a finished corpus, everywhere.

python -m data_prep.forget corpus=DIR recording=NAME
python -m data_prep.forget corpus=DIR speaker=NAME source=NAME
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.data.config import ForgetConfig


def run(config: ForgetConfig) -> None:
    """Delete, and say how much."""
    from speechvq.data.forget import forget

    gone = forget(config)
    print(
        f"Deleted {gone.num_utterances:,} utterances and {gone.num_rejected:,} rejected segments,"
        f" {gone.seconds:.1f} s, from {config.corpus}."
    )
    if gone.commands:
        print("It still stands where the corpus was published. Publish again, to delete it there:")
    for command in gone.commands:
        print(f"  {command}")


def main() -> None:
    """Entry point of `python -m data_prep.forget` and `speechvq forget`."""
    launch(run, ForgetConfig, "forget")


if __name__ == "__main__":
    main()
