"""The paper's experiment in miniature: codes stand for states, and the model goes by them.

"Codebook Features" (arXiv 2310.17230), section 4; the bounds are those of METHODS.md B.6.
"""

from __future__ import annotations

import pytest
import torch

from speechvq.nn.places import Place, Site
from speechvq.tokfsm.config import PRESETS, TokfsmConfig
from speechvq.tokfsm.experiment import TokfsmResult, run_experiment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result() -> TokfsmResult:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run_experiment(
            TokfsmConfig(output="", **PRESETS["tiny"]),
            device=torch.device("cpu"),
            create_progress=lambda name, num_steps: lambda loss: None,
        )
    finally:
        torch.set_num_threads(num_threads)


def test_codes_cost_little(result: TokfsmResult) -> None:
    assert result.coded.legal >= 0.95
    assert result.coded.loss - result.dense.loss <= 0.05
    assert result.dense.loss >= result.best_loss


def test_codes_of_layer_0_stand_for_states(result: TokfsmResult) -> None:
    scores = next(one for one in result.states if one.place == Place(0, Site.feed_forward))
    precision = float(scores.codes.precision.mean())
    assert precision >= 0.9
    assert precision >= float(scores.neurons.precision.mean()) + 0.3


def test_the_model_goes_by_its_codes(result: TokfsmResult) -> None:
    divergence = {one.name: one.divergence for one in result.interchange}
    assert divergence["none"] == 1.0
    assert divergence["all"] <= 0.05
    assert divergence["all feed_forward"] <= 0.5
    assert divergence["random codes"] >= 0.8
