"""Composition and checks of configurations, and exit codes."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from speechvq.config.application import _check, _exit_on_error, _wrap_lists, load_config
from speechvq.config.schemas import register_schemas
from speechvq.errors import ConfigError, DataError
from speechvq.models.config import Features, GumbelConfig
from speechvq.models.presets import PRESETS
from speechvq.training.config import Schedule
from speechvq.training.finetune_config import FinetuneConfig
from speechvq.training.pretrain_config import PretrainConfig

NEEDED = ["corpus=/c", "output=/o"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes_and_validates(preset: str) -> None:
    config = load_config(PretrainConfig, "pretrain", [*NEEDED, f"preset={preset}"])
    assert config.architecture.features is config.features
    finetune = load_config(
        FinetuneConfig, "finetune", [*NEEDED, "language=hin_Deva", f"preset={preset}"]
    )
    assert finetune.optimizer.schedule is Schedule.tri_stage


def test_large_carries_the_published_values() -> None:
    config = load_config(PretrainConfig, "pretrain", [*NEEDED, "preset=large"])
    encoder = config.architecture.encoder
    assert (encoder.num_layers, encoder.model_dim, encoder.num_heads) == (24, 1024, 16)
    assert config.architecture.quantizer.codebook_size == 320
    assert config.features is Features.waveform


def test_command_line_wins_over_preset() -> None:
    config = load_config(
        PretrainConfig,
        "pretrain",
        [*NEEDED, "features=waveform", "architecture.encoder.num_layers=3", "steps=7"],
    )
    assert config.architecture.features is Features.waveform
    assert config.architecture.encoder.num_layers == 3
    assert config.steps == 7


def test_texts_need_no_quotes_of_hydra() -> None:
    config = load_config(
        PretrainConfig, "pretrain", ["corpus=/my data/a=b", "output=/o (1)", "where=source=radio"]
    )
    assert config.corpus == ["/my data/a=b"]
    assert config.output == "/o (1)"
    assert config.where == "source=radio"
    config = load_config(PretrainConfig, "pretrain", ["corpus=/a,/b", "output=/o"])
    assert config.corpus == ["/a", "/b"]


def test_every_problem_is_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(
            PretrainConfig,
            "pretrain",
            ["corpu=/c", "steps=many", "optimizer.lr=-1", "architecture.encoder.num_heads=7"],
        )
    message = str(caught.value)
    assert "Did you mean `corpus`?" in message
    assert "steps=many" in message
    assert "`optimizer.lr` must be positive, but is -1" in message
    assert "num_heads" in message
    assert "`output` is required" in message


def test_key_of_a_chosen_group_may_be_set_beside_it() -> None:
    @dataclass(kw_only=True)
    class OtherConfig(GumbelConfig):
        other: int = 1

    load_config(PretrainConfig, "pretrain", NEEDED)  # registers the real ones
    ConfigStore.instance().store(
        group="quantizer", name="other", node=OtherConfig, package="architecture.quantizer"
    )
    config = load_config(
        PretrainConfig,
        "pretrain",
        [*NEEDED, "quantizer=other", "architecture.quantizer.other=7"],
    )
    assert isinstance(config.architecture.quantizer, OtherConfig)
    assert config.architecture.quantizer.other == 7


def check(*arguments: str) -> None:
    register_schemas("pretrain", PretrainConfig)
    _check("pretrain", PretrainConfig, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "rewritten"),
    [
        (["corpus=/a"], ["corpus=[/a]"]),
        (["corpus=/a,/b c"], ["corpus=[/a],['/b c']"]),
        (["corpus=[/a,/b]"], ["corpus=[/a,/b]"]),
        (["where=source=x,source=y"], ["where='source=x','source=y'"]),
        (["where='source=x,speaker=y'"], ["where='source=x,speaker=y'"]),
        (["output=/o_${seed}", "seed=range(1,4)"], ["output='/o_${seed}'", "seed=range(1,4)"]),
        (["output=choice(/a,/b)"], ["output=choice(/a,/b)"]),
    ],
)
def test_commas_of_a_sweep_part_its_runs(arguments: list[str], rewritten: list[str]) -> None:
    assert _wrap_lists(PretrainConfig, arguments, is_sweep=True) == rewritten


def test_sweeps_are_checked_before_their_first_run() -> None:
    check("-m", "corpus=/c", "output=/o_${seed}", "seed=range(1,4)", "where=source=x,source=y")
    with pytest.raises(ConfigError) as caught:
        check("--multirun", "corpus=/c", "output=/a,/b", "stepz=5", "steps=5,0", "log_every=7")
    message = str(caught.value)
    assert "Did you mean `steps`?" in message
    assert "`steps` must be at least 1, but is 0" in message
    assert message.count("must be a multiple of `log_every`") == 2
    assert "`corpus`" not in message


@pytest.mark.parametrize(
    "override",
    [
        "log_every=7",
        "batch.batch_seconds=1",
        "batch.min_seconds=99",
        "optimizer.warmup_share=1.5",
        "architecture.mask_prob=1.5",
        "architecture.quantizer.code_dim=255",
        "optimizer.schedule=tri_stage",
        "precision=fp16",
        "steps=0",
        "batch.num_workers=0",
        "batch.max_seconds=nan",
        "optimizer.lr=nan",
        "optimizer.lr=inf",
        "optimizer.eps=0",
        "optimizer.weight_decay=-1",
        "optimizer.warmup_share=-0.1",
        "seed=-1",
        "num_threads=0",
        "max_dev_seconds=0",
        "languages=hin_Deva,hindi",
        "architecture.features=waveform",
        "architecture.encoder.conv_kernel=4",
        "architecture.encoder.conv_kernel=-1",
    ],
)
def test_impossible_values_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=override.split("=")[0].rsplit(".", maxsplit=1)[-1]):
        load_config(PretrainConfig, "pretrain", [*NEEDED, override])


@pytest.mark.parametrize(
    "override",
    [
        "language=hindi",
        "dropout=1.5",
        "layer_drop_prob=1",
        "parallelism=fsdp",
        "max_train_seconds=0",
        "max_train_seconds=nan",
    ],
)
def test_impossible_values_of_finetuning_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=f"`{override.split('=')[0]}`"):
        load_config(FinetuneConfig, "finetune", [*NEEDED, "language=hin_Deva", override])


@pytest.mark.parametrize("other", ["features=waveform"])
def test_codebooks_are_not_placed_where_that_means_nothing(other: str) -> None:
    load_config(PretrainConfig, "pretrain", [*NEEDED, "quantizer_init=auto", other])
    with pytest.raises(ConfigError, match="`quantizer_init` must be"):
        load_config(PretrainConfig, "pretrain", [*NEEDED, "quantizer_init=kmeans", other])


def test_layer_drop_is_refused_with_sharded_parameters() -> None:
    load_config(PretrainConfig, "pretrain", [*NEEDED, "preset=tiny", "parallelism=fsdp"])
    with pytest.raises(ConfigError, match=r"layer_drop_prob` must be 0 with `parallelism=fsdp`"):
        load_config(PretrainConfig, "pretrain", [*NEEDED, "preset=base", "parallelism=fsdp"])


def run_recipe(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )


def test_bad_configuration_exits_2_and_writes_nothing(checkout: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = run_recipe(checkout, "recipes.pretrain", f"output={output}", "stepz=3")
    assert result.returncode == 2
    assert "`stepz` is not a key of this run. Did you mean `steps`?" in result.stderr
    assert "`corpus` is required" in result.stderr
    assert "Traceback" not in result.stderr
    assert not output.exists()


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_configuration_is_printed_without_torch(checkout: Path, verb: str) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{verb}', '--cfg', 'job']\n"
        f"try: runpy.run_module('recipes.{verb}', run_name='__main__')\n"
        "finally: assert 'torch' not in sys.modules, 'torch was imported'"
    )
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "num_layers: 6" in result.stdout
    # Under a second on a quiet machine (docs/results.md); the bound leaves room for a busy one.
    assert time.perf_counter() - start < 5


def fail_with(error: Exception, cause: Exception | None) -> Callable[[], None]:
    def fail() -> None:
        raise error from cause

    return fail


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.pt"), None),
        (RuntimeError("A system error occurred."), OSError(errno.ENOSPC, "No space left", "a.pt")),
        (RuntimeError("I/O error: No space left on device (os error 28)"), None),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a.pt"), None),
        (RuntimeError("A system error occurred."), OSError(errno.EFBIG, "File too large")),
        (RuntimeError("I/O error: File too large (os error 27)"), None),
    ],
)
def test_full_disk_exits_4_whatever_is_around_it(
    error: Exception, cause: Exception | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        _exit_on_error(fail_with(error, cause))
    assert caught.value.code == 4
    assert "The disk is full" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "denied"), ValueError("a defect")])
def test_other_errors_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        _exit_on_error(fail_with(error, None))


@pytest.mark.parametrize(
    ("rank", "error", "shown"),
    [
        ("0", DataError("bad row"), "speechvq: bad row\n"),
        ("1", DataError("bad row"), "speechvq (rank 1): bad row\n"),
        ("0", ConfigError(["`a` is wrong."]), "speechvq: - `a` is wrong.\n"),
        ("1", ConfigError(["`a` is wrong."]), ""),
    ],
)
def test_what_one_rank_meets_is_shown_by_it(
    rank: str,
    error: Exception,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit) as caught:
        _exit_on_error(fail_with(error, None))
    assert caught.value.code == 2
    assert capsys.readouterr().err == shown
