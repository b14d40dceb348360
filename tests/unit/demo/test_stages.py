"""Stages run once, in order, and go on after an interruption."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from speechvq.demo.config import PLANS, DemoConfig, DemoPreset
from speechvq.demo.line import list_stages
from speechvq.demo.stages import (
    Stage,
    StageFailedError,
    StageLog,
    format_seconds,
    run_stages,
    run_verb,
)
from speechvq.errors import ConfigError, InterruptedRunError


@pytest.fixture
def config(tmp_path):
    return DemoConfig(output=str(tmp_path / "demo"), preset=DemoPreset.ci)


def _create_log(config):
    from pathlib import Path

    return StageLog(Path(config.output), config)


def test_each_stage_runs_once(config, capsys):
    calls = []
    stages = [
        Stage(name=name, purpose="", action=lambda name=name: calls.append(name)) for name in "ab"
    ]
    run_stages(stages[:1], _create_log(config))
    run_stages(stages, _create_log(config))
    run_stages(stages, _create_log(config))
    assert calls == ["a", "b"]
    assert "[1/2] a: done before" in capsys.readouterr().out


def test_a_failed_stage_is_not_done(config):
    def fail():
        raise OSError("disk")

    log = _create_log(config)
    with pytest.raises(OSError, match="disk"):
        run_stages([Stage(name="a", purpose="", action=fail)], log)
    assert _create_log(config).seconds == {}


@pytest.mark.parametrize("change", [{"seed": 2}, {"preset": DemoPreset.full}])
def test_a_directory_of_another_demo_is_refused(config, change):
    _create_log(config)
    other = DemoConfig(**({"output": config.output, "preset": config.preset} | change))
    with pytest.raises(ConfigError, match="holds preset=ci seed=1"):
        _create_log(other)


def test_the_number_of_workers_may_change(config):
    _create_log(config).add("a", 1.0)
    other = DemoConfig(output=config.output, preset=config.preset, workers=7)
    assert _create_log(other).seconds == {"a": 1.0}


def test_a_directory_with_other_files_is_refused_and_left_alone(config, tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="`output` must be a new directory"):
        _create_log(config)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["thesis.tex"]


def test_the_exit_code_of_a_verb_is_passed_on():
    stage = Stage(name="x", purpose="", arguments=("no_such_verb",))
    with pytest.raises(StageFailedError, match="speechvq no_such_verb") as caught:
        run_verb(stage)
    assert caught.value.exit_code == 2


def test_sigterm_is_handed_to_the_verb_which_is_waited_for(tmp_path):
    # The verb is replaced by a process that saves something before it leaves.
    saved = tmp_path / "saved"
    verb = (
        "import pathlib, signal, sys, time\n"
        "def leave(*_):\n"
        f"    time.sleep(0.3); pathlib.Path({str(saved)!r}).touch(); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    program = (
        "import subprocess, sys\n"
        "from speechvq.demo import stages\n"
        "from speechvq.errors import InterruptedRunError\n"
        "real = subprocess.Popen\n"
        f"stages.subprocess.Popen = lambda command: real([sys.executable, '-c', {verb!r}])\n"
        "try:\n"
        "    stages.run_verb(stages.Stage(name='x', purpose='', arguments=('y',)))\n"
        "except InterruptedRunError as error:\n"
        "    sys.exit(error.exit_code)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    process.stdout.close()
    assert saved.exists()


def test_interrupted_verbs_say_so(monkeypatch):
    class Ended:
        def __init__(self, command):
            pass

        def wait(self):
            return 130

    monkeypatch.setattr(subprocess, "Popen", Ended)
    with pytest.raises(InterruptedRunError, match="goes on there") as caught:
        run_verb(Stage(name="x", purpose="", arguments=("y",)))
    assert caught.value.exit_code == 130


@pytest.mark.parametrize("preset", list(DemoPreset))
def test_stages_form_a_line(preset):
    plan = PLANS[preset]
    stages = list_stages(DemoConfig(output="out dir", preset=preset), plan)
    assert len({stage.name for stage in stages}) == len(stages)
    assert set(plan.finetuned) <= set(plan.languages)
    assert len(plan.languages) >= 8
    indic = {"hin_Deva", "ben_Beng", "mar_Deva", "tam_Taml", "tel_Telu", "kan_Knda", "mal_Mlym"}
    assert len(indic & set(plan.languages)) >= 4
    made = ["out dir"]
    for stage in stages:
        keys = dict(argument.split("=", 1) for argument in stage.arguments if "=" in argument)
        for key in ("corpus", "model"):
            # What a stage reads, an earlier one has made.
            assert key not in keys or any(keys[key].startswith(path) for path in made[1:]), stage
        if "output" in keys:
            made.append(keys["output"])
    assert "'output=out dir/corpus'" in stages[1].command


@pytest.mark.parametrize(
    ("change", "key"),
    [({"output": ""}, "output"), ({"workers": 0}, "workers"), ({"seed": -1}, "seed")],
)
def test_impossible_values_are_named(change, key):
    assert [f"`{key}`" in problem for problem in DemoConfig(**change).validate()] == [True]
    assert DemoConfig().validate() == []


def test_times_are_readable():
    assert [format_seconds(value) for value in (0.4, 59.4, 61, 3599)] == [
        *("0 s", "59 s", "1:01 min", "59:59 min")
    ]


def test_the_log_is_json(config, tmp_path):
    _create_log(config).add("a", 1.234)
    content = json.loads((tmp_path / "demo" / "stages.json").read_text())
    assert content["stages"] == {"a": 1.23}
    assert content["config"]["preset"] == "ci"
