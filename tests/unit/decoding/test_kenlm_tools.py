"""KenLM's `lmplz` and `build_binary`: the tools themselves where they are on the PATH, else
stand-ins, which train nothing and note the command line that they get.
"""

import os
import shutil
from pathlib import Path

import pytest

from speechvq.decoding.config import BeamSettings, TrainLmConfig
from speechvq.decoding.contract import compare_with_vocabulary
from speechvq.decoding.language_model import load_language_model
from speechvq.decoding.lm_training import train_language_model
from speechvq.decoding.ngram import read_arpa
from speechvq.errors import DataError, NoSpaceError
from speechvq.models.vocabulary import CharacterVocabulary
from tests.unit.decoding.conftest import LETTERS_ARPA

LINES = ["a b a bab", "a b ab", "ba ab a b a bab", "b a b", "ab ab a bab"]
STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" > "$0.arguments"
if [ -f "$0.error" ]; then cat "$0.error" >&2; exit 7; fi
while [ $# -gt 0 ]; do [ "$1" = --arpa ] && arpa=$2; [ "$1" = trie ] && binary=$3; shift; done
if [ -n "$arpa" ]; then cp "$0.arpa" "$arpa"; else echo binary > "$binary"; fi
"""


@pytest.fixture
def configure(tmp_path):
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(LINES) + "\n", "utf-8")

    def create(**keys):
        return TrainLmConfig(
            language="mdw_Latn", text=[str(text)], unit="character", output=str(tmp_path / "lm"),
            **keys,
        )  # fmt: skip

    return create


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Stand-ins for both tools, before anything else on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("lmplz", "build_binary"):
        (folder / name).write_text(STAND_IN, "utf-8")
        (folder / name).chmod(0o755)
    (folder / "lmplz.arpa").write_text(LETTERS_ARPA, "utf-8")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def read_arguments(folder, name):
    return (folder / f"{name}.arguments").read_text("utf-8").splitlines()


def test_stand_ins_get_the_command_lines_of_kenlm(stand_ins, configure, tmp_path):
    summary = train_language_model(configure(order=6, min_counts=[0, 1, 3]))
    assert (summary.trainer, summary.order) == ("lmplz", 6)
    arguments = read_arguments(stand_ins, "lmplz")
    work = Path(arguments[arguments.index("--arpa") + 1]).parent
    assert arguments == [
        "--order", "6", "--text", f"{work}/text.tmp", "--arpa", f"{work}/lm.arpa",
        "-T", f"{work}/lmplz", "--discount_fallback",
        "--prune", "0", "0", "2",  # what occurs at most so often is dropped
    ]  # fmt: skip
    assert read_arguments(stand_ins, "build_binary") == [
        "trie", f"{work}/lm.arpa", f"{work}/lm.bin",
    ]  # fmt: skip
    assert not work.exists()
    assert sorted(path.name for path in (tmp_path / "lm").iterdir()) == [
        "lexicon.txt", "lm.arpa", "lm.bin", "summary.json",
    ]  # fmt: skip


@pytest.mark.parametrize("tool", ["lmplz", "build_binary"])
@pytest.mark.parametrize(
    ("message", "error", "match"),
    [
        (
            "Last input should have been poison.",
            DataError,
            "failed with exit code 7:\nreading\nLast",
        ),
        ("write: No space left on device", NoSpaceError, "disk is full"),
    ],
)
def test_a_stand_in_that_fails_leaves_nothing(
    stand_ins, configure, tmp_path, tool, message, error, match
):
    (stand_ins / f"{tool}.error").write_text(f"reading\n{message}\n", "utf-8")
    with pytest.raises(error, match=match):
        train_language_model(configure(order=6))
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "lines.txt"}


@pytest.mark.skipif(
    not (shutil.which("lmplz") and shutil.which("build_binary")), reason="KenLM's tools are absent"
)
def test_kenlm_trains_order_6_and_its_binary_says_the_same(configure, tmp_path):
    pytest.importorskip("flashlight.lib.text")
    import numpy as np

    from speechvq.decoding.flashlight_search import FlashlightSearch

    summary = train_language_model(configure(order=6))
    assert (summary.trainer, summary.order, len(summary.num_ngrams)) == ("lmplz", 6, 6)
    assert summary.num_ngrams[5] > 0
    model = load_language_model(tmp_path / "lm")
    assert model.fastest_file.name == "lm.bin"
    assert read_arpa(model.arpa).score_sentence("ab|a|bab") < 0
    vocabulary = CharacterVocabulary("ab")
    contract = compare_with_vocabulary(model, vocabulary, language="mdw_Latn", separator_id=2)
    contract.check(model)
    logits = 2 * np.random.default_rng(1).normal(size=(12, len(vocabulary)))
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    found = []
    for keeps_binary in (True, False):
        if not keeps_binary:
            (tmp_path / "lm" / "lm.bin").unlink()
        model = load_language_model(tmp_path / "lm")
        search = FlashlightSearch(vocabulary, separator_id=2, model=model, lexicon={})
        best = search.search(log_probs, BeamSettings(num_best=5))
        found.append([(one.text, round(one.score, 3)) for one in best])
    assert found[0] == found[1]
