"""Audio from lists of URLs, one list per language, with licence and source kept.

python -m data_prep.fetch urls=hin_Deva.txt output=DIR
python -m data_prep.fetch urls=DIR output=DIR sleep_seconds=10 rate_limit_kb=500
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.data.fetch_config import FetchConfig


def run(config: FetchConfig) -> None:
    """Fetch what is missing and say what comes next."""
    from speechvq.data.fetch import FAILED_FILE, fetch_audio

    done = fetch_audio(config)
    print(f"{done.num_fetched} files fetched, {done.num_before} were there → {config.output}")
    if done.num_failed:
        print(f"{done.num_failed} could not be fetched: {config.output}/{FAILED_FILE}")
    print(f"Next: speechvq prepare input={config.output} output=CORPUS")


def main() -> None:
    """Entry point of `python -m data_prep.fetch` and `speechvq fetch`."""
    launch(run, FetchConfig, "fetch")


if __name__ == "__main__":
    main()
