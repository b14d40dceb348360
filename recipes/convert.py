"""A corpus in the format of another tool: NeMo, fairseq, Lhotse, Hugging Face and others.

python -m recipes.convert corpus=DIR output=DIR format=nemo
python -m recipes.convert corpus=DIR output=DIR format=fairseq where=language=hin_Deva
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.data.convert_config import ConvertConfig


def run(config: ConvertConfig) -> None:
    """Convert the corpus and say how much was written."""
    from speechvq.data.convert import convert_corpus

    done = convert_corpus(config)
    print(f"{config.format}, {done.num_written:,} utterances → {config.output}")
    if done.num_left_out:
        print(f"Left out, as {config.format} cannot express them: {done.num_left_out:,}")


def main() -> None:
    """Entry point of `python -m recipes.convert` and `speechvq convert`."""
    launch(run, ConvertConfig, "convert")


if __name__ == "__main__":
    main()
