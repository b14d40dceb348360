"""`speechvq steer` from beginning to end on a tiny recogniser, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.steer import run
from speechvq.config.application import load_config
from speechvq.data.audio import encode_flac
from speechvq.errors import ConfigError, DataError, ModelError
from speechvq.models.directory import load_ctc_model, save_model
from speechvq.nn.bottleneck_sites import detach_bottlenecks
from speechvq.reporting.posterior_maps import name_label
from speechvq.steering.config import EditConfig, SteerConfig
from speechvq.steering.language import explain_missing
from speechvq.steering.targets import check_split

DEVICE = "cpu"


def create_experiment(tiny_directory: Path, corpus: Path, output: Path) -> SteerConfig:
    return SteerConfig(
        model=str(tiny_directory),
        corpus=str(corpus),
        concepts=str(tiny_directory.parent),
        output=str(output),
        head="joint",
        alignments=[str(corpus.parent / "phones.tsv")],
        places=2,
        num_spans=2,
        num_utterances=1,
        num_examples=2,
        device=DEVICE,
    )


@pytest.fixture
def recording(tmp_path) -> Path:
    waveform = np.random.default_rng(1).normal(0, 0.1, 16000).astype(np.float32)
    (tmp_path / "a.flac").write_bytes(encode_flac(waveform))
    return tmp_path / "a.flac"


@pytest.fixture
def by_hand(tiny_directory, recording, tmp_path) -> SteerConfig:
    edit = EditConfig(layer=0, head=1, start=0.2, end=0.5, code=7, mode="all")
    return SteerConfig(
        model=str(tiny_directory),
        audio=str(recording),
        output=str(tmp_path / "out"),
        edits=[edit],
        device=DEVICE,
    )


def read(output: str | Path) -> dict:
    return json.loads((Path(output) / "steering.json").read_text(encoding="utf-8"))


def test_the_experiment_leaves_all_arms_and_controls(tiny_directory, corpus, tmp_path, capsys):
    config = create_experiment(tiny_directory, corpus, tmp_path / "out")
    run(config)
    assert "The report is in" in capsys.readouterr().out
    found = read(config.output)
    assert found["model_digest"].startswith("sha256:")
    assert {one["key"] for one in found["all"]} == {"letter", "phone"}
    assert {one["key"] for one in found["concepts"]} == {
        *("letter:a", "letter:b", "letter:क", "letter:ख"),
        "phone:A",
    }
    assert found["skipped"] == {"phone:unheard": "no letter has a quarter of its time on dev"}
    arms = {(one["arm"], one["mode"], len(one["codes"])) for one in found["edits"]}
    assert {("codes", mode, places) for mode in ("one", "all", "append") for places in (1, 2)} <= (
        arms
    )
    assert ("random codes", "one", 2) in arms
    assert ("difference of means", "all", 2) in arms
    assert all(one["window_kl"] >= 0 for one in found["edits"])
    assert {one["num_places"] for one in found["ablations"]} == {2, 3}
    assert {(one["target"], one["source"]) for one in found["languages"]} == {
        ("mdw_Latn", "hin_Deva"),
        ("hin_Deva", "mdw_Latn"),
    }
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Languages forced" in page
    assert page.count("<audio") == 2
    with pytest.raises(ConfigError, match=r"`output` must be a new directory.*num_spans"):
        run(replace(config, num_spans=3))


def test_there_are_no_more_places_than_codebooks(tiny_directory, corpus, tmp_path):
    config = create_experiment(tiny_directory, corpus, tmp_path / "out")
    config = replace(config, places=9, concept=["letter:a"], num_examples=0)
    run(config)
    arms = {
        (one["arm"]["kind"], one["arm"]["num_places"])
        for one in read(config.output)["all"][0]["arms"]
    }
    assert {places for _, places in arms} == {1, 3}
    assert read(config.output)["language_missing"] == "`concept` names no language."


def test_codes_are_not_measured_where_they_were_chosen(tiny_directory, corpus, tmp_path):
    config = create_experiment(tiny_directory, corpus, tmp_path / "out")
    metrics = {"config": {"corpus": str(corpus), "dev_split": "dev"}, "chosen_on": ["test"]}
    shutil.copy(tiny_directory.parent / "concepts.json", tmp_path / "concepts.json")
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    with pytest.raises(DataError, match="`split` must be one on which no codes were chosen"):
        run(replace(config, concepts=str(tmp_path)))
    check_split(tmp_path, tmp_path, "test")  # another corpus
    check_split(tmp_path, corpus, "dev")


def test_one_recording_by_hand(by_hand, capsys):
    run(by_hand)
    text = capsys.readouterr().out
    assert text.startswith("before: ")
    found = read(by_hand.output)
    assert found["span_kl"] > 0
    assert found["edits"][0]["frames"][0] == 10  # filter banks: frame t is at 20 t + 17.5 ms
    assert len(found["best_labels_before"]) == len(found["best_labels_after"])
    assert "<audio" in (Path(by_hand.output) / "report.html").read_text(encoding="utf-8")


def test_one_recording_by_concept(by_hand, tiny_directory, tmp_path):
    config = replace(
        by_hand,
        edits=[],
        concepts=str(tiny_directory.parent),
        concept=["letter:क"],
        start=0.2,
        end=0.5,
        places=3,
    )
    run(config)
    found = read(config.output)
    assert [(one["place"], one["head"]) for one in found["edits"]] == [
        ("layer 0 heads", 1),
        ("layer 0 heads", 0),
        ("layer 1 feed_forward", 0),
    ]
    assert found["effect"] is not None
    run(replace(config, mode="ablate", output=str(tmp_path / "ablated")))
    codes = {one["code"] for one in read(tmp_path / "ablated")["edits"]}
    assert codes == {2, 11}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": 1}, "needs a bottleneck at layer 1 heads, but the model's are: layer 0 heads"),
        ({"layer": 9}, "needs a bottleneck at layer 9 heads"),
        ({"head": 2}, "`head` must be from 0 to 1"),
        ({"code": 12}, "`code` must be from 0 to 11"),
        ({"end": 1.5}, r"`edits\[0\].end` must be within the audio, which is 1.00 s long"),
    ],
)
def test_what_the_model_or_the_audio_lacks_is_named(by_hand, change, message):
    config = replace(by_hand, edits=[replace(by_hand.edits[0], **change)])
    with pytest.raises((ConfigError, DataError), match=message):
        run(config)
    assert not Path(by_hand.output).exists()


def test_a_model_without_bottlenecks_is_refused(by_hand, tiny_directory, tmp_path):
    model = load_ctc_model(tiny_directory)
    detach_bottlenecks(model)
    save_model(tmp_path / "plain", model)
    with pytest.raises(ModelError, match=r"`model` must have bottlenecks.*speechvq bottleneck"):
        run(replace(by_hand, model=str(tmp_path / "plain")))


def test_concepts_of_another_model_are_refused(tiny_directory, corpus, tmp_path):
    model = load_ctc_model(tiny_directory)
    with torch.no_grad():
        model.heads["joint"].bias += 1
    save_model(tmp_path / "other", model)
    shutil.copy(tiny_directory.parent / "concepts.json", tmp_path / "concepts.json")
    config = create_experiment(tmp_path / "other", corpus, tmp_path / "out")
    with pytest.raises(DataError, match="belongs to another model"):
        run(config)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"language": ["tam_Taml"]}, DataError, "`language` must be among .*mdw_Latn"),
        ({"head": "tam"}, ModelError, "`head` must be one that the model has a head for"),
        ({"head": None}, DataError, "give `head=NAME`"),
        ({"concept": ["letter:z"]}, DataError, "`concept` must be one of `concepts`"),
        ({"dev_split": "train"}, DataError, "`dev_split` must be one that"),
        ({"max_seconds": 0.5}, DataError, "`max_seconds=0.5`"),
    ],
)
def test_what_the_corpus_lacks_is_named(tiny_directory, corpus, tmp_path, changes, error, message):
    config = replace(create_experiment(tiny_directory, corpus, tmp_path / "out"), **changes)
    with pytest.raises(error, match=message):
        run(config)


def test_a_head_for_each_language_is_no_language_steering():
    text = explain_missing({"hin_Deva": ["क"], "mdw_Latn": ["a"]}, ["hin_Deva"])
    assert "hin_Deva, mdw_Latn" in text
    assert "`head=NAME`" in text
    assert "`concepts` has no codes of languages" in explain_missing({"x": []}, [])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["corpus=c", "audio=a"], "Either `audio=FILE`"),
        (["audio=a"], "either `edits="),
        (["audio=a", "concept=letter:क"], "`concept` needs `concepts=DIR`"),
        (["audio=a", "edits=[{layer: 1, code: 2}]"], r"`edits\[0\].start`"),
        (["audio=a", "edits=[{layer: 1, code: 2, start: 1, end: 2, mode: al}]"], r"\[0\].mode"),
        (["audio=a", "edits=[{layr: 1}]"], "Key 'layr' not in 'EditConfig'"),
        (["corpus=c"], "`corpus` needs `concepts=DIR`"),
        (["corpus=c", "concepts=d", "modes=[ablate]"], "`modes` must name some of"),
        (["corpus=c", "concepts=d", "concept=a"], "`concept` must be a kind"),
        (["corpus=c", "concepts=d", "split=dev"], "`split` and `dev_split` must differ"),
        (["corpus=c", "concepts=d", "window=6"], r"`off_distance` must be at least `window` \(6\)"),
        (
            ["corpus=c", "concepts=d", "concept=[phone:a]", "kinds=[letter]"],
            "must be of the `kinds`",
        ),
    ],
)
def test_keys_that_cannot_work_are_named(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(SteerConfig, "steer", ["model=m", "output=o", *overrides])


def test_edits_come_from_the_command_line():
    config = load_config(
        SteerConfig,
        "steer",
        [
            *("model=m", "output=o", "audio=a.wav", "language=hin_Deva"),
            "edits=[{layer: 3, head: 1, start: 1.2, end: 1.5, code: 17, mode: one}]",
        ],
    )
    assert config.edits == [EditConfig(layer=3, head=1, start=1.2, end=1.5, code=17, mode="one")]


def test_labels_that_charts_cannot_write_have_their_names():
    assert [name_label(one) for one in ("a", "क", "ि", "क्ष")] == [
        *("a", "KA", "sign I", "KA + sign VIRAM…"),
    ]
