"""Small language models, written as `train_lm` leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from speechvq.decoding.language_model import compute_digest

WORDS_ARPA = r"""\data\
ngram 1=5
ngram 2=6

\1-grams:
-99	<s>	-0.3
-0.6	</s>
-0.7	a	-0.2
-0.5	ab	-0.25
-1.1	bb	-0.15

\2-grams:
-0.4	<s> a
-0.9	a a
-0.3	a ab
-0.5	ab </s>
-0.8	bb a
-0.2	bb </s>

\end\
"""
LETTERS_ARPA = WORDS_ARPA.replace("ab", "|").replace("bb", "b")
WriteModel = Callable[..., Path]


@pytest.fixture
def write_model(tmp_path: Path) -> WriteModel:
    """Writes the directory of a language model of "a", "b" and "|"."""

    def write(
        name: str = "lm",
        *,
        unit: str = "word",
        arpa: str | None = None,
        lexicon: Sequence[str] = ("a\ta |", "ab\ta b |", "bb\tb b |"),
        **changes: object,
    ) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        content = arpa or (WORDS_ARPA if unit == "word" else LETTERS_ARPA)
        (directory / "lm.arpa").write_text(content, encoding="utf-8")
        (directory / "lexicon.txt").write_text("".join(f"{x}\n" for x in lexicon), "utf-8")
        summary = {
            "format": "speechvq-lm",
            "format_version": 1,
            "language": "mdw_Latn",
            "unit": unit,
            "order": 2,
            "normalizer": "basic-1",
            "word_separator": "|",
            "digest": compute_digest(directory / "lm.arpa"),
            **changes,
        }
        (directory / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        return directory

    return write
