"""What a training run can be told, and what not."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechvq.models.config import VQConfig
from speechvq.training.config import Parallelism
from speechvq.training.pretrain_config import HealthAction, HealthConfig, PretrainConfig


def test_compiling_without_a_compiler_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert PretrainConfig(output="o", corpus=["c"]).validate() == []
    problems = PretrainConfig(output="o", corpus=["c"], compile=True).validate()
    assert len(problems) == 1
    assert "`compile` needs a C++ compiler" in problems[0]
    compiler = tmp_path / "clang++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    assert PretrainConfig(output="o", corpus=["c"], compile=True).validate() == []


def test_entries_that_ranks_share_out_are_not_restarted() -> None:
    config = PretrainConfig(
        output="o", corpus=["c"], health=HealthConfig(action=HealthAction.restart)
    )
    config.architecture.quantizer = VQConfig()
    assert config.validate() == []
    config.parallelism = Parallelism.fsdp
    assert ["`health.action` must not be restart" in problem for problem in config.validate()] == [
        True
    ]
