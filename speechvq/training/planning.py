"""What a run would do and cost, said before anything is written (DESIGN.md D11).

Measured on one real update where it can be.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Module

from speechvq.data.index import CorpusIndex
from speechvq.data.order import OrderConfig, PlannedBatch, plan_epoch
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.rows import RowReader
from speechvq.models.build import create_pretrain_model
from speechvq.training.batches import CTCBatch, CTCLoader, PretrainBatch, PretrainLoader
from speechvq.training.config import FinetuneConfig, Precision, PretrainConfig, TrainConfig
from speechvq.training.ctc_units import compute_ctc_loss
from speechvq.training.engine import choose_precision, get_world_size
from speechvq.training.pretraining import load_pretrain_data
from speechvq.training.recognition_data import create_recognizer_model, load_recognition_data
from speechvq.training.recorder import format_duration

ADAM_STATES = 2
"""AdamW keeps two moments of each parameter, in fp32."""


def print_pretrain_plan(config: PretrainConfig) -> None:
    """Print what a pretraining run would do and cost.

    Raises:
        DataError: There is nothing to learn from.
    """
    data = load_pretrain_data(config)
    model = create_pretrain_model(config.architecture)
    architecture = config.architecture
    loader = PretrainLoader(
        index=data.train,
        rows=RowReader(data.train, capacity=config.batch.shuffle_window),
        num_frames=model.num_frames,
        seed=config.seed,
        max_samples=round(config.batch.max_seconds * SAMPLE_RATE),
        mask_prob=architecture.mask_prob,
        mask_length=architecture.mask_length,
        mask_min_spans=architecture.mask_min_spans,
        num_distractors=architecture.num_distractors,
    )

    def compute_loss(batch: PretrainBatch) -> Tensor:
        output = model(
            batch.waveform,
            batch.lengths,
            batch.masked_frames,
            batch.num_masked,
            batch.distractors,
            temperature=1.0,
        )
        loss: Tensor = output.loss_sum + output.diversity_loss * output.num_targets
        return loss

    _print_plan(config, data.train, data.dev, model, loader, compute_loss)


def print_finetune_plan(config: FinetuneConfig) -> None:
    """Print what a finetuning run would do and cost.

    Raises:
        DataError: There is nothing to learn from.
    """
    data = load_recognition_data(config)
    for note in data.notes:
        print(f"note: {note}")
    model = create_recognizer_model(config, data.vocabulary)
    print(f"{'labels':<18}{len(data.vocabulary)}")
    loader = CTCLoader(
        index=data.train,
        texts=data.train.texts or [],
        rows=RowReader(data.train, capacity=config.batch.shuffle_window),
        encode=data.vocabulary.encode,
        num_frames=model.num_frames,
        seed=config.seed,
        augmentation=None,
    )

    def compute_loss(batch: CTCBatch) -> Tensor:
        output = model(batch.waveform, batch.lengths, language=config.language)
        return compute_ctc_loss(output, batch)

    _print_plan(config, data.train, data.dev, model, loader, compute_loss)


def _print_plan(
    config: TrainConfig,
    train: CorpusIndex,
    dev: CorpusIndex,
    model: Module,
    loader: Callable[..., PretrainBatch | CTCBatch],
    compute_loss: Callable[..., Tensor],
) -> None:
    order = OrderConfig(
        seed=config.seed,
        alpha=config.batch.language_alpha,
        batch_samples=round(config.batch.batch_seconds * SAMPLE_RATE),
        max_samples=round(config.batch.max_seconds * SAMPLE_RATE),
        window=config.batch.shuffle_window,
    )
    epoch = plan_epoch(train, order, 0)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    per_step = get_world_size() * config.batch.num_accumulate
    epochs = config.steps * per_step / len(epoch)
    checkpoint = num_parameters * 4 * (1 + ADAM_STATES)
    rows = {
        "training audio": (
            f"{train.hours:.2f} h, {len(train)} utterances, {len(train.languages)} languages"
        ),
        "validation audio": f"{dev.hours:.2f} h, {len(dev)} utterances",
        "parameters": f"{num_parameters:,}",
        "updates": f"{config.steps:,}, {per_step} batches each",
        "audio seen": f"{epochs * train.hours:.1f} h, {epochs:.1f} passes",
        "disk": f"{_format_bytes(checkpoint * (config.keep_checkpoints + 1) + num_parameters * 4)}",
    }
    seconds, peak = _time_update(model, loader, compute_loss, epoch, config.precision)
    total = seconds * config.steps * config.batch.num_accumulate
    rows["one batch here"] = f"{seconds:.2f} s, measured on this machine's CPU"
    rows["whole run here"] = f"about {format_duration(total)} on this CPU, without validation"
    rows["memory"] = f"about {_format_bytes(peak)} of this process, measured"
    for name, value in rows.items():
        print(f"{name:<18}{value}")
    print("Nothing was written; leave out `plan=true` to run it.")


def _time_update(
    model: Module,
    loader: Callable[..., PretrainBatch | CTCBatch],
    compute_loss: Callable[..., Tensor],
    epoch: list[PlannedBatch],
    precision: Precision,
) -> tuple[float, int]:
    """Return the seconds of a forward and backward pass, and the peak memory in bytes.

    The seconds are the median of three after a warm-up.
    """
    import resource

    times = []
    context = functools.partial(
        torch.autocast, "cpu", torch.bfloat16, enabled=choose_precision(precision) is Precision.bf16
    )
    for planned in epoch[:4]:
        batch = loader(planned)
        start = time.perf_counter()
        with context():
            loss = compute_loss(batch)
        loss.backward()
        times.append(time.perf_counter() - start)
    chosen = sorted(times[1:] or times)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return chosen[len(chosen) // 2], peak


def _format_bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
