"""From folders of recordings to a Parquet corpus.

python -m data_prep.prepare input=DIR output=DIR workers=N
python -m data_prep.prepare input=[DIR,DIR] output=DIR plan=true
python -m data_prep.prepare input=s3://BUCKET/DIR output=DIR publish=s3://BUCKET/CORPUS
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.data.config import PrepareConfig


def run(config: PrepareConfig) -> None:
    """Prepare the corpus, or print the plan."""
    from speechvq.data.prepare import prepare_corpus

    prepare_corpus(config)


def main() -> None:
    """Entry point of `python -m data_prep.prepare` and `speechvq prepare`."""
    launch(run, PrepareConfig, "prepare")


if __name__ == "__main__":
    main()
