"""Times a few updates of a run, as the engine would make them, and writes nothing.

Loading, forward and backward pass, clipping and AdamW on the job's own model, reader and unit;
left out are what fairseq2 does around a step, validation and checkpoints.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

# fairseq2.evaluator and fairseq2.recipe import each other; only this order works.
import fairseq2.recipe  # noqa: F401  # isort: split
import torch
from fairseq2.metrics import MetricBag
from fairseq2.utils.threading import get_num_threads
from torch.nn import Module

from speechvq.data.records import SAMPLE_RATE
from speechvq.training.config import Precision, TrainConfig
from speechvq.training.engine import Job, Ranks
from speechvq.training.wrapping import apply_checkpointing, compile_layers

NUM_STEPS = 20
"""Updates that are timed."""

NUM_WARM_UP = 2
"""Updates before them, whose caches are cold."""

MAX_STEP_SECONDS = 10.0
"""Slower updates are timed less often: as many as last about NUM_STEPS of this length."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the timed updates took.

    Attributes:
        seconds: Of each timed update, loading included.
        forward_seconds: Of their forward passes, in total.
        audio_hours: Audio in them, in total, without padding.
        peak_bytes: Most memory of the process (of the GPU's allocator on one).
        device: What it ran on, in words.
        num_threads: Threads of torch's operations on the CPU.
        is_shortened: Whether slow updates made the probe shorter.
    """

    seconds: list[float]
    forward_seconds: float
    audio_hours: float
    peak_bytes: int
    device: str
    num_threads: int
    is_shortened: bool


def choose_num_steps(seconds: float) -> int:
    """Return how many updates to time when one takes so long."""
    if seconds <= MAX_STEP_SECONDS:
        return NUM_STEPS
    return max(2, int(NUM_STEPS * MAX_STEP_SECONDS / seconds))


def run_probe(job: Job, model: Module, config: TrainConfig, *, first_step: int = 1) -> Probe:
    """Time updates of a job.

    Args:
        job: What would be learned.
        model: Its model; the updates change it.
        config: The run's configuration, with a precision of its own (not `auto`).
        first_step: The step that the first update counts as.

    Returns:
        The times.

    Raises:
        DataError: The corpus cannot be read.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.activation_checkpointing:
        apply_checkpointing(model, every_nth_layer=1)
    if config.compile:
        compile_layers(model, dynamic=True)
    with _threads(config.num_threads):
        return _time_updates(job, model.to(device), config, device, first_step)


def _time_updates(
    job: Job, model: Module, config: TrainConfig, device: torch.device, first_step: int
) -> Probe:
    parts = job.build(model, model, Ranks(0, 1, device))
    bag = MetricBag(device)
    parts.unit.prepare_metric_bag(bag)
    settings = config.optimizer
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    autocast = torch.autocast(
        device.type, torch.bfloat16, enabled=config.precision is Precision.bf16
    )
    model.train()
    seconds: list[float] = []
    forward_seconds = audio_hours = 0.0
    num_steps = NUM_WARM_UP + NUM_STEPS
    number = 0
    while number < num_steps:
        begin = time.perf_counter()
        batches = next(parts.reader)
        parts.unit.set_step_nr(first_step + number)
        num_targets, forward, hours = 0, 0.0, 0.0
        for batch in batches:
            batch.to(device)
            start = time.perf_counter()
            with autocast:
                loss, count = parts.unit.process_batch(batch, bag)
            _synchronize(device)
            forward += time.perf_counter() - start
            num_targets += count or 0
            hours += float(batch.lengths.sum()) / SAMPLE_RATE / 3600
            loss.backward()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(max(num_targets, 1))
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _synchronize(device)
        elapsed = time.perf_counter() - begin
        number += 1
        if number <= NUM_WARM_UP:
            num_steps = min(num_steps, NUM_WARM_UP + choose_num_steps(elapsed))
        else:
            seconds.append(elapsed)
            forward_seconds += forward
            audio_hours += hours
        _show(number, num_steps, elapsed)
    return Probe(
        seconds=seconds,
        forward_seconds=forward_seconds,
        audio_hours=audio_hours,
        peak_bytes=_measure_peak(device),
        device=_describe(device),
        num_threads=torch.get_num_threads(),
        is_shortened=num_steps < NUM_WARM_UP + NUM_STEPS,
    )


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _measure_peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this machine's CPU"


@contextlib.contextmanager
def _threads(num_threads: int | None) -> Iterator[None]:
    """Use as many threads as the run would: fairseq2 lets OMP_NUM_THREADS decide first."""
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(num_threads or get_num_threads(1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _show(number: int, num_steps: int, seconds: float) -> None:
    """Show progress: one line that renews itself on a terminal, else every tenth update."""
    text = f"timing updates: {number}/{num_steps}, {seconds:.2f} s"
    if sys.stderr.isatty():
        end = "\n" if number == num_steps else ""
        print(f"\r\033[K{text}", end=end, file=sys.stderr, flush=True)
    elif number % 10 == 0 or seconds > MAX_STEP_SECONDS:
        print(text, file=sys.stderr, flush=True)
