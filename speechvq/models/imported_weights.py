"""Puts the weights of another project's checkpoint into a new model: each must be there, fit and be
a finite number. Used by `speechvq.models.importing` and `speechvq.models.importing_recognizers`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from speechvq.errors import ConfigError, ModelError
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import save_model
from speechvq.models.foreign_pickle import read_checkpoint
from speechvq.models.pretrain_model import PretrainModel

MASK_EMBEDDING = "encoder.mask_embedding"
HUGGINGFACE_MASK_EMBEDDING = "wav2vec2.masked_spec_embed"
HUGGINGFACE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""What transformers calls the file of weights, the preferred one first."""

_Model = TypeVar("_Model", bound=nn.Module)
_Saved = TypeVar("_Saved", PretrainModel, CTCModel)


@dataclass(frozen=True)
class Imported(Generic[_Saved]):
    """What was made of a checkpoint.

    Attributes:
        model: The model, on the CPU.
        origin: What the checkpoint was.
        fresh: What it lacks and what has new weights now: parts, such as "quantizer", or weights.
        left_out: Parts of it that our model has not, such as a recogniser's head.
        assumed: Key of the configuration → value, for what the file does not say and nobody told.
    """

    model: _Saved
    origin: str
    fresh: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    assumed: Mapping[str, Any] = field(default_factory=dict)

    def save(self, output: str | Path) -> None:
        """Writes the model directory, which says where the model came from."""
        save_model(
            output,
            self.model,
            training={
                "imported_from": self.origin,
                "fresh": list(self.fresh),
                "left_out": list(self.left_out),
                "assumed": dict(self.assumed),
            },
        )


def build_model(
    create: Callable[[], _Model],
    weights: Mapping[str, Tensor],
    *,
    seed: int,
    fresh: Collection[str] = (),
) -> tuple[_Model, tuple[str, ...]]:
    """Creates a model with the weights of a checkpoint.

    Args:
        create: Creates it with new weights.
        weights: Those of the checkpoint, under our names.
        seed: Of the weights that the checkpoint lacks.
        fresh: Names of weights that shall be new.

    Returns:
        The model in evaluation mode, and the names of what is new: weights of `fresh`, and parts
        other than the encoder of which the checkpoint has nothing.

    Raises:
        ModelError: A weight is unknown, missing, of another shape or not finite, or the settings
            make no model.
    """
    given = {name: tensor for name, tensor in weights.items() if name not in fresh}
    new = set(fresh)
    with torch.device("meta"):  # no memory for weights that the file does not have
        expected = _create(create).state_dict()
    problems = [f"{name} is unknown" for name in sorted(given.keys() - expected.keys())]
    for name in sorted(expected.keys() - given.keys() - new):
        part = name.partition(".")[0]
        if part in ("encoder", "heads", "adapters") or any(
            other.startswith(f"{part}.") for other in given
        ):
            problems.append(f"{name} is missing")
        else:
            new.add(part)
    problems += [
        f"{name} has the shape {tuple(given[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ModelError(f"The weights do not fit the settings: {'; '.join(problems[:5])}{more}.")
    if broken := [name for name, tensor in given.items() if not bool(tensor.isfinite().all())]:
        raise ModelError(
            f"The weights must be finite numbers, but {broken[0]} has NaN or infinity: the "
            "training of this model diverged, or the file is damaged."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _create(create)
    model.load_state_dict({**model.state_dict(), **given})
    return model.eval(), tuple(sorted(new))


def _create(create: Callable[[], _Model]) -> _Model:
    try:
        return create()
    except ConfigError as error:
        raise ModelError(f"The checkpoint's settings cannot work:\n{error}") from error
    except (RuntimeError, TypeError, MemoryError) as error:  # PyTorch's, as the types are checked
        raise ModelError(
            "The checkpoint's settings cannot work: they ask for tensors that are too large."
        ) from error


def read_huggingface_weights(directory: Path) -> dict[str, Tensor]:
    """Reads the weights of a directory of transformers, as they are.

    Args:
        directory: With one of `HUGGINGFACE_WEIGHTS`, the second of which is read without running
            anything in it.

    Raises:
        ModelError: Neither is there, or it cannot be read.
    """
    safe, pickled = (directory / name for name in HUGGINGFACE_WEIGHTS)
    if safe.is_file() or not pickled.is_file():
        return read_safetensors(safe)
    state = read_checkpoint(pickled)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise ModelError(f"{pickled} must hold tensors only, by their names.")
    return dict(state)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Reads a file of safetensors.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        return load_file(path)
    except (ValueError, OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error
