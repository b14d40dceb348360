"""Silero over a sequence gives what the shipped model gives window by window, and leaves no trace
in the process.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from speechvq.data import silero
from speechvq.data.silero import compute_silero_probabilities, load_silero_detector
from speechvq.errors import MissingDependencyError, ModelError

pytest.importorskip("silero_vad")

Waveform = npt.NDArray[np.float32]
TOLERANCE = 1e-4


@cache
def _load_shipped() -> Any:
    from silero_vad import load_silero_vad

    return load_silero_vad(onnx=False)


def _ask_shipped(waveform: Waveform) -> Waveform:
    """The shipped model, window by window, as its authors use it."""
    model = _load_shipped()
    padded = np.pad(waveform, (0, -len(waveform) % 512))
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        model.reset_states()
        windows = torch.from_numpy(padded).split(512)
        return np.asarray([float(model(window.clone(), 16_000)) for window in windows], np.float32)


def _babble(seconds: float) -> Waveform:
    """Sung vowels that glide and pause, over noise: now speech to the model, now not."""
    rng = np.random.default_rng(1)
    time = np.arange(int(seconds * 16_000)) / 16_000
    pitch = 130 + 30 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    centre = 800 + 500 * np.sin(2 * np.pi * 1.3 * time)
    voice = sum(
        np.sin(k * phase) / (1 + ((k * pitch - centre) / 150) ** 2)
        + 0.5 * np.sin(k * phase) / (1 + ((k * pitch - 2500) / 200) ** 2)
        for k in range(1, 30)
    )
    syllables = np.clip(np.sin(2 * np.pi * 3 * time), 0, 1) * (np.sin(2 * np.pi * 0.2 * time) > 0)
    return (0.2 * syllables * voice + 0.003 * rng.standard_normal(len(time))).astype(np.float32)


def _noise(num_samples: int, scale: float = 0.1) -> Waveform:
    noise = np.random.default_rng(num_samples).standard_normal(num_samples)
    return (scale * noise).astype(np.float32)


@cache
def _sounds() -> dict[str, Waveform]:
    return {
        "babble": _babble(17.3),
        "silence": np.zeros(20_000, np.float32),
        "noise": _noise(30_001),
        "beyond full scale": _noise(5000, 3.0),
        "a click": np.eye(1, 9000, 4000, dtype=np.float32)[0],
        "direct current": np.full(9000, 0.5, np.float32),
        **{f"{count} samples": _noise(count) for count in (1, 63, 64, 511, 512, 513, 577)},
    }


@pytest.mark.parametrize("block_windows", [512, 7, 1])
def test_equals_the_shipped_model(block_windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "_BLOCK_WINDOWS", block_windows)
    for name, waveform in _sounds().items():
        np.testing.assert_allclose(
            compute_silero_probabilities(waveform), _expected()[name], atol=TOLERANCE, err_msg=name
        )


@cache
def _expected() -> dict[str, Waveform]:
    return {name: _ask_shipped(waveform) for name, waveform in _sounds().items()}


def test_the_babble_is_now_speech_now_not() -> None:
    assert 0.1 < float(np.mean(_expected()["babble"] > 0.5)) < 0.9


def test_equals_the_shipped_model_on_speech(shared_data: Path) -> None:
    from speechvq.data.audio import load_audio

    for source in ("noa_hindi", "mboshi"):
        for file in sorted((shared_data / source / "audio").rglob("*.*"))[:2]:
            waveform = load_audio(file).waveform[: 10 * 16_000]
            np.testing.assert_allclose(
                compute_silero_probabilities(waveform), _ask_shipped(waveform), atol=TOLERANCE
            )


def test_an_empty_recording_has_no_windows() -> None:
    assert compute_silero_probabilities(np.zeros(0, np.float32)).shape == (0,)


def test_reads_no_more_than_a_block_at_a_time() -> None:
    class Silence:
        longest = 0

        def __len__(self) -> int:
            return 60 * 16_000

        def __getitem__(self, key: slice) -> Waveform:
            begin, end, _ = key.indices(len(self))
            self.longest = max(self.longest, end - begin)
            return np.zeros(end - begin, np.float32)

    silence = Silence()
    assert len(compute_silero_probabilities(silence)) == 1875
    assert silence.longest <= 512 * 512 + 64


class _Altered:
    """The shipped model with other weights, or with another answer."""

    def __init__(self, weights: dict[str, Tensor | None], gain: float = 1.0) -> None:
        self._weights, self._gain = weights, gain

    def state_dict(self) -> dict[str, Tensor]:
        weights = _load_shipped().state_dict() | self._weights
        return {name: weight for name, weight in weights.items() if weight is not None}

    def reset_states(self) -> None:
        _load_shipped().reset_states()

    def __call__(self, window: Tensor, rate: int) -> Tensor:
        answer: Tensor = _load_shipped()(self._gain * window, rate)
        return answer


@pytest.mark.parametrize(
    ("shipped", "sentence"),
    [
        (_Altered({"_model.decoder.rnn.bias_hh": None}), r"no weight `_model\.decoder\.rnn\.bias"),
        (_Altered({"_model.encoder.4.bias": torch.zeros(1)}), r"`_model\.encoder\.4\.bias` too"),
        (
            _Altered({"_model.decoder.rnn.weight_hh": torch.zeros(1024, 256)}),
            r"rnn\.weight_hh` must be float32 of shape \(512, 128\), but is .*\(1024, 256\)",
        ),
        (
            _Altered({"_model.decoder.decoder.2.bias": torch.zeros(1, dtype=torch.float16)}),
            r"must be float32 of shape \(1,\), but is float16",
        ),
        (_Altered({}, gain=0.9), "differs from it by a probability of"),
    ],
)
def test_another_model_in_the_wheel_is_refused(shipped: _Altered, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        silero.rebuild_detector(shipped)
    assert "silero-vad==6.2" in str(caught.value)


def test_the_same_model_is_accepted() -> None:
    silero.rebuild_detector(_Altered({"_model_8k.more": torch.zeros(1)}))


def test_says_which_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, fresh_detector: None
) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(MissingDependencyError, match=r"speechvq\[prep\]"):
        compute_silero_probabilities(_noise(600))


@pytest.fixture
def fresh_detector() -> Iterator[None]:
    load_silero_detector.cache_clear()
    yield
    load_silero_detector.cache_clear()


def test_default_dtype_and_mode_do_not_matter(fresh_detector: None) -> None:
    expected = compute_silero_probabilities(_babble(2.0))
    load_silero_detector.cache_clear()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            found = compute_silero_probabilities(_babble(2.0))
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found, expected)


def test_leaves_random_numbers_and_threads_alone(fresh_detector: None) -> None:
    torch.set_num_threads(2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    compute_silero_probabilities(_noise(600))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 2


def test_the_package_is_not_imported(monkeypatch: pytest.MonkeyPatch, fresh_detector: None) -> None:
    monkeypatch.delitem(sys.modules, "silero_vad", raising=False)
    assert len(compute_silero_probabilities(_noise(600))) == 2
    assert "silero_vad" not in sys.modules


def test_threads_of_one_process_share_it(fresh_detector: None) -> None:
    clips = [_babble(seconds) for seconds in (1.0, 2.0, 1.5, 0.5)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(compute_silero_probabilities, clips))
    for clip, row in zip(clips, found, strict=True):
        np.testing.assert_array_equal(compute_silero_probabilities(clip), row)


def test_works_in_a_fork_of_a_process_with_threads() -> None:
    """OpenMP's threads do not exist in a fork, and who asks for them there waits for ever."""
    torch.set_num_threads(2)
    torch.randn(400, 400) @ torch.randn(400, 400)
    waveform = _babble(3.0)
    expected = compute_silero_probabilities(waveform)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(compute_silero_probabilities(waveform)))
    child.start()
    child.join(60)
    exit_code = child.exitcode
    child.kill()
    assert exit_code == 0
    np.testing.assert_array_equal(queue.get(), expected)
