"""The experiment from beginning to end: machine, two models, states in codes, interchange."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch

from speechvq.nn.bottleneck_sites import capture_codes
from speechvq.nn.code_tally import CodeStatistics, CodeTally
from speechvq.nn.places import Place
from speechvq.tokfsm.config import CodeInit, TokfsmConfig
from speechvq.tokfsm.fitting import Advance, add_codebooks, compute_loss, create_token_model, fit
from speechvq.tokfsm.interchange import InterchangeResult, exchange_codes
from speechvq.tokfsm.machine import StateMachine
from speechvq.tokfsm.state_codes import (
    CodebookScores,
    label_state_digits,
    label_states,
    score_codebooks,
)
from speechvq.tokfsm.token_model import TokenModel

_EVAL_SEED = 1 << 20
"""Texts of evaluation are drawn from seeds of their own, the same for all models."""


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """How well a model knows the machine.

    Attributes:
        loss: Cross-entropy of a token, nats, on texts that it has not seen.
        legal: Share of the transitions in its own texts that the machine has.
    """

    loss: float
    legal: float


@dataclass(frozen=True, kw_only=True)
class TokfsmResult:
    """All that came out.

    Attributes:
        dense: The model without codebooks.
        coded: The model with codebooks.
        best_loss: Loss of one who knows the machine.
        states: How well codebooks stand for states.
        state_digits: The same for states with a digit.
        interchange: What came of exchanging codes.
        usage: Of codes, by place.
    """

    dense: ModelResult
    coded: ModelResult
    best_loss: float
    states: list[CodebookScores]
    state_digits: list[CodebookScores]
    interchange: list[InterchangeResult]
    usage: dict[Place, CodeStatistics]


def run_experiment(
    config: TokfsmConfig,
    *,
    device: torch.device,
    create_progress: Callable[[str, int], Advance],
) -> TokfsmResult:
    """Runs the experiment.

    Args:
        config: Sizes; validated.
        device: Where the models run.
        create_progress: Called with a name and a number of steps; what it returns is called after
            each step with the loss.

    Returns:
        What came out.
    """
    generator = torch.Generator().manual_seed(config.seed)
    machine = StateMachine.create(config.num_states, config.num_edges, config.base, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        dense = create_token_model(config, machine).to(device)
        advance = create_progress("dense model", config.dense_steps)
        fit(
            dense,
            config,
            machine,
            num_steps=config.dense_steps,
            lr=config.lr,
            generator=generator,
            advance=advance,
        )
        goes_on = config.code_init is CodeInit.kmeans
        coded = copy.deepcopy(dense) if goes_on else create_token_model(config, machine).to(device)
        add_codebooks(coded, config, machine, generator)
        advance = create_progress("model with codebooks", config.steps)
        fit(
            coded,
            config,
            machine,
            num_steps=config.steps,
            lr=config.codebook_lr if goes_on else config.lr,
            generator=generator,
            advance=advance,
        )
    return measure(config, machine, dense, coded)


def measure(
    config: TokfsmConfig, machine: StateMachine, dense: TokenModel, coded: TokenModel
) -> TokfsmResult:
    """Measures trained models."""
    generator = torch.Generator().manual_seed(_EVAL_SEED + config.seed)
    dev, test = (
        machine.draw_texts(config.num_eval_texts, config.num_digits, generator) for _ in range(2)
    )
    results = [_evaluate(model, machine, config) for model in (dense, coded)]
    tally = CodeTally(coded)
    with torch.no_grad(), capture_codes(coded, tally.receive):
        for part in test.split(500):
            coded(part[:, :-1].to(coded.positions.device))
    scores = [
        score_codebooks(
            coded,
            dense,
            (dev, test),
            (label(machine, dev), label(machine, test)),
            min_recall=config.min_recall,
        )
        for label in (label_states, label_state_digits)
    ]
    pairs = machine.draw_texts(2 * config.num_pairs, config.num_digits, generator)
    interchange = exchange_codes(coded, machine, pairs[::2, :-2], pairs[1::2, :-2], generator)
    return TokfsmResult(
        dense=results[0],
        coded=results[1],
        best_loss=compute_best_loss(config),
        states=scores[0],
        state_digits=scores[1],
        interchange=interchange,
        usage=dict(tally.compute()),
    )


def compute_best_loss(config: TokfsmConfig) -> float:
    """Cross-entropy of a token, nats, of one who knows the machine: the first state is one of N,
    every other one of E.
    """
    num_visited = config.num_digits // 2
    sizes = torch.tensor([config.num_states, config.num_edges], dtype=torch.float64).log()
    return float(sizes[0] + (num_visited - 1) * sizes[1]) / config.num_digits


@torch.no_grad()
def _evaluate(model: TokenModel, machine: StateMachine, config: TokfsmConfig) -> ModelResult:
    generator = torch.Generator().manual_seed(_EVAL_SEED)
    texts = machine.draw_texts(config.num_eval_texts, config.num_digits, generator)
    device = model.positions.device
    losses = [compute_loss(model, part.to(device)) * len(part) for part in texts.split(500)]
    begin = texts[:500, :1].to(device)
    written = model.write(begin, config.num_digits, generator).cpu()
    return ModelResult(
        loss=float(torch.stack(losses).sum()) / len(texts),
        legal=float(machine.find_legal(written).double().mean()),
    )
