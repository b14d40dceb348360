"""Rounds on tones: what is learned from, when they stop, how they go on."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

pytest.importorskip("fairseq2")

from speechvq.config.application import load_config
from speechvq.data.corpus import CorpusWriter, read_utterances
from speechvq.data.label_tables import read_label_table, write_label_table
from speechvq.decoding.alignment import Unit, count_edits
from speechvq.errors import ConfigError, DataError
from speechvq.json_lines import read_json_lines
from speechvq.models.build import create_ctc_model
from speechvq.models.config import CTCModelConfig, EncoderConfig, FbankConfig, Features
from speechvq.models.directory import load_ctc_model, save_model
from speechvq.models.vocabulary import UNKNOWN_ID, build_character_vocabulary
from speechvq.self_training.config import SelfTrainConfig
from speechvq.self_training.rounds import (
    SelfTraining,
    load_self_training_data,
    run_self_training,
)
from speechvq.training.recognition_data import load_transcribed
from speechvq.training.run_directory import RunDirectory
from tests.support.corpora import LETTERS, TINY_MODEL, write_tone_corpus

POISON = "zzz"


def create_config(corpus: Path, output: Path, *changes: str) -> SelfTrainConfig:
    keys = [
        f"corpus={corpus}", f"output={output}", "language=hin_Deva", "max_train_seconds=30",
        "steps=40", "log_every=40", "validate_every=40", "checkpoint_every=40",
        "batch.batch_seconds=12", "batch.max_seconds=10", "precision=fp32", "tensorboard=false",
        "optimizer.lr=5e-3", "mask_prob=0", "channel_mask_prob=0", "dropout=0", "speeds=[1.0]",
        "min_confidence=0.3", "min_agreement=0.2", "num_doubtful=5", *TINY_MODEL, *changes,
    ]  # fmt: skip
    return load_config(SelfTrainConfig, "self_train", keys)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A corpus whose texts outside of the transcribed subset are poison, and the true ones."""
    folder = tmp_path_factory.mktemp("corpus")
    counts = {"train": 60, "dev": 8, "test": 2}
    clean = write_tone_corpus(folder / "clean", languages=("hin_Deva",), counts=counts)
    config = create_config(clean, folder / "run")
    subset = set(load_transcribed(config, [])[0].ids)
    true = {}
    with CorpusWriter(folder / "poisoned", normalizer="basic-1") as writer:
        for row in read_utterances(clean):
            true[row.id] = row.text or ""
            if row.id not in subset and row.split == "train":
                row.text = POISON
            writer.add(row)
    return folder / "poisoned", true


@pytest.fixture(scope="module")
def corpus(texts: tuple[Path, dict[str, str]]) -> Path:
    return texts[0]


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser of random weights that writes something."""
    torch.manual_seed(5)
    config = CTCModelConfig(
        features=Features.fbank,
        fbank=FbankConfig(num_mels=20),
        encoder=EncoderConfig(
            num_layers=1, model_dim=16, num_heads=2, ffn_dim=16, position_kernel=8,
            position_groups=2,
        ),
    )  # fmt: skip
    model = create_ctc_model(config, {"hin_Deva": build_character_vocabulary([LETTERS])})
    head = model.heads["hin_Deva"]
    with torch.no_grad():
        head.weight.mul_(20)
        head.bias[UNKNOWN_ID] = -1e4  # a label with it would never be kept
    directory = tmp_path_factory.mktemp("models") / "model"
    save_model(directory, model)
    return directory


@pytest.mark.slow
def test_rounds_learn_from_their_own_labels(
    texts: tuple[Path, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, true = texts
    config = create_config(corpus, tmp_path / "run", "rounds=1")
    run = run_self_training(config).path
    summary = json.loads((run / "summary.json").read_text())
    seed, first = summary["rounds"]
    assert summary["best"]["cer"] == min(seed["cer"], first["cer"]) < 0.5
    assert f"round 1: learned from {first['num_kept']} of" in capsys.readouterr().out

    labels = read_label_table(run / "rounds" / "1" / "labels.tsv")
    assert 0 < len(labels) == first["num_kept"] < first["num_segments"]
    assert all("/train/" in name for name in labels)
    edits = count_edits([true[name] for name in labels], list(labels.values()), Unit.CHARACTER)
    assert edits.errors.sum() / edits.reference_lengths.sum() < 0.3

    decisions = pq.read_table(run / "rounds" / "1" / "decisions.parquet").to_pylist()
    assert {row["id"] for row in decisions if row["kept"]} == set(labels)
    assert all((row["reason"] is None) == row["kept"] for row in decisions)
    assert first["reasons"].keys() == {row["reason"] for row in decisions if not row["kept"]}
    learned = json.loads((run / "rounds" / "1" / "run" / "summary.json").read_text())
    transcribed = summary["transcribed"]["utterances"]
    assert learned["corpus"]["utterances"] == transcribed + len(labels)

    for path in run.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".tsv"):
            assert POISON not in path.read_text(encoding="utf-8"), path
    assert "z" not in load_ctc_model(run / "model").vocabularies["hin_Deva"].labels
    page = (run / "doubtful.html").read_text()
    assert page.count("data:audio/flac") == min(5, first["num_segments"] - first["num_kept"])
    assert "<svg" in (run / "report.html").read_text()

    # What people correct is a transcript of the next run.
    doubtful = list(read_table_rows(run / "doubtful.tsv"))
    rows = [(name, true[name], "x") for name in doubtful[:2]] + [(doubtful[2], "", "x")]
    rows.append((doubtful[3], "nobody looked", ""))
    write_label_table(tmp_path / "corrections.tsv", ("id", "text", "checked"), rows)
    next_config = create_config(
        corpus, tmp_path / "next", f"corrections={tmp_path / 'corrections.tsv'}"
    )
    data = load_self_training_data(next_config)
    assert len(data.pool) == first["num_segments"] - 3
    assert not set(doubtful[:3]) & set(data.pool.ids)
    assert "2 texts of" in data.notes[-1]
    assert "1 segments are marked as not to be understood" in data.notes[-1]


def read_table_rows(path: Path) -> list[str]:
    return [line.split("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()[1:]]


class SameAgain:
    """Stands for a finetuning that leaves the recogniser that it was given."""

    def __init__(self, recognizer: Path) -> None:
        self.recognizer = recognizer
        self.labels: list[list[str]] = []

    def __call__(self, config) -> RunDirectory:
        self.labels.append(config.labels)
        directory = RunDirectory(config, "finetune")
        directory.path.mkdir(parents=True, exist_ok=True)
        if not directory.model.exists():
            directory.model.symlink_to(self.recognizer)
        return directory


KEEP_ALL = (
    "min_confidence=0", "min_agreement=0", "rate_margin=1000", "keep_share=[0.5,1.0]", "rounds=5",
)  # fmt: skip


def start(config: SelfTrainConfig, train: SameAgain) -> Path:
    directory = RunDirectory(config, "self_train")
    directory.check()
    data = load_self_training_data(config)
    directory.write_config()
    SelfTraining(config, data, directory, train).run()
    return directory.path


def test_rounds_stop_when_cer_no_longer_falls_and_go_on_after_a_kill(
    corpus: Path, recognizer: Path, tmp_path: Path
) -> None:
    config = create_config(corpus, tmp_path / "run", f"model={recognizer}", "patience=2", *KEEP_ALL)
    train = SameAgain(recognizer)
    run = start(config, train)
    summary = json.loads((run / "summary.json").read_text())
    assert len(summary["rounds"]) == 3
    assert summary["best"]["round"] == 0
    assert "CER on dev did not fall in 2 rounds after round 0" in summary["stopped"]
    assert (run / "model" / "model.safetensors").read_bytes() == (
        recognizer / "model.safetensors"
    ).read_bytes()
    shares = [one["kept_seconds"] / one["seconds"] for one in summary["rounds"][1:]]
    assert 0.4 < shares[0] <= 0.5 < shares[1]
    assert [[Path(p).parent.name for p in labels] for labels in train.labels] == [["1"], ["2"]]

    # A kill in the second round, while a line was written.
    place = run / "rounds" / "2"
    whole = read_json_lines(place / "pool.jsonl")
    (place / "round.json").unlink()
    text = (place / "pool.jsonl").read_text()
    (place / "pool.jsonl").write_text(text[: len(text) * 2 // 3])
    again = SameAgain(recognizer)
    start(config, again)
    assert len(again.labels) == 1
    order = {line["id"]: line for line in read_json_lines(place / "pool.jsonl")}
    assert order == {line["id"]: line for line in whole}
    assert json.loads((run / "summary.json").read_text()) == summary


def test_a_run_that_keeps_nothing_says_why(corpus: Path, recognizer: Path, tmp_path: Path) -> None:
    config = create_config(
        corpus, tmp_path / "run", f"model={recognizer}", *KEEP_ALL, "min_word_confidence=1"
    )
    run = start(config, SameAgain(recognizer))
    stopped = json.loads((run / "summary.json").read_text())["stopped"]
    assert "Round 1 kept no label" in stopped
    assert "“a word of low confidence”" in stopped
    assert (run / "doubtful.html").exists()


def test_impossible_runs_are_refused(
    corpus: Path, recognizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = create_config(corpus, tmp_path / "a", "max_train_seconds=null")
    with pytest.raises(DataError, match="nothing to label"):
        load_self_training_data(everything)
    with pytest.raises(DataError, match="nothing says when labels do harm"):
        load_self_training_data(create_config(corpus, tmp_path / "b", "dev_split=valid"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        run_self_training(create_config(corpus, tmp_path / "c"))
