"""The machine of states, its labels, and the files of the experiment."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch

from speechvq.config.application import load_config
from speechvq.errors import ConfigError
from speechvq.nn.bottleneck_sites import list_bottlenecks
from speechvq.nn.places import Place, Site
from speechvq.tokfsm.config import CodeInit, TokfsmConfig
from speechvq.tokfsm.experiment import compute_best_loss, run_experiment
from speechvq.tokfsm.fitting import add_codebooks, create_token_model
from speechvq.tokfsm.interchange import compute_divergence
from speechvq.tokfsm.machine import StateMachine
from speechvq.tokfsm.report import check_output, write_report
from speechvq.tokfsm.state_codes import label_state_digits, label_states, read_neurons
from speechvq.tokfsm.token_model import TokenModel

SMALL = {
    "num_states": 9,
    "num_edges": 3,
    "base": 3,
    "num_digits": 8,
    "model_dim": 16,
    "batch_size": 16,
    "dense_steps": 4,
    "steps": 5,
    "codebook_size": 12,
    "restart_every": 2,
    "num_eval_texts": 50,
    "num_pairs": 20,
}


def create_machine() -> StateMachine:
    return StateMachine.create(9, 3, 3, torch.Generator().manual_seed(0))


def test_texts_are_walks() -> None:
    machine = create_machine()
    texts = machine.draw_texts(200, 20, torch.Generator().manual_seed(1))
    assert texts.shape == (200, 21)
    assert (texts[:, 0] == machine.base).all()
    assert machine.find_legal(texts).all()
    states = machine.read_states(texts)
    assert states.unique().tolist() == list(range(9))
    assert [len(set(row)) for row in machine.edges.tolist()] == [3] * 9
    seen = {(int(a), int(b)) for row in states for a, b in itertools.pairwise(row)}
    assert len(seen) == 27  # every edge, and none else
    changed = texts.clone()
    changed[0, 3] = machine.base
    assert not machine.find_legal(changed)[0, :2].any()
    assert machine.find_legal(changed)[1:].all()
    random = torch.randint(0, 3, (500, 21), generator=torch.Generator().manual_seed(2))
    assert float(machine.find_legal(random).float().mean()) == pytest.approx(1 / 3, abs=0.03)


def test_first_digits_of_next_states() -> None:
    machine = StateMachine(torch.tensor([[1, 2], [2, 3], [0, 3], [0, 1]]), 2)
    expected = [[0.5, 0.5, 0], [0, 1, 0], [0.5, 0.5, 0], [1, 0, 0]]
    assert machine.list_first_digits().tolist() == expected


def test_labels_stand_where_a_state_is_known() -> None:
    machine = StateMachine(torch.tensor([[1, 2], [2, 3], [0, 3], [0, 1]]), 2)
    texts = torch.tensor([[2, 0, 1, 1, 0, 0, 0]])  # states 1, 2, 0
    states = label_states(machine, texts)
    assert states.labels.tolist() == [[-1, -1, 1, -1, 2, -1]]
    digits = label_state_digits(machine, texts)
    # Possible are 00, 01, 11, 20, 21, 30 (state and first digit of the next one).
    assert digits.num_labels == 6
    assert digits.labels.tolist() == [[-1, -1, -1, 2, -1, 3]]


def test_model_looks_back_only() -> None:
    torch.manual_seed(0)
    model = TokenModel(4, 9, num_layers=2, model_dim=16, num_heads=4).eval()
    texts = torch.randint(0, 4, (3, 9))
    logits = model(texts)
    changed = texts.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 4
    assert torch.equal(model(changed)[:, :5], logits[:, :5])
    assert not torch.equal(model(changed)[:, 5:], logits[:, 5:])
    torch.testing.assert_close(model(texts[:, :4]), logits[:, :4])
    assert [one.shape for one in read_neurons(model, texts)] == [(24, 32), (24, 128)]
    written = model.write(texts[:, :1], 8, torch.Generator().manual_seed(0))
    assert written.shape == (3, 9)


def test_divergence_by_hand() -> None:
    first, second = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
    assert float(compute_divergence(first, second)) == pytest.approx(math.log(2))
    assert float(compute_divergence(first, first)) == 0.0


def test_codebooks_stand_where_they_are_asked_for() -> None:
    machine = create_machine()
    config = TokfsmConfig(output="x", **SMALL, sites=[Site.feed_forward], code_init=CodeInit.random)
    model = create_token_model(config, machine)
    add_codebooks(model, config, machine, torch.Generator().manual_seed(0))
    expected = [Place(0, Site.feed_forward), Place(1, Site.feed_forward)]
    assert list(list_bottlenecks(model)) == expected


def test_experiment_leaves_its_files(tmp_path: Path) -> None:
    config = TokfsmConfig(output=str(tmp_path / "tokfsm"), **SMALL)
    steps: dict[str, list[float]] = {}
    results = [
        run_experiment(
            config,
            device=torch.device("cpu"),
            create_progress=lambda name, _: steps.setdefault(name, []).append,
        )
        for _ in range(2)
    ]
    assert [len(losses) for losses in steps.values()] == [2 * 4, 2 * 5]
    check_output(config)
    sentence = write_report(config, results[0])
    assert "report.html" in sentence
    metrics = json.loads((tmp_path / "tokfsm" / "metrics.json").read_text())
    for key in ("legal_transitions", "code_precision", "neuron_precision", "jsd_all", "jsd_random"):
        assert metrics[key] >= 0.0, key
    assert len(metrics["states"]) == 2 * (4 + 1)
    assert len(metrics["states"][0]["concepts"]) == 9
    assert metrics["loss_best"] == compute_best_loss(config)
    page = (tmp_path / "tokfsm" / "report.html").read_text()
    assert "Codes exchanged" in page
    check_output(config)
    with pytest.raises(ConfigError, match="holds another experiment"):
        check_output(TokfsmConfig(output=config.output, **SMALL, seed=2))
    # The same seed gives the same numbers.
    assert results[0].interchange == results[1].interchange
    assert results[0].coded == results[1].coded


def test_command_line() -> None:
    paper = load_config(TokfsmConfig, "tokfsm", ["output=x", "preset=paper", "num_active=4"])
    assert (paper.num_states, paper.num_layers, paper.batch_size) == (100, 4, 512)
    assert (paper.num_active, paper.code_init) == (4, CodeInit.random)
    assert load_config(TokfsmConfig, "tokfsm", ["output=x"]).num_states == 36
    problems = ["num_states=99", "num_digits=7", "model_dim=30", "num_active=301", "steps=0"]
    with pytest.raises(ConfigError) as error:
        load_config(TokfsmConfig, "tokfsm", problems)
    for key in ("output", "num_states", "num_digits", "model_dim", "num_active", "steps"):
        assert f"`{key}`" in str(error.value)
