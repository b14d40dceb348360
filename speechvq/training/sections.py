"""Our configuration as fairseq2's sections. References: fairseq2 0.8.1, `recipe.config`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from fairseq2.recipe.config import (
    ADAMW_OPTIMIZER,
    COSINE_ANNEALING_LR,
    POLYNOMIAL_DECAY_LR,
    TRI_STAGE_LR,
    ActivationCheckpointingConfig,
    AdamWConfig,
    AdamWGroupConfig,
    CommonSection,
    CompileOptions,
    CosineAnnealingLRConfig,
    GangSection,
    GradAccumulationConfig,
    LRSchedulerSection,
    MetricRecordersConfig,
    MixedPrecisionConfig,
    ModelSection,
    OptimizerSection,
    PolynomialDecayLRConfig,
    RegimeSection,
    TensorBoardConfig,
    TorchConfig,
    TrainerSection,
    TriStageLRConfig,
    WandbConfig,
)

from speechvq.training.config import OptimizerConfig, Precision, Schedule, TrainConfig
from speechvq.training.freezing import RateGroup

FAMILY = "speechvq"
"""Name of our model family inside fairseq2."""

NO_DECAY = r".*(bias|\.shift|\.magnitude|norm.*|mask_embedding.*|quantizer\.codebook|\.codebooks)$"
"""Parameters without weight decay.

Biases (SimVQ's is `shift`), norms, the mask embedding, the gain of the convolution of positions,
and entries of codebooks: those that are chosen seldom would drift to the origin.
"""


@dataclass
class FamilyConfig:
    """What fairseq2 knows of our model; the model itself is built by the job."""

    description: str = "see ../config.json"


@dataclass(kw_only=True)
class EngineConfig:
    """fairseq2's sections of a training recipe."""

    model: ModelSection
    gang: GangSection = field(default_factory=GangSection)
    trainer: TrainerSection
    optimizer: OptimizerSection
    lr_scheduler: LRSchedulerSection
    regime: RegimeSection
    common: CommonSection


def create_engine_config(
    config: TrainConfig, rate_groups: Sequence[RateGroup] = ()
) -> EngineConfig:
    """Map our configuration to fairseq2's sections.

    Args:
        config: Our configuration.
        rate_groups: Parameters that learn at a rate of their own.
    """
    is_fp32 = config.precision is Precision.fp32
    return EngineConfig(
        model=ModelSection(
            family=FAMILY,
            compile=config.compile,
            compile_options=CompileOptions(dynamic=True),  # batches differ in length
        ),
        trainer=TrainerSection(
            activation_checkpointing=ActivationCheckpointingConfig(
                mode="layerwise" if config.activation_checkpointing else "off"
            ),
            data_parallelism=config.parallelism.value,
            mixed_precision=MixedPrecisionConfig(
                mode="off" if is_fp32 else "auto",
                dtype=torch.float32 if is_fp32 else torch.bfloat16,
            ),
            grad_accumulation=GradAccumulationConfig(num_batches=config.batch.num_accumulate),
            max_grad_norm=config.optimizer.max_grad_norm,
        ),
        optimizer=OptimizerSection(
            name=ADAMW_OPTIMIZER, config=_create_adamw_config(config.optimizer, rate_groups)
        ),
        lr_scheduler=_create_schedule(config.optimizer, config.steps),
        regime=RegimeSection(
            num_steps=config.steps,
            validate_every_n_steps=config.validate_every,
            checkpoint_every_n_steps=config.checkpoint_every,
            keep_last_n_checkpoints=config.keep_checkpoints,
            publish_metrics_every_n_steps=config.log_every,
        ),
        common=CommonSection(
            seed=config.seed,
            no_sweep_dir=True,
            # What is computed in fp32 beside bf16 (distances, logits of codes) needs all its bits.
            torch=TorchConfig(num_threads=config.num_threads, allow_tf32=False),
            metric_recorders=MetricRecordersConfig(
                tensorboard=TensorBoardConfig(enabled=config.tensorboard),
                wandb=WandbConfig(
                    enabled=config.wandb_project is not None, project=config.wandb_project
                ),
            ),
        ),
    )


def _create_adamw_config(
    optimizer: OptimizerConfig, rate_groups: Sequence[RateGroup]
) -> AdamWConfig:
    # A parameter belongs to the first group that matches its name.
    groups = []
    for group in rate_groups:
        lr = group.scale * optimizer.lr
        groups += [
            AdamWGroupConfig(params=f"(?={group.pattern}){NO_DECAY}", lr=lr, weight_decay=0.0),
            AdamWGroupConfig(params=group.pattern, lr=lr),
        ]
    return AdamWConfig(
        lr=optimizer.lr,
        betas=(optimizer.beta1, optimizer.beta2),
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        groups=[*groups, AdamWGroupConfig(params=NO_DECAY, weight_decay=0.0)],
    )


def _create_schedule(optimizer: OptimizerConfig, steps: int) -> LRSchedulerSection:
    num_warmup = max(1, round(optimizer.warmup_share * steps)) if optimizer.warmup_share else 0
    num_warmup = min(num_warmup, steps - 1)  # fairseq2 wants a step left for the decay
    scale = optimizer.final_lr_scale
    match optimizer.schedule:
        case Schedule.linear:
            return LRSchedulerSection(
                name=POLYNOMIAL_DECAY_LR,
                config=PolynomialDecayLRConfig(
                    num_warmup_steps=num_warmup, final_lr=scale * optimizer.lr
                ),
            )
        case Schedule.cosine:
            return LRSchedulerSection(
                name=COSINE_ANNEALING_LR,
                config=CosineAnnealingLRConfig(
                    num_warmup_steps=num_warmup,
                    final_lr=scale * optimizer.lr,
                    final_lr_scale=None,
                ),
            )
        case Schedule.tri_stage:
            shares = (optimizer.warmup_share, optimizer.hold_share)
            return LRSchedulerSection(
                name=TRI_STAGE_LR,
                config=TriStageLRConfig(
                    stage_ratio=(*shares, 1 - sum(shares)), final_lr_scale=scale
                ),
            )
