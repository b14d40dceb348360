"""`python -m recipes.convert` from the outside: what it says, and exit codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.manifest import read_manifests
from speechvq.data.records import Utterance
from tests.support.runs import run_recipe


def test_convert_writes_and_says_how_much(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "corpus") as writer:
        for index, text in enumerate(("एक", None)):
            utterance = Utterance(id=f"x/{index}", language="hin_Deva", text=text, num_samples=800)
            utterance.audio = encode_flac(np.full(800, index / 10, np.float32))
            utterance.source, utterance.recording = "x", str(index)
            writer.add(utterance)
    arguments = [f"corpus={tmp_path}/corpus", f"output={tmp_path}/out", "format=openslr"]
    done = run_recipe("convert", arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"openslr, 1 utterances → {tmp_path}/out",
        "Left out, as openslr cannot express them: 1",
    ]
    (row,), _ = read_manifests([str(tmp_path / "out")])
    assert row.transcript == "एक"
    again = run_recipe("convert", [*arguments[:2], "format=kaldi"])
    assert again.returncode == 2
    assert "`format`" in again.stderr
    assert "`output`" in again.stderr
