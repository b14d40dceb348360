"""Units that train and watch bottlenecks of codes besides the task of another unit."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

# fairseq2.evaluator and fairseq2.recipe import each other; only this order works.
import fairseq2.recipe  # noqa: F401  # isort: split
from fairseq2.evaluator import EvalUnit
from fairseq2.metrics import MetricBag
from fairseq2.trainer import TrainUnit
from torch import Tensor
from torch.nn import Module
from typing_extensions import override

from speechvq.nn.bottleneck import BottleneckOutput
from speechvq.nn.bottleneck_sites import capture_codes, list_bottlenecks
from speechvq.nn.code_tally import CodeTally
from speechvq.nn.places import Place
from speechvq.training.metrics import BOTTLENECK_PREFIX, TensorSum, pop_tensor


class CodeSums:
    """What bottlenecks do in an interval, over batches and ranks.

    Args:
        model: A model with bottlenecks, not wrapped.
    """

    def __init__(self, model: Module) -> None:
        self._model = model
        self._tally = CodeTally(model)

    def prepare(self, bag: MetricBag) -> None:
        """Add the metrics to a bag."""
        for place, one in list_bottlenecks(self._model).items():
            bag.add(_name(place), TensorSum((one.num_codebooks, one.codebook_size + 4)))

    def update(self, bag: MetricBag, outputs: MutableMapping[Place, BottleneckOutput]) -> None:
        """Add one batch; layers that were left out have no output."""
        self._tally.reset()
        for place, output in outputs.items():
            self._tally.receive(place, output)
            bag.get(_name(place), TensorSum).update(self._tally.get_sums(place))

    def compute(self, values: MutableMapping[str, object]) -> None:
        """Replace the sums in `values`: means over all codebooks, and each codebook's own numbers
        in `bottlenecks`.
        """
        self._tally.reset()
        bottlenecks = list_bottlenecks(self._model)
        for place in bottlenecks:
            self._tally.add_sums(place, pop_tensor(values, _name(place)))
        shares, perplexities, errors = [], [], []
        for place, found in self._tally.compute().items():
            size = bottlenecks[place].codebook_size
            own = {
                "used_codes": found.num_used.tolist(),
                "perplexity": _round(found.perplexity),
                "error": _round(found.error),
                "input_norm": _round(found.input_norm),
                "output_norm": _round(found.output_norm),
                "code_norm": _round(found.code_norm),
            }
            values.update({f"{BOTTLENECK_PREFIX}{place}/{key}": one for key, one in own.items()})
            shares += (found.num_used / size).tolist()
            perplexities += found.perplexity.tolist()
            errors += found.error.tolist()
        values["code_usage"] = sum(shares) / len(shares)
        values["code_perplexity"] = sum(perplexities) / len(perplexities)
        values["code_error"] = sum(errors) / len(errors)
        values["num_active"] = max(one.num_active for one in bottlenecks.values())


class CodeUnit(TrainUnit[Any]):
    """A step of another unit, and the auxiliary loss of the codes, which is a mean over frames and
    so counts times the number of targets.

    Args:
        unit: Runs the model once for each batch.
        model: The same model, not wrapped.
        weight: Of the auxiliary loss.
    """

    def __init__(self, unit: TrainUnit[Any], model: Module, weight: float) -> None:
        self._unit = unit
        self._model = model
        self._weight = weight
        self._sums = CodeSums(model)

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        self._unit.prepare_metric_bag(metric_bag)
        self._sums.prepare(metric_bag)

    @override
    def set_step_nr(self, step_nr: int) -> None:
        self._unit.set_step_nr(step_nr)

    @override
    def process_batch(self, batch: Any, metric_bag: MetricBag) -> tuple[Tensor, int | None]:
        outputs: dict[Place, BottleneckOutput] = {}
        with capture_codes(self._model, outputs.__setitem__):
            loss, num_targets = self._unit.process_batch(batch, metric_bag)
        self._sums.update(metric_bag, outputs)
        for output in outputs.values():
            loss = loss + self._weight * (num_targets or 1) * output.losses.sum()
        return loss, num_targets

    @override
    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        self._sums.compute(values)
        self._unit.process_metric_values(values)


class CodeEvalUnit(EvalUnit[Any]):
    """The validation of another unit, and what the codes do in it.

    Args:
        unit: Runs the model once for each batch.
        model: The same model.
    """

    def __init__(self, unit: EvalUnit[Any], model: Module) -> None:
        self._unit = unit
        self._model = model
        self._sums = CodeSums(model)

    @property
    @override
    def name(self) -> str | None:
        return self._unit.name

    @override
    def set_train_step_nr(self, step_nr: int) -> None:
        self._unit.set_train_step_nr(step_nr)

    @override
    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        self._unit.prepare_metric_bag(metric_bag)
        self._sums.prepare(metric_bag)

    @override
    def process_batch(self, batch: Any, metric_bag: MetricBag) -> None:
        outputs: dict[Place, BottleneckOutput] = {}
        with capture_codes(self._model, outputs.__setitem__):
            self._unit.process_batch(batch, metric_bag)
        self._sums.update(metric_bag, outputs)

    @override
    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        self._sums.compute(values)
        self._unit.process_metric_values(values)


def _name(place: Place) -> str:
    return f"_codes of {place}"


def _round(values: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]
