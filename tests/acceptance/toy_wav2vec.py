"""Toy 2 of METHODS A.6: wav2vec 2.0 in miniature, made of the project's own modules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from speechvq.analysis.phones import (
    compute_chance_pnmi,
    compute_cluster_purity,
    compute_phone_purity,
    compute_pnmi,
    count_pairs,
)
from speechvq.models.build import create_quantizer
from speechvq.models.config import QuantizerConfig
from speechvq.nn.contrastive import ContrastiveTask, TaskOutput
from speechvq.nn.gumbel_quantizer import gumbel_temperature
from speechvq.nn.masking import compute_span_mask, sample_distractors
from speechvq.nn.positions import ConvPositions
from speechvq.nn.quantizer import QuantizerOutput
from speechvq.nn.transformer import Encoder
from tests.acceptance.toy_speech import NUM_MELS, ToySpeech, create_toy_speech

DIM = 64
NUM_SEQUENCES, NUM_FRAMES = 24, 64
NUM_DISTRACTORS, SPAN, MASK_PROB = 40, 5, 0.65
NUM_STEPS, INTERVAL = 500, 25
LEARNING_RATE, NUM_WARMUP_STEPS, MAX_GRAD_NORM = 1e-3, 50, 1.0
NUM_HELD_OUT = 2000
"""Held-out utterances: 128,000 frames, so that thousands of joint codes tell more than chance."""


@dataclass(frozen=True)
class Interval:
    """What training logs of `INTERVAL` steps, under the names of `metrics.jsonl`.

    Attributes:
        step: The last of them.
        targets: Masked frames.
        accuracy: Share of targets that were found.
        equal_share: Share of distractors with their target's codes.
        perplexity: Of the chosen codes, one number a codebook.
    """

    step: int
    targets: float
    accuracy: float
    equal_share: float
    perplexity: list[float]


@dataclass(frozen=True)
class Wav2VecResult:
    """What a miniature reached; all but the intervals on 128,000 held-out frames.

    Attributes:
        intervals: Of training, in order.
        utilisation: Share of entries chosen, one number a codebook.
        perplexity: Of the codes, one number a codebook.
        num_joint_codes: Combinations that occur.
        joint_perplexity: Of the combinations.
        pnmi: Of the combinations, with the true phones.
        chance_pnmi: Of the same codes dealt out at random.
        phone_purity: See `compute_phone_purity`.
        cluster_purity: See `compute_cluster_purity`.
    """

    intervals: list[Interval]
    utilisation: list[float]
    perplexity: list[float]
    num_joint_codes: int
    joint_perplexity: float
    pnmi: float
    chance_pnmi: float
    phone_purity: float
    cluster_purity: float


@dataclass
class MaskedBatch:
    """Frames, and which of them are masked.

    Attributes:
        frames: (B, T, 40).
        mask: (B, T) bool.
        masked_frames: (B, M) long, rising, padded with 0.
        num_masked: (B,) long.
        distractors: (B, M, K) long, indices into the utterance's masked frames.
    """

    frames: Tensor
    mask: Tensor
    masked_frames: Tensor
    num_masked: Tensor
    distractors: Tensor

    @property
    def valid(self) -> Tensor:
        """(B, M) bool, False = padding."""
        return torch.arange(self.masked_frames.size(1)) < self.num_masked[:, None]


class ToyWav2Vec(nn.Module):
    """Features frame by frame, a Transformer over masked ones, and the contrastive task."""

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(NUM_MELS, DIM), nn.GELU(), nn.Linear(DIM, DIM), nn.LayerNorm(DIM)
        )
        self.mask_embedding = nn.Parameter(torch.empty(DIM).uniform_())
        self.positions = ConvPositions(DIM, kernel=16, groups=4)
        self.encoder = Encoder(
            2,
            DIM,
            4,
            4 * DIM,
            conv_kernel=0,
            norm_first=True,
            dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            layer_drop_prob=0.0,
        )
        self.quantizer = create_quantizer(config, DIM)
        self.task = ContrastiveTask(DIM, config.code_dim, DIM, logit_temperature=0.1)

    def forward(
        self, batch: MaskedBatch, temperature: float
    ) -> tuple[TaskOutput, QuantizerOutput, Tensor]:
        """Task, targets, and the features (B, M, D) that were quantised."""
        features = self.features(batch.frames)  # (B, T, D)
        hidden = torch.where(batch.mask[..., None], self.mask_embedding, features)
        context, _ = self.encoder(hidden + self.positions(hidden), None)
        rows = torch.arange(len(features))[:, None]
        quantized = self.quantizer(
            features[rows, batch.masked_frames], temperature=temperature, valid=batch.valid
        )
        task = self.task(
            context[rows, batch.masked_frames], quantized, batch.distractors, batch.num_masked
        )
        return task, quantized, features[rows, batch.masked_frames]


def draw_batch(
    speech: ToySpeech, generator: torch.Generator, rng: np.random.Generator
) -> MaskedBatch:
    """24 utterances with spans of 5 frames masked, and 40 distractors for each masked frame."""
    frames, _ = speech.draw_sequences(NUM_SEQUENCES, NUM_FRAMES, generator)
    masks = np.stack(
        [
            compute_span_mask(NUM_FRAMES, prob=MASK_PROB, length=SPAN, min_spans=2, rng=rng)
            for _ in range(NUM_SEQUENCES)
        ]
    )
    counts = masks.sum(1)
    masked_frames = np.zeros((NUM_SEQUENCES, counts.max()), dtype=np.int64)
    distractors = np.zeros((*masked_frames.shape, NUM_DISTRACTORS), dtype=np.int64)
    for row, (mask, count) in enumerate(zip(masks, counts, strict=True)):
        masked_frames[row, :count] = mask.nonzero()[0]
        distractors[row, :count] = sample_distractors(int(count), NUM_DISTRACTORS, rng)
    return MaskedBatch(
        frames,
        torch.from_numpy(masks),
        torch.from_numpy(masked_frames),
        torch.from_numpy(counts),
        torch.from_numpy(distractors),
    )


def train_wav2vec(
    config: QuantizerConfig, *, seed: int, diversity_weight: float, num_steps: int = NUM_STEPS
) -> tuple[ToyWav2Vec, Wav2VecResult]:
    """Trains with Adam (1e-3, 0.9, 0.98) on the loss of `recipes.pretrain` and measures.

    Args:
        config: The quantiser.
        seed: Of data and weights.
        diversity_weight: As in `architecture.diversity_weight`.
        num_steps: Updates.
    """
    torch.manual_seed(seed)
    speech = create_toy_speech(seed)
    generator = torch.Generator().manual_seed(seed + 1000)
    rng = np.random.default_rng(seed)
    model = ToyWav2Vec(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / NUM_WARMUP_STEPS)
    )
    intervals, sums = [], _Sums(config)
    for step in range(num_steps):
        batch = draw_batch(speech, generator, rng)
        task, quantized, _ = model(batch, gumbel_temperature(step, 2.0, 0.5, 0.997))
        loss = task.loss_per_frame.sum() / task.valid.sum()
        loss = loss + diversity_weight * quantized.diversity_loss
        if quantized.vq_loss is not None:
            loss = loss + quantized.vq_loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
        sums.add(task, quantized)
        if (step + 1) % INTERVAL == 0:
            intervals.append(sums.finish(step + 1))
            sums = _Sums(config)
    frames, phones = speech.draw_sequences(NUM_HELD_OUT, NUM_FRAMES, generator)
    return model, measure_wav2vec(model, intervals, frames, phones)


@torch.no_grad()
def measure_wav2vec(
    model: ToyWav2Vec, intervals: list[Interval], frames: Tensor, phones: Tensor
) -> Wav2VecResult:
    """How held-out frames (B, T, 40) are encoded, against their phones (B, T)."""
    model.eval()
    codes = model.quantizer.encode(model.features(frames)).flatten(0, 1)  # (N, G)
    counts = _count_codes(codes, model.quantizer.codebook_size)
    joint = count_pairs(phones.flatten().numpy(), codes.numpy())
    rng = np.random.default_rng(0)
    chance = compute_chance_pnmi(phones.flatten().numpy(), codes.numpy(), rng=rng)
    return Wav2VecResult(
        intervals=intervals,
        utilisation=(counts > 0).float().mean(1).tolist(),
        perplexity=_compute_perplexity(counts).tolist(),
        num_joint_codes=joint.shape[1],
        joint_perplexity=float(_compute_perplexity(torch.from_numpy(joint.sum(0)))),
        pnmi=compute_pnmi(joint),
        chance_pnmi=chance,
        phone_purity=compute_phone_purity(joint),
        cluster_purity=compute_cluster_purity(joint),
    )


class _Sums:
    """The figures of an interval while it lasts."""

    def __init__(self, config: QuantizerConfig) -> None:
        self.size = config.codebook_size
        self.counts = torch.zeros(config.num_codebooks, self.size)
        self.targets = self.correct = self.equal = 0.0

    def add(self, task: TaskOutput, quantized: QuantizerOutput) -> None:
        """One step."""
        self.counts += _count_codes(quantized.codes[task.valid], self.size)
        self.targets += float(task.valid.sum())
        self.correct += float(task.correct.sum())
        self.equal += float(task.equal_share.sum())

    def finish(self, step: int) -> Interval:
        """The interval that ends with `step`."""
        return Interval(
            step,
            self.targets,
            self.correct / self.targets,
            self.equal / self.targets,
            _compute_perplexity(self.counts).tolist(),
        )


def _count_codes(codes: Tensor, size: int) -> Tensor:
    """(N, G) → (G, V)."""
    return torch.stack([torch.bincount(codes[:, g], minlength=size) for g in range(codes.size(1))])


def _compute_perplexity(counts: Tensor) -> Tensor:
    """(…, V) → (…)."""
    share = counts.double() / counts.sum(-1, keepdim=True)
    return (-torch.xlogy(share, share.clamp(min=1e-20)).sum(-1)).exp()
