"""Which directories a run takes."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from speechvq.errors import ConfigError
from speechvq.training.checkpoints import FileDigest, write_manifest
from speechvq.training.config import Resume
from speechvq.training.pretrain_config import PretrainConfig
from speechvq.training.run_directory import RunDirectory


def create_config(output: Path, **changes: object) -> PretrainConfig:
    return PretrainConfig(output=str(output), corpus=["c"], **changes)  # type: ignore[arg-type]


@pytest.fixture
def started(tmp_path: Path) -> Path:
    RunDirectory(create_config(tmp_path / "run"), "pretrain").write_config()
    return tmp_path / "run"


def test_same_configuration_goes_on(started: Path) -> None:
    RunDirectory(create_config(started), "pretrain").check()


def test_keys_without_influence_may_differ(started: Path) -> None:
    RunDirectory(
        create_config(started, num_threads=7, activation_checkpointing=True), "pretrain"
    ).check()


def test_other_configuration_is_refused_with_all_keys(started: Path) -> None:
    config = create_config(started, seed=9, steps=5)
    config.optimizer.lr = 0.5
    with pytest.raises(ConfigError) as caught:
        RunDirectory(config, "pretrain").check()
    message = str(caught.value)
    assert all(f"`{key}`" in message for key in ("seed", "steps", "optimizer.lr"))
    assert caught.value.exit_code == 2


def test_extend_allows_more_steps_only(started: Path) -> None:
    RunDirectory(create_config(started, steps=5000, resume=Resume.extend), "pretrain").check()
    with pytest.raises(ConfigError, match="seed"):
        RunDirectory(create_config(started, seed=2, resume=Resume.extend), "pretrain").check()


def test_extend_does_not_allow_fewer_steps(started: Path) -> None:
    with pytest.raises(ConfigError, match=r"`steps` must be at least .* \(1000\) .*, but is 5\."):
        RunDirectory(create_config(started, steps=5, resume=Resume.extend), "pretrain").check()


def test_other_number_of_ranks_is_refused(started: Path) -> None:
    with pytest.raises(ConfigError, match=r"`num_ranks` is 2, but the run in .* has 1"):
        RunDirectory(create_config(started), "pretrain", num_ranks=2).check()


def test_other_ranks_wait_for_rank_0(tmp_path: Path) -> None:
    config = create_config(tmp_path / "run")
    main = RunDirectory(config, "pretrain", rank=0, num_ranks=2)
    other = RunDirectory(config, "pretrain", rank=1, num_ranks=2)
    with ThreadPoolExecutor(1) as pool:
        other.check()
        waiting = pool.submit(other.write_config)
        (tmp_path / "run").mkdir()
        temporary = tmp_path / "run" / ".config.json.tmp"
        temporary.write_text("{")  # rank 0 is writing
        other.check()
        time.sleep(0.2)
        assert not waiting.done()
        temporary.unlink()
        main.check()
        main.write_config()
        waiting.result(timeout=10)
    other.check()


def test_other_ranks_do_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechvq.training.run_directory.MAX_WAIT_SECONDS", 0.1)
    other = RunDirectory(create_config(tmp_path / "run"), "pretrain", rank=1, num_ranks=2)
    with pytest.raises(ConfigError, match="Rank 0 has not begun the run"):
        other.write_config()
    assert not (tmp_path / "run").exists()


def test_other_verb_is_refused(started: Path) -> None:
    with pytest.raises(ConfigError, match="verb"):
        RunDirectory(create_config(started), "finetune").check()


def test_foreign_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds other files"):
        RunDirectory(create_config(tmp_path), "pretrain").check()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_saved_configuration_is_complete_json(started: Path) -> None:
    saved = json.loads((started / "config.json").read_text())
    assert saved["verb"] == "pretrain"
    assert saved["precision"] == "auto"
    assert saved["architecture"]["encoder"]["num_layers"] == 6


def test_last_whole_checkpoint_is_found(started: Path) -> None:
    directory = RunDirectory(create_config(started), "pretrain")
    assert directory.find_last_checkpoint() == 0
    for name in ("step_10", "step_20", "step_30", "step_40", "step_50.tmp"):
        checkpoint = started / "engine" / "checkpoints" / name
        checkpoint.mkdir(parents=True)
        (checkpoint / "trainer.pt").write_bytes(b"state")
        digest = FileDigest(5, hashlib.sha256(b"state").hexdigest())
        if name != "step_40":
            write_manifest(checkpoint, {"trainer.pt": digest}, num_ranks=1)
    (started / "engine" / "checkpoints" / "step_30" / "trainer.pt").write_bytes(b"stat")
    assert directory.find_last_checkpoint() == 20
    assert directory.drop_checkpoints(10) == 10


def test_damaged_checkpoint_is_set_aside_by_rank_0(
    started: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("step_10", b"state"), ("step_20", b"stale")):
        checkpoint = started / "engine" / "checkpoints" / name
        checkpoint.mkdir(parents=True)
        (checkpoint / "trainer.pt").write_bytes(content)
        digest = FileDigest(5, hashlib.sha256(b"state").hexdigest())
        write_manifest(checkpoint, {"trainer.pt": digest}, num_ranks=1)
    RunDirectory(create_config(started), "pretrain", rank=1).check()
    assert (started / "engine" / "checkpoints" / "step_20").is_dir()
    main = RunDirectory(create_config(started), "pretrain")
    main.check()
    assert main.find_last_checkpoint() == 10
    assert "step 20 is damaged" in capsys.readouterr().out
