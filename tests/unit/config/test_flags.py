"""Paths as words and as flags."""

from __future__ import annotations

import argparse

import pytest

from speechvq.config.flags import add_word_or_flag, parse_words_and_flags


def parse(*arguments: str) -> dict[str, object]:
    parser = argparse.ArgumentParser(prog="verb")
    add_word_or_flag(parser, "model", help="what is read")
    add_word_or_flag(parser, "output", help="what is written")
    parser.add_argument("--seed", type=int, default=1)
    return vars(parse_words_and_flags(parser, ["model", "output"], arguments))


@pytest.mark.parametrize(
    "line",
    [
        "A B --seed=2",
        "A --seed 2 B",
        "--seed=2 A B",
        "--model A --output B --seed=2",
        "A --output=B --seed=2",
        "--output=B --seed=2 A",
    ],
)
def test_words_and_flags_mean_the_same(line: str) -> None:
    assert parse(*line.split()) == {"model": "A", "output": "B", "seed": 2}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "model must be given once"),
        ("A", "output must be given once"),
        ("A B --output C", "output must be given once"),
        ("--model A B --output C", "model must be given once"),
        ("--model A B", "model must be given once"),
        ("A B C", "unrecognized arguments: C"),
    ],
)
def test_paths_missing_or_given_twice_end_with_2(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*line.split())
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
