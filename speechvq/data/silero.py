"""Silero's voice activity detector (model of 16 kHz, silero-vad 6.2) over sequences of windows.

The package's own model reads one window of 512 samples at a time; its convolutions know no state,
so here they run over many windows at once and only the recurrence goes step by step, inside torch's
LSTM. A window is read with the 64 samples before it, and its own last 64 reversed after it:

    (W, 640) --STFT 256/128--> (W, 129, 4) --4 convolutions--> (W, 128) --LSTM--> (W, 128) --> (W,)

A recording is read in blocks of 16 s and the recurrence goes on from block to block: a tenth of the
time of the package's own loop, the same probabilities, and memory that does not grow with the
recording. Nothing depends on what other recordings are looked at: the same sound gives the same
bits.

The weights are those of the TorchScript file inside the wheel, which is what `load_silero_vad`
loads (the same in 6.2.0 to 6.2.3). `silero_vad_16k.safetensors` beside it holds other weights, with
which probabilities of speech differ by up to 0.3.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from speechvq.data.records import SAMPLE_RATE
from speechvq.data.vad import WINDOW_SAMPLES, Probabilities, Samples
from speechvq.errors import MissingDependencyError, ModelError

State = tuple[Tensor, Tensor]
"""The LSTM's hidden and cell state, (1, 128) each."""

_BLOCK_WINDOWS = 512  # 16 s
_CONTEXT_SAMPLES = 64  # read again before a window; zeros before the first
_BINS = 129
_HOP = 128
_CHANNELS = ((_BINS, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1))  # in, out, stride
_PREFIX = "_model."  # `_model_8k.` is for 8 kHz
_NAMES = {
    "stft": "stft.forward_basis_buffer",
    **{
        f"encoder.{layer}.{kind}": f"encoder.{layer}.reparam_conv.{kind}"
        for layer in range(len(_CHANNELS))
        for kind in ("weight", "bias")
    },
    **{
        f"lstm.{kind}_{side}_l0": f"decoder.rnn.{kind}_{side}"
        for kind in ("weight", "bias")
        for side in ("ih", "hh")
    },
    "output.weight": "decoder.decoder.2.weight",
    "output.bias": "decoder.decoder.2.bias",
}
_TOLERANCE = 1e-4


class SileroDetector(nn.Module):
    """The network; its weights are loaded, never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = nn.Parameter(torch.empty(2 * _BINS, 1, 2 * _HOP), requires_grad=False)
        self.encoder = nn.ModuleList(
            nn.Conv1d(num_in, num_out, 3, stride=stride, padding=1)
            for num_in, num_out, stride in _CHANNELS
        )
        self.lstm = nn.LSTM(128, 128)
        self.output = nn.Conv1d(128, 1, 1)

    def forward(self, samples: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Computes how likely each window is speech.

        Args:
            samples: float32 (64 + W * 512,), 16 kHz: the windows, after the 64 samples before them.
            state: What the windows before left; None at the beginning of a recording.

        Returns:
            Probabilities (W,), and the state after the last window.
        """
        windows = samples.unfold(0, _CONTEXT_SAMPLES + WINDOW_SAMPLES, WINDOW_SAMPLES)  # (W, 576)
        windows = functional.pad(windows, (0, _CONTEXT_SAMPLES), mode="reflect")  # (W, 640)
        spectrum = functional.conv1d(windows.unsqueeze(1), self.stft, stride=_HOP)  # (W, 258, 4)
        power = spectrum[:, :_BINS].square() + spectrum[:, _BINS:].square()
        features = power.sqrt()  # (W, 129, 4)
        for convolution in self.encoder:
            features = convolution(features).relu()
        hidden, state = self.lstm(features.squeeze(2), state)  # (W, 128)
        scores = functional.linear(hidden.relu(), self.output.weight.squeeze(2), self.output.bias)
        return scores.squeeze(1).sigmoid(), state


def compute_silero_probabilities(samples: Samples) -> Probabilities:
    """Returns how likely each window of 32 ms is speech, float32 (ceil(S / 512),).

    Args:
        samples: float32 (S,), 16 kHz; the last window is filled up with zeros.

    Raises:
        MissingDependencyError: If `silero-vad` is not installed.
        ModelError: If its model is built otherwise than that of silero-vad 6.2.
    """
    num_windows = -(-len(samples) // WINDOW_SAMPLES)
    probabilities = np.zeros(num_windows, np.float32)
    state = None
    with _limit_to_one_thread():
        detector = load_silero_detector()
        with torch.inference_mode():
            for first in range(0, num_windows, _BLOCK_WINDOWS):
                last = min(first + _BLOCK_WINDOWS, num_windows)
                block, state = detector(torch.from_numpy(_cut(samples, first, last)), state)
                probabilities[first:last] = block.numpy()
    return probabilities


@cache
def load_silero_detector() -> SileroDetector:
    """Loads the detector from the installed wheel, once a process; it keeps no state.

    Raises:
        MissingDependencyError: If `silero-vad` is not installed.
        ModelError: If its model is built otherwise than this module expects.
    """
    # Importing the package would set torch's number of threads for the whole process.
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError("silero_vad", "prep", "find speech in recordings")
    file = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad.jit"
    if not file.is_file():
        raise _create_model_error(f"{file} does not exist")
    return rebuild_detector(torch.jit.load(file, map_location="cpu"))


def rebuild_detector(shipped: Any) -> SileroDetector:
    """Builds the network with the weights of the TorchScript model.

    Strides, padding and context do not stand among the weights: that both give the same
    probabilities is tried on half a second of sound.

    Args:
        shipped: The model as the wheel has it; its state is reset.

    Raises:
        ModelError: If names or shapes of its weights, or its probabilities, are not as expected.
    """
    with torch.device("meta"):
        detector = SileroDetector()
    weights = {
        name.removeprefix(_PREFIX): weight.detach()
        for name, weight in shipped.state_dict().items()
        if name.startswith(_PREFIX)
    }
    _check_weights(detector, weights)
    detector.load_state_dict(
        {ours: weights[theirs] for ours, theirs in _NAMES.items()}, assign=True
    )
    detector.requires_grad_(requires_grad=False).eval()
    _check_probabilities(detector, shipped)
    return detector


def _cut(samples: Samples, first: int, last: int) -> npt.NDArray[np.float32]:
    """Returns windows `first` to `last` after the 64 samples before them; beyond are zeros."""
    begin, end = first * WINDOW_SAMPLES - _CONTEXT_SAMPLES, last * WINDOW_SAMPLES
    piece = samples[max(begin, 0) : end]
    return np.pad(piece, (max(-begin, 0), max(end - len(samples), 0)))


@contextmanager
def _limit_to_one_thread() -> Iterator[None]:
    """More threads make steps this small slower, and would not outlive a fork."""
    num_threads = torch.get_num_threads()
    if num_threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _check_weights(detector: SileroDetector, weights: dict[str, Tensor]) -> None:
    if surplus := sorted(weights.keys() - _NAMES.values()):
        raise _create_model_error(f"it holds a weight `{_PREFIX}{surplus[0]}` too many")
    for ours, expected in detector.state_dict().items():
        theirs = _NAMES[ours]
        if theirs not in weights:
            raise _create_model_error(f"it holds no weight `{_PREFIX}{theirs}`")
        weight = weights[theirs]
        if weight.shape != expected.shape or weight.dtype != torch.float32:
            raise _create_model_error(
                f"the weight `{_PREFIX}{theirs}` must be float32 of shape {tuple(expected.shape)},"
                f" but is {str(weight.dtype).removeprefix('torch.')} of shape {tuple(weight.shape)}"
            )


@torch.inference_mode()
def _check_probabilities(detector: SileroDetector, shipped: Any) -> None:
    sound = _sing_vowel()
    ours, _ = detector(functional.pad(sound, (_CONTEXT_SAMPLES, 0)))
    # The profiling executor would spend seconds on making these few calls fast.
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        shipped.reset_states()
        theirs = torch.cat([shipped(w, SAMPLE_RATE)[0] for w in sound.view(-1, 1, WINDOW_SAMPLES)])
        shipped.reset_states()
    difference = float((ours - theirs).abs().max())
    if not difference <= _TOLERANCE:
        raise _create_model_error(
            f"a network rebuilt from its weights differs from it by a probability of {difference:g}"
        )


def _sing_vowel() -> Tensor:
    """Returns half a second of [a] at 125 Hz (S,), which is speech at first and then a drone."""
    time = torch.arange(16 * WINDOW_SAMPLES, dtype=torch.float64, device="cpu") / SAMPLE_RATE
    harmonics = 125.0 * torch.arange(1, 40, dtype=torch.float64, device="cpu").unsqueeze(1)
    formants = ((700.0, 0.1), (1200.0, 0.06), (2600.0, 0.03))  # Hz, amplitude
    gains = sum(gain / (1 + ((harmonics - centre) / 80) ** 2) for centre, gain in formants)
    return (gains * (2 * torch.pi * harmonics * time).sin()).sum(dim=0).float()


def _create_model_error(what: str) -> ModelError:
    return ModelError(
        f"silero-vad {metadata.version('silero-vad')}: its model is not built as that of 6.2, which"
        f" speechvq reads: {what}. Install `silero-vad==6.2.3`, or choose `segment.vad=webrtc`."
    )
