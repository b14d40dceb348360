"""What does not depend on the size or the order of a corpus."""

from __future__ import annotations

import numpy as np

from speechvq.analysis.attention_pass import AttentionPass
from speechvq.analysis.config import AnalyzeConfig
from speechvq.analysis.extraction import fit_controls
from speechvq.analysis.phone_intervals import PhoneInterval
from speechvq.data.records import SAMPLE_RATE, Utterance
from speechvq.models.directory import load_ctc_model, load_model

PHONES = [PhoneInterval("a", 0.0, 0.3)]


def test_too_little_audio_for_k_means_leaves_it_out(corpus, recognizer_directory) -> None:
    model = load_ctc_model(recognizer_directory).eval()
    config = AnalyzeConfig(corpus=str(corpus), model="m", output="o", control_size=50_000)
    controls, problems = fit_controls(config, model, ["mdw_Latn"], 6.0, 6)
    assert set(controls) == {"random"}
    assert "no control of k-means: k-means with 50000 centroids" in problems[0]


def test_few_long_utterances_are_enough_for_k_means(corpus, recognizer_directory) -> None:
    """Six utterances that pass for minutes of speech, of which a fiftieth is wanted."""
    model = load_ctc_model(recognizer_directory).eval()
    config = AnalyzeConfig(corpus=str(corpus), model="m", output="o", control_size=2)
    _, problems = fit_controls(config, model, ["mdw_Latn"], 200.0, 6)
    assert problems == []


def watch(directory, order: list[int], **phones: list[PhoneInterval]) -> AttentionPass:
    model = load_model(directory).eval()
    watched = AttentionPass(model, {"mdw_Latn": 3}, 3, seed=1)
    rng = np.random.default_rng(0)
    waveforms = 0.1 * rng.normal(size=(3, SAMPLE_RATE)).astype(np.float32)
    for number in order:
        row = Utterance(id=f"u{number}", language="mdw_Latn")
        watched.add(row, waveforms[number], phones.get(f"u{number}"))
    return watched


def test_the_same_examples_are_shown_in_any_order(encoder_directory) -> None:
    shown = {
        watch(encoder_directory, order).examples["mdw_Latn"].utterance
        for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0])
    }
    assert len(shown) == 1
    for name in ("u0", "u1", "u2"):
        examples = watch(encoder_directory, [0, 1, 2], **{name: PHONES}).examples
        assert examples["mdw_Latn"].utterance == name


def test_long_utterances_are_counted_and_not_watched(encoder_directory) -> None:
    model = load_model(encoder_directory).eval()
    watched = AttentionPass(model, {"mdw_Latn": 1}, 5, seed=1)
    row = Utterance(id="u", language="mdw_Latn")
    watched.add(row, np.zeros(41 * SAMPLE_RATE, dtype=np.float32), None)
    assert (watched.num_too_long, watched.tally.layers) == (1, [])
