"""What the scripts that measure share: results that `make_results` reads, parts of scripts in
processes of their own, and names of quantisers that stand for valid configurations.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from docs import make_results, measuring


@pytest.mark.parametrize("headline", [None, [], [{"what": "WER", "figure": "12.3 %"}]])
def test_what_is_written_is_an_entry_of_the_results(tmp_path, monkeypatch, headline):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    measuring.write_result(
        "01-one.json",
        title="A run",
        machine="2 cores",
        command="python docs/measure_one.py --machine '…'",
        columns=["language", "WER"],
        rows=[["hin_Deva", "12.3 %"]],
        notes=["One run."],
        headline=headline,
    )
    (entry,) = make_results.load_entries(tmp_path)
    assert entry["file"] == "01-one.json"
    assert entry["commands"] == ["python docs/measure_one.py --machine '…'"]
    assert entry.get("headline") == headline
    assert "| hin_Deva | 12.3 % |" in make_results.format_results([entry])


def test_recipe_runs_from_anywhere_and_its_log_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "runs" / "a"
    log = tmp_path / "runs" / "a.log"
    log.parent.mkdir()
    log.write_text("before\n")
    with pytest.raises(subprocess.CalledProcessError):
        measuring.run_recipe("pretrain", tmp_path / "none", output, ["no_such_key=1"])
    first, second, *_ = log.read_text().splitlines()
    assert first == "before"
    assert "`no_such_key` is not a key" in second
    assert f"no_such_key=1 output={output}" in capsys.readouterr().out


def test_part_of_a_script_says_its_result_in_its_last_line():
    program = "import os; print('a warning'); print('[1, \"' + os.environ['PLACE'] + '\"]')"
    assert measuring.run_part("-c", program, environment={"PLACE": "b"}) == [1, "b"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_highest_memory_is_that_of_the_process_itself():
    assert 0 < measuring.read_memory("VmRSS") <= measuring.read_memory("VmHWM")
    with pytest.raises(SystemExit, match="has no line VmNone"):
        measuring.read_memory("VmNone")


@pytest.mark.parametrize("size", measuring.FSQ_LEVELS)
@pytest.mark.parametrize(
    "kind",
    ["gumbel", "simvq", "simvq, basis learns", "vq", "vq, rotated", "ema", "ema, no restart",
     "fsq", "random"],
)  # fmt: skip
def test_every_kind_of_quantiser_is_valid(kind, size):
    config = measuring.create_quantizer_config(kind, size, num_codebooks=2, code_dim=64)
    assert config.validate() == []
    assert (config.num_codebooks, config.codebook_size) == (2, size)


def test_unknown_quantiser_is_refused():
    with pytest.raises(ValueError, match="no kind 'vqq'"):
        measuring.create_quantizer_config("vqq", 320, num_codebooks=2, code_dim=64)


def test_directories_are_absolute_and_the_machine_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parser = measuring.create_parser("What for", "runs")
    options = parser.parse_args(["--runs", "r", "--machine", "m"])
    assert (options.runs, options.machine) == (Path.cwd() / "r", "m")
    with pytest.raises(SystemExit):
        parser.parse_args(["--runs", "r"])
    assert "--machine" in capsys.readouterr().err
    parser = measuring.create_parser("What for", needs_machine=False)
    assert parser.parse_args([]).machine == ""
