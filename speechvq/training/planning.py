"""What a run would do and cost, said before anything is written (DESIGN.md D11).

Audio and languages are counted in the run's own order of batches; time and memory are measured on
real updates; each assumption stands in the text.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch.nn import Module

from speechvq.data.index import CorpusIndex
from speechvq.data.order import OrderConfig, plan_epoch
from speechvq.data.records import SAMPLE_RATE
from speechvq.models.directory import read_architecture
from speechvq.training.config import TrainConfig
from speechvq.training.continuation import check_init
from speechvq.training.engine import choose_precision, get_world_size
from speechvq.training.finetune_config import FinetuneConfig
from speechvq.training.finetuning import FinetuneJob
from speechvq.training.freezing import FreezingSchedule
from speechvq.training.pretrain_config import PretrainConfig, QuantizerInit
from speechvq.training.pretrain_data import load_pretrain_data
from speechvq.training.pretraining import PretrainJob
from speechvq.training.probe import NUM_STEPS, Probe, run_probe
from speechvq.training.recognition_data import load_recognition_data
from speechvq.training.recorder import format_duration
from speechvq.training.run_directory import RunDirectory

ADAM_STATES = 2
"""AdamW keeps two moments of each parameter that learns, in fp32."""


@dataclass(frozen=True, kw_only=True)
class LanguagePlan:
    """What a run hears of a language.

    Attributes:
        code: The language.
        hours: Its audio in the corpus.
        heard: Hours that the run hears of it, crops and repetitions included.
        passes: How often each of its utterances comes, on average.
    """

    code: str
    hours: float
    heard: float
    passes: float


@dataclass(frozen=True, kw_only=True)
class AudioPlan:
    """What a run hears.

    Attributes:
        languages: Of each language.
        batches_per_epoch: Batches in which the corpus is heard once.
        epochs: How often that happens.
        hours: Audio heard in the whole run.
        hours_per_update: Audio in an update, on average.
    """

    languages: list[LanguagePlan]
    batches_per_epoch: int
    epochs: float
    hours: float
    hours_per_update: float


@dataclass(frozen=True, kw_only=True)
class DiskPlan:
    """Bytes that a run writes.

    Attributes:
        checkpoint: Of one checkpoint: weights and AdamW's moments.
        model: Of the model directory's weights.
        total: At most at one time: one checkpoint more than are kept, and the model.
    """

    checkpoint: int
    model: int
    total: int


def plan_audio(index: CorpusIndex, order: OrderConfig, num_batches: int, steps: int) -> AudioPlan:
    """Count what a run hears, by its first epoch.

    Args:
        index: Its training utterances.
        order: Its order of batches.
        num_batches: Batches of an update, on all ranks.
        steps: Updates.

    Returns:
        Hours, epochs and languages.
    """
    epoch = plan_epoch(index, order, 0)
    positions = np.concatenate([batch.utterances for batch in epoch])
    languages = index.language[positions]
    samples = np.minimum(index.num_samples[positions], order.max_samples)
    num_languages = len(index.languages)
    hours = np.bincount(languages, samples, num_languages) / SAMPLE_RATE / 3600  # (languages,)
    draws = np.bincount(languages, minlength=num_languages)
    counts = np.bincount(index.language, minlength=num_languages)
    epochs = steps * num_batches / len(epoch)
    available = index.hours_by_language()
    plans = [
        LanguagePlan(
            code=code,
            hours=available[code],
            heard=float(hours[number]) * epochs,
            passes=float(draws[number] / counts[number]) * epochs,
        )
        for number, code in enumerate(index.languages)
        if counts[number]
    ]
    total = float(hours.sum()) * epochs
    return AudioPlan(
        languages=plans,
        batches_per_epoch=len(epoch),
        epochs=epochs,
        hours=total,
        hours_per_update=total / steps,
    )


def plan_disk(model: Module, keep_checkpoints: int) -> DiskPlan:
    """Compute what checkpoints and model take on disk."""
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    checkpoint = weights + ADAM_STATES * 4 * learned
    return DiskPlan(
        checkpoint=checkpoint,
        model=weights,
        total=checkpoint * (keep_checkpoints + 1) + weights,
    )


def print_pretrain_plan(config: PretrainConfig) -> None:
    """Print what a pretraining run would do and cost.

    Raises:
        ConfigError: `init` does not fit `architecture`.
        DataError: There is nothing to learn from.
        ModelError: `init` cannot be read.
    """
    data = load_pretrain_data(config)
    notes = list(data.notes)
    if config.init is not None:
        check_init(read_architecture(config.init), config.architecture, config.init)
        notes.append(
            f"Updates are timed with new weights, which take as long as those of {config.init}; "
            f"the validation before the first update, and {data.old.hours:.2f} h of `old_corpus` "
            "at each, are not counted."
        )
    # Where the codebooks start changes no time of an update; k-means would take its own.
    config = replace(
        config,
        precision=choose_precision(config.precision),
        quantizer_init=QuantizerInit.random,
    )
    job = PretrainJob(config, data, RunDirectory(config, "pretrain"))
    _print_plan(config, job, data.train, data.dev, notes=notes, alpha=config.batch.language_alpha)


def print_finetune_plan(config: FinetuneConfig) -> None:
    """Print what a finetuning run would do and cost.

    Raises:
        DataError: There is nothing to learn from.
        ModelError: `model` cannot be read.
    """
    data = load_recognition_data(config)
    config = replace(config, precision=choose_precision(config.precision))
    job = FinetuneJob(config, data, RunDirectory(config, "finetune"))
    labels = ", ".join(f"{len(one)} of {code}" for code, one in data.vocabularies.items())
    notes = [*data.notes, f"Labels: {labels}."]
    first_step = FreezingSchedule.of(config).find_full_step(data.encoder.num_layers)
    if first_step > 1:
        notes.append(
            f"Updates are timed with all learning that ever will; the first {first_step - 1}, in "
            "which less of the encoder learns, are faster."
        )
    if config.early_stop_patience:
        notes.append("The run may end earlier (`early_stop_patience`).")
    _print_plan(
        config,
        job,
        data.train,
        data.dev,
        notes=notes,
        alpha=config.batch.language_alpha,
        mixes_languages=False,
        first_step=first_step,
    )


def _print_plan(
    config: TrainConfig,
    job: PretrainJob | FinetuneJob,
    train: CorpusIndex,
    dev: CorpusIndex,
    *,
    notes: Sequence[str],
    alpha: float,
    mixes_languages: bool = True,
    first_step: int = 1,
) -> None:
    for note in notes:
        print(f"note: {note}")
    order = OrderConfig(
        seed=config.seed,
        alpha=alpha,
        batch_samples=round(config.batch.batch_seconds * SAMPLE_RATE),
        max_samples=round(config.batch.max_seconds * SAMPLE_RATE),
        window=config.batch.shuffle_window,
        mixes_languages=mixes_languages,
    )
    num_ranks = get_world_size()
    num_batches = num_ranks * config.batch.num_accumulate
    audio = plan_audio(train, order, num_batches, config.steps)
    model = job.create_model()
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    per_epoch = audio.batches_per_epoch / num_batches
    _print_rows(
        {
            "training audio": (
                f"{train.hours:.2f} h, {len(train):,} utterances, {len(train.languages)} languages"
            ),
            "validation audio": f"{dev.hours:.2f} h, {len(dev):,} utterances",
            "parameters": f"{num_parameters:,}",
            "one update": (
                f"{_format_hours(audio.hours_per_update)} of audio; batches: ranks × "
                f"`batch.num_accumulate` = {num_ranks} × {config.batch.num_accumulate}"
            ),
            "updates": f"{config.steps:,}, {per_epoch:.1f} an epoch, {audio.epochs:.2f} epochs",
            "audio heard": f"{audio.hours:.2f} h",
        }
    )
    _print_languages(audio, alpha)
    probe = run_probe(job, model, config, first_step=first_step)
    disk = plan_disk(model, config.keep_checkpoints)
    _print_rows(
        {
            "disk": (
                f"{_format_bytes(disk.total)}: {config.keep_checkpoints} + 1 checkpoints of "
                f"{_format_bytes(disk.checkpoint)}, model {_format_bytes(disk.model)}"
            ),
            "memory": f"{_format_bytes(probe.peak_bytes)} at most, measured on {probe.device}",
            **describe_time(config, audio, dev.hours, probe),
        }
    )
    for line in describe_gpus(config, audio):
        print(line)
    print("Nothing was written; leave out `plan=true` to run it.")


def describe_time(
    config: TrainConfig, audio: AudioPlan, dev_hours: float, probe: Probe
) -> dict[str, str]:
    """Return rows about time, from the timed updates.

    Args:
        config: The run's configuration.
        audio: What it hears.
        dev_hours: Audio of a validation.
        probe: The timed updates.
    """
    low, median, high = statistics.quantiles(probe.seconds, n=4, method="inclusive")
    times = [seconds * config.steps for seconds in (median, low, high)]
    num_validations = -(-config.steps // config.validate_every)
    validation = num_validations * dev_hours * probe.forward_seconds / probe.audio_hours
    shortened = f" (not {NUM_STEPS}, as they are slow)" if probe.is_shortened else ""
    speed = audio.hours_per_update * 3600 / median
    return {
        "one update here": (
            f"{median:.3g} s, median of {len(probe.seconds)}{shortened}; middle half "
            f"{low:.3g} – {high:.3g} s; {speed:.0f}× real time"
        ),
        "measured": (
            f"loading, forward, backward, AdamW on {probe.device}, {probe.num_threads} threads, "
            f"{config.precision.value}"
        ),
        "whole run here": (
            f"{format_duration(times[0])} ({format_duration(times[1])} – "
            f"{format_duration(times[2])}) of updates on one rank, as busy as the machine is now"
        ),
        "validation": (
            f"{format_duration(validation)} more, if {num_validations} forward passes over "
            f"{dev_hours:.2f} h are as fast as training's"
        ),
        "not counted": "the start, checkpoints, the report",
    }


def describe_gpus(config: TrainConfig, audio: AudioPlan) -> list[str]:
    """Return sentences about a run on several GPUs, if the configuration asks for them."""
    if config.plan_gpus is None or config.plan_gpu_hours_per_hour is None:
        return []
    num_gpus, speed = config.plan_gpus, config.plan_gpu_hours_per_hour
    throughput = num_gpus * speed * config.plan_efficiency
    per_rank = audio.hours_per_update / get_world_size()
    same_audio = audio.hours / throughput * 3600
    same_steps = config.steps * per_rank * num_gpus / throughput * 3600
    return [
        f"On {num_gpus} GPUs, assuming that one trains on {speed:g} h of audio an hour "
        f"(`plan_gpu_hours_per_hour`, not measured here), that {num_gpus} reach "
        f"{config.plan_efficiency:.0%} of {num_gpus} times that (`plan_efficiency`), that a batch "
        "fits into the memory of one, and that loading keeps up:",
        f"  the same {audio.hours:.2f} h of audio: {format_duration(same_audio)}, "
        f"{audio.hours / (per_rank * num_gpus):,.0f} updates of "
        f"{_format_hours(per_rank * num_gpus)}",
        f"  the same {config.steps:,} updates: {format_duration(same_steps)}, "
        f"{config.steps * per_rank * num_gpus:.2f} h of audio",
    ]


def _print_rows(rows: dict[str, str]) -> None:
    for name, value in rows.items():
        print(f"{name:<18}{value}")


def _print_languages(audio: AudioPlan, alpha: float) -> None:
    """Print what each language has and gets, the largest first."""
    total = sum(language.hours for language in audio.languages)
    width = max(8, *(len(language.code) for language in audio.languages))
    print(f"languages, drawn with p ∝ hours^{alpha:g}:")
    print(f"  {'language':<{width}} {'hours':>9} {'share':>7} {'heard':>9} {'share':>7} passes")
    for one in sorted(audio.languages, key=lambda language: -language.hours):
        print(
            f"  {one.code:<{width}} {one.hours:>9.2f} {one.hours / total:>7.1%} {one.heard:>9.2f} "
            f"{one.heard / audio.hours:>7.1%} {one.passes:>6.1f}"
        )


def _format_hours(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 1 else f"{hours * 3600:.0f} s"


def _format_bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
