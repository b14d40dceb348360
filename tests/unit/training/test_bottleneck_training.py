"""Bottlenecks of codes in training: what can be told, what joins the loss, what is counted."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("fairseq2")

from fairseq2.metrics import MetricBag

from speechvq.nn.bottleneck_sites import attach_bottleneck, capture_codes, list_bottlenecks
from speechvq.nn.code_tally import CodeTally
from speechvq.nn.places import Place, Site
from speechvq.nn.transformer import Encoder
from speechvq.training.bottleneck_config import BottleneckTrainConfig
from speechvq.training.code_units import CodeEvalUnit, CodeUnit
from speechvq.training.config import Parallelism
from speechvq.training.metrics import nest_languages
from speechvq.training.report import write_run_report
from speechvq.training.sections import NO_DECAY

PLACES = [Place(0, Site.heads), Place(1, Site.feed_forward)]
CONFIG = BottleneckTrainConfig(output="o", corpus=["c"], model="m")


def create_encoder() -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(
        2, 16, 4, 32, conv_kernel=0, norm_first=True, dropout=0.0, attention_dropout=0.0,
        activation_dropout=0.0, layer_drop_prob=0.0,
    )  # fmt: skip
    for place in PLACES:
        attach_bottleneck(encoder, place, codebook_size=6, num_active=2)
    return encoder


class Unit:
    """A task with a loss of its own, a sum over as many targets as there are frames."""

    name = "dev"

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def prepare_metric_bag(self, bag: MetricBag) -> None:
        pass

    def set_step_nr(self, step: int) -> None:
        self.step = step

    def process_batch(self, batch: torch.Tensor, bag: MetricBag) -> tuple[torch.Tensor, int]:
        output = self.encoder(batch, None)
        return output[0].sum(), batch.size(0) * batch.size(1)

    def process_metric_values(self, values: dict[str, object]) -> None:
        values["task"] = 1.0


def run(unit: Any, batches: list[torch.Tensor]) -> tuple[list[Any], dict[str, Any]]:
    bag = MetricBag(device=torch.device("cpu"))
    unit.prepare_metric_bag(bag)
    results = [unit.process_batch(batch, bag) for batch in batches]
    values: dict[str, Any] = {name: metric.compute() for name, metric in bag.metrics.items()}
    unit.process_metric_values(values)
    return results, values


def test_error_of_codes_weighs_as_much_a_target_as_the_task() -> None:
    encoder = create_encoder()
    batch = torch.randn(3, 10, 16)
    unit: Any = Unit(encoder)
    (found,), _ = run(CodeUnit(unit, encoder, 0.5), [batch])
    (plain,), _ = run(CodeUnit(unit, encoder, 0.0), [batch])
    losses = {}
    with capture_codes(encoder, losses.__setitem__):
        encoder(batch, None)
    error = sum(one.losses.sum() for one in losses.values())
    assert found[1] == plain[1] == 30
    torch.testing.assert_close(found[0] - plain[0], 0.5 * 30 * error, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("is_training", [True, False])
def test_numbers_of_codebooks_are_those_of_all_batches(is_training: bool) -> None:
    encoder = create_encoder()
    batches = [torch.randn(2, 7, 16), torch.randn(1, 30, 16)]
    tally = CodeTally(encoder)
    with capture_codes(encoder, tally.receive), torch.no_grad():
        for batch in batches:
            encoder(batch, None)
    unit: Any = Unit(encoder)
    unit = CodeUnit(unit, encoder, 1.0) if is_training else CodeEvalUnit(unit, encoder)
    _, values = run(unit, batches)
    nested = nest_languages(values)
    assert nested["task"] == 1.0
    assert list(nested["bottlenecks"]) == [str(place) for place in PLACES]
    for place, own in tally.compute().items():
        ours = nested["bottlenecks"][str(place)]
        assert ours["used_codes"] == own.num_used.tolist()
        for name in ("perplexity", "error", "input_norm", "output_norm", "code_norm"):
            torch.testing.assert_close(
                torch.tensor(ours[name]), getattr(own, name).float(), rtol=1e-5, atol=1e-5
            )
    used = [n for one in nested["bottlenecks"].values() for n in one["used_codes"]]
    assert len(used) == 5  # four heads, one feed-forward part
    assert nested["code_usage"] == pytest.approx(sum(used) / 6 / 5)
    assert nested["num_active"] == 2


def test_sums_of_ranks_add_up() -> None:
    encoder = create_encoder()
    whole, first, second = (CodeTally(encoder) for _ in range(3))
    batches = [torch.randn(2, 7, 16), torch.randn(1, 30, 16)]
    for tallies, batch in (((whole, first), batches[0]), ((whole, second), batches[1])):
        outputs: dict[Place, Any] = {}
        with capture_codes(encoder, outputs.__setitem__), torch.no_grad():
            encoder(batch, None)
        for tally in tallies:
            for place, output in outputs.items():
                tally.receive(place, output)
    for place in PLACES:
        first.add_sums(place, second.get_sums(place))
        torch.testing.assert_close(first.get_sums(place), whole.get_sums(place))
        assert torch.equal(first.get_counts(place), whole.get_counts(place))
        assert first.compute()[place].num_frames == 44


def test_codebooks_do_not_decay() -> None:
    encoder = create_encoder()
    names = [name for name, _ in encoder.named_parameters() if "codebooks" in name]
    assert len(names) == len(list_bottlenecks(encoder)) == 2
    assert all(re.match(NO_DECAY, name) for name in names)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": None}, "`model` is required"),
        ({"plan": True}, "`plan` must be false"),
        ({"language": ["xx"]}, "`language`"),
        ({"parallelism": Parallelism.fsdp}, "`parallelism` must be ddp"),
        ({"sites": []}, "`sites` must name"),
        ({"layers": [1, 1]}, "`layers` must be numbers from 0, each once"),
        ({"layers": [-1]}, "`layers` must be numbers from 0"),
        ({"num_active": 513}, "`num_active` must be from 1 to `codebook_size` (512)"),
        ({"num_active_start": 0}, "`num_active_start` must be from 1"),
        ({"num_active_start": 16, "num_active_steps": 0}, "`num_active_steps` must be from 1"),
        ({"kmeans_frames": 100}, "`kmeans_frames` must be at least `codebook_size` (512)"),
        ({"kmeans_frames": 0}, "or 0 with `restart_every=0`"),
        ({"restart_every": -1}, "`restart_every` must not be negative"),
        ({"restart_share": 1.5}, "`restart_share` must be in [0, 1]"),
        ({"auxiliary_weight": float("nan")}, "`auxiliary_weight` must not be negative"),
        ({"mask_prob": 1.0}, "`mask_prob` must be in [0, 1)"),
        ({"max_train_seconds": 0.0}, "`max_train_seconds` must be positive"),
    ],
)
def test_impossible_values_are_told_before_anything_starts(
    changes: dict[str, Any], problem: str
) -> None:
    assert CONFIG.validate() == []
    problems = replace(CONFIG, **changes).validate()
    assert len(problems) == 1
    assert problem in problems[0]


def test_places_are_in_the_order_of_the_layers() -> None:
    config = replace(CONFIG, layers=[3, 1], sites=[Site.feed_forward, Site.heads])
    assert config.list_places(4) == [Place(n, site) for n in (1, 3) for site in Site]
    assert replace(CONFIG, dense=True).list_places(4) == []
    assert CONFIG.list_places(2) == [Place(n, site) for n in (0, 1) for site in Site]


def test_page_has_a_row_for_each_codebook(tmp_path: Path) -> None:
    own = {
        "used_codes": [3, 1], "perplexity": [2.5, 1.0], "error": [0.25, 4.0],
        "input_norm": [4.0, 4.0], "output_norm": [3.0, 2.0], "code_norm": [3.5, 2.5],
    }  # fmt: skip
    line = {"split": "train", "step": 5, "num_active": 1, "bottlenecks": {"layer 1 heads": own}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    corpus = {"hours": 0.1, "languages": {"hin_Deva": {"hours": 0.1, "utterances": 3}}}
    summary = {"corpus": corpus, "steps": 5}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    page = write_run_report(tmp_path, title="Codebook features").read_text(encoding="utf-8")
    assert "layer 1 heads 0" in page
    assert "layer 1 heads 1" in page
    assert "1 of 2 codebooks have nearly the same codes in every frame: layer 1 heads 1." in page
