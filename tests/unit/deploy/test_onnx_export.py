"""The ONNX form of a recogniser says what the recogniser says."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from recipes import export
from speechvq.deploy.onnx_export import export_onnx, format_tokens
from speechvq.deploy.onnx_graph import find_silence
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.silence import find_silent_frames
from speechvq.errors import MissingDependencyError, ModelError
from speechvq.models.build import create_ctc_model
from speechvq.models.config import (
    CTCModelConfig,
    EncoderConfig,
    FbankConfig,
    FeatureNorm,
    Features,
    WaveformConfig,
)
from speechvq.models.directory import save_model
from speechvq.models.vocabulary import build_character_vocabulary
from tests.support.parity import randomize

GUIDE = Path(__file__).parents[3] / "docs" / "exporting.md"
VOCABULARIES = {
    "hin_Deva": build_character_vocabulary(["नमस्ते दुनिया"]),
    "mdw_Latn": build_character_vocabulary(["obe la"]),
}
LENGTHS = (21_000, 34_567, 9_000)


def create_config(kind: str) -> CTCModelConfig:
    layer = kind == "layer"
    return CTCModelConfig(
        features=Features.fbank if kind == "fbank" else Features.waveform,
        fbank=FbankConfig(num_mels=20, stack=4),
        waveform=WaveformConfig(
            dims=[8, 12, 16],
            kernels=[10, 9, 8],
            strides=[5, 8, 8],
            norm=FeatureNorm.layer if layer else FeatureNorm.group,
            bias=layer,
            normalize=layer,
        ),
        encoder=EncoderConfig(
            num_layers=1,
            model_dim=16,
            num_heads=2,
            ffn_dim=24,
            position_kernel=36,
            position_groups=2,
            norm_first=layer,
            conv_kernel=3 if kind == "fbank" else 0,
        ),
    )


def save_recognizer(folder: Path, kind: str) -> Recognizer:
    torch.manual_seed(1)
    languages = sorted(VOCABULARIES) if kind == "fbank" else ["hin_Deva"]
    model = create_ctc_model(create_config(kind), {name: VOCABULARIES[name] for name in languages})
    randomize(model)
    save_model(folder, model)
    return Recognizer.load(folder, device="cpu")


def create_waveforms() -> list[np.ndarray]:
    """Noise with a silence in each, in the first at its end."""
    rng = np.random.default_rng(3)
    waveforms = [rng.normal(0, 0.1, length).astype(np.float32) for length in LENGTHS]
    waveforms[0][8_000:] = 0
    waveforms[1][4_000:19_000] = 1e-4
    waveforms[1] += np.float32(0.0001)
    return waveforms


def open_session(path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options)


def run_batch(path: Path, waveforms: list[np.ndarray]) -> list[np.ndarray]:
    """Log-probabilities of a padded batch; the padding is noise, which must not matter."""
    lengths = np.array([len(waveform) for waveform in waveforms])
    batch = np.random.default_rng(4).normal(0, 1, (len(waveforms), max(lengths)))
    batch = batch.astype(np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    log_probs, frames = open_session(path).run(None, {"waveform": batch, "lengths": lengths})
    return [row[:count] for row, count in zip(log_probs, frames, strict=True)]


def compare(path: Path, recognizer: Recognizer, language: str) -> float:
    """Largest difference of log-probabilities from those of each waveform alone in torch."""
    waveforms = create_waveforms()
    expected = [row.numpy() for row in recognizer.compute_log_probs(waveforms, language)]
    found = run_batch(path, waveforms)
    assert [row.shape for row in found] == [row.shape for row in expected]
    assert len({int(label) for row in expected for label in row.argmax(-1)}) > 1
    return max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, Recognizer]:
    """A model of two languages and what the command line makes of one."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("onnx")
    recognizer = save_recognizer(folder / "model", "fbank")
    words = [str(folder / "model"), str(folder / "out"), "--to", "onnx", "--int8"]
    words += ["--language", "hin_Deva"]
    export.run(export.parse_arguments(words))
    return folder / "out", recognizer


@pytest.mark.slow
def test_filter_banks_give_the_same_numbers_in_a_padded_batch(exported) -> None:
    output, recognizer = exported
    assert compare(output / "model.onnx", recognizer, "hin_Deva") < 1e-4


@pytest.mark.long
def test_each_language_has_a_folder(exported, tmp_path) -> None:
    output, recognizer = exported
    graphs = export_onnx(output.with_name("model"), tmp_path / "out")
    assert [graph.language for graph in graphs] == sorted(VOCABULARIES)
    for graph in graphs:
        assert graph.directory == tmp_path / "out" / graph.language
        assert compare(graph.directory / "model.onnx", recognizer, graph.language) < 1e-4


@pytest.mark.long
@pytest.mark.parametrize("kind", ["group", "layer"])
def test_convolutions_give_the_same_numbers_in_a_padded_batch(tmp_path, kind) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    recognizer = save_recognizer(tmp_path / "model", kind)
    (graph,) = export_onnx(tmp_path / "model", tmp_path / "out")
    assert graph.directory == tmp_path / "out"
    assert compare(tmp_path / "out" / "model.onnx", recognizer, "hin_Deva") < 1e-4
    assert bool(graph.notes) == (kind == "group")  # sherpa-onnx normalises waveforms


@pytest.mark.slow
def test_eight_bits_are_near(exported) -> None:
    output, recognizer = exported
    difference = compare(output / "model.int8.onnx", recognizer, "hin_Deva")
    assert 1e-4 < difference < 0.5


@pytest.mark.slow
def test_files_tell_how_to_decode_and_nothing_of_this_machine(exported) -> None:
    output, recognizer = exported
    onnx = pytest.importorskip("onnx")
    for path in sorted(output.glob("*.onnx")):
        session = open_session(path)
        facts = session.get_modelmeta().custom_metadata_map
        vocabulary = VOCABULARIES["hin_Deva"]
        assert facts["vocab_size"] == str(len(vocabulary))
        assert facts["language"] == "hin_Deva"
        assert facts["model_type"] == "omnilingual-asr"
        assert facts["frame_samples"] == str(recognizer.model.frame_samples)
        assert [value.name for value in session.get_inputs()] == ["waveform"]  # all one must give
        tokens = path.with_name("tokens.txt").read_text(encoding="utf-8")
        assert tokens.startswith("<blk> 0\n<unk> 1\n\u2581 2\n")
        assert tokens.count("\n") == len(vocabulary)
        content = path.read_bytes()
        assert str(Path.cwd()).encode() not in content
        assert b"site-packages" not in content
        onnx.checker.check_model(onnx.load(path), full_check=True)


@pytest.mark.slow
def test_one_waveform_needs_no_length(exported) -> None:
    output, recognizer = exported
    (waveform, *_) = create_waveforms()
    log_probs, frames = open_session(output / "model.onnx").run(None, {"waveform": waveform[None]})
    (expected,) = recognizer.compute_log_probs([waveform], "hin_Deva")
    assert frames.tolist() == [len(expected)]
    assert np.abs(log_probs[0] - expected.numpy()).max() < 1e-4


@pytest.mark.slow
def test_the_guides_example_writes_what_the_recogniser_writes(
    exported, tmp_path, monkeypatch, capsys
) -> None:
    output, recognizer = exported
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "decode.py").write_text(code, encoding="utf-8")
    samples = create_waveforms()[1]
    soundfile.write(tmp_path / "speech.wav", samples, 16_000, subtype="PCM_16")
    read, _ = soundfile.read(tmp_path / "speech.wav", dtype="float32")
    (text,) = recognizer.recognize([read], "hin_Deva")
    assert len(text) > 4
    words = ["decode.py", str(output), str(tmp_path / "speech.wav")]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(tmp_path / "decode.py"))
    said = capsys.readouterr().out.strip("\n").replace("<unk>", "\u2047")
    assert said == text


@pytest.mark.parametrize("frame_samples", [320, 640])
def test_silence_is_found_as_one_waveform_at_a_time(frame_samples) -> None:
    waveforms = create_waveforms()
    batch = torch.zeros(len(waveforms), max(LENGTHS))
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    frames = [(length - 400) // frame_samples for length in LENGTHS]
    found = find_silence(batch, max(frames), frame_samples)
    for row, waveform, count in zip(found, waveforms, frames, strict=True):
        expected = find_silent_frames(waveform, count, frame_samples)
        assert row[:count].tolist() == expected.tolist()
    assert found[0].any()
    assert not found[0].all()
    assert not found[2, : frames[2]].any()


def test_tokens_of_letters() -> None:
    vocabulary = build_character_vocabulary(["ab a"])
    assert format_tokens(vocabulary) == "<blk> 0\n<unk> 1\n\u2581 2\na 3\nb 4\n"


def test_what_cannot_be_exported_is_refused(tmp_path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    save_recognizer(tmp_path / "model", "group")
    with pytest.raises(ModelError, match=r"`--language` must be one .* \(hin_Deva\)"):
        export_onnx(tmp_path / "model", tmp_path / "out", language="mdw_Latn")
    with pytest.raises(ModelError, match="new or empty directory"):
        export_onnx(tmp_path / "model", GUIDE.parent)
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "speechvq\[onnx\]"'):
        export_onnx(tmp_path / "model", tmp_path / "out")


def test_flags_of_onnx_belong_to_onnx(capsys) -> None:
    with pytest.raises(SystemExit):
        export.parse_arguments(["a", "b", "--int8"])
    assert "belongs to --to onnx" in capsys.readouterr().err
