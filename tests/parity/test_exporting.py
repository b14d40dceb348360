"""Our models in transformers: the same outputs there, and the same weights after the way back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes import export
from speechvq.errors import ModelError
from speechvq.models.build import create_ctc_model, create_pretrain_model
from speechvq.models.config import (
    CTCModelConfig,
    Features,
    GumbelConfig,
    Objective,
    PretrainModelConfig,
    SimVQConfig,
)
from speechvq.models.directory import load_pretrain_model, save_model
from speechvq.models.exporting import export_model
from speechvq.models.importing import import_model
from speechvq.models.pretrain_model import PretrainModel
from speechvq.models.vocabulary import build_character_vocabulary
from speechvq.nn.gumbel_quantizer import compute_soft_perplexity
from tests.support.parity import Comparison, create_batch, create_tiny_config, randomize

transformers = pytest.importorskip("transformers")

VARIANTS = [(norm, order) for norm in ("group", "layer") for order in ("post", "pre")]


def create_config(norm: str, order: str = "post") -> PretrainModelConfig:
    return PretrainModelConfig(
        **create_tiny_config(norm, order, num_layers=3),
        quantizer=GumbelConfig(num_codebooks=3, codebook_size=7, code_dim=18),
        final_dim=24,
        mask_prob=0.5,
        mask_length=7,
        mask_min_spans=1,
    )


def save_ours(folder: Path, config: PretrainModelConfig) -> PretrainModel:
    torch.manual_seed(1)
    model = create_pretrain_model(config).eval()
    randomize(model)
    save_model(folder, model)
    return model


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize(("norm", "order"), VARIANTS)
@torch.no_grad()
def test_the_way_there_and_back(
    tmp_path: Path, record_property: Any, norm: str, order: str, padded: bool
) -> None:
    ours = save_ours(tmp_path / "ours", create_config(norm, order))
    compare = Comparison(record_property)
    export_model(tmp_path / "ours", tmp_path / "theirs")
    theirs, loading = transformers.Wav2Vec2ForPreTraining.from_pretrained(
        tmp_path / "theirs", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    processor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "theirs")

    waveform, lengths = create_batch(None if padded else [8000] * 3)
    rows = [row[:length].numpy() for row, length in zip(waveform, lengths.tolist(), strict=True)]
    inputs = processor(
        rows, sampling_rate=16000, padding=True, return_tensors="pt", return_attention_mask=True
    )
    encoded = ours.encoder(waveform, lengths)
    valid = torch.arange(encoded.context.size(1)) < encoded.lengths[:, None]
    expected = theirs.eval()(**inputs, mask_time_indices=torch.zeros_like(valid))
    codes = ours.quantizer.encode(encoded.features)
    targets = ours.task.target_projection(ours.quantizer.decode(codes))
    projected = ours.task.context_projection(encoded.context)
    compare("projected", projected[valid], expected.projected_states[valid])
    compare("quantised", targets[valid], expected.projected_quantized_states[valid])

    hidden = theirs.wav2vec2(**inputs).extract_features
    _, perplexity = theirs.quantizer(hidden, mask_time_indices=valid)
    logits = ours.quantizer.compute_logits(encoded.features)
    # In evaluation theirs is of the codes chosen, ours of the soft assignment.
    chosen = torch.nn.functional.one_hot(logits.argmax(-1), logits.size(-1)).float()
    found = compute_soft_perplexity(chosen, valid).sum()
    assert abs(float(found - perplexity)) <= 1e-4

    import_model(tmp_path / "theirs", tmp_path / "back")
    back = load_pretrain_model(tmp_path / "back")
    assert back.state_dict().keys() == ours.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert back.config.encoder == ours.config.encoder
    assert back.config.quantizer == ours.config.quantizer
    for name in ("mask_prob", "mask_length", "mask_min_spans"):
        assert getattr(back.config, name) == getattr(ours.config, name)
    assert back.config.waveform == replace(ours.config.waveform, masked_statistics=False)


@pytest.mark.parametrize("normalizes", [True, False])
@torch.no_grad()
def test_utterances_alone_agree_where_statistics_leave_padding_out(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Any,
    normalizes: bool,
) -> None:
    config = create_config("group")
    waveform_config = replace(config.waveform, masked_statistics=True, normalize=normalizes)
    ours = save_ours(tmp_path / "ours", replace(config, waveform=waveform_config))
    words = ["--model", str(tmp_path / "ours"), "--format", "huggingface"]
    export.run(export.parse_arguments([*words, "--output", str(tmp_path / "theirs")]))
    printed = capsys.readouterr().out
    assert "`waveform.masked_statistics` has no counterpart" in printed
    assert ("preprocessor_config.json" in printed) is normalizes
    assert "(mask_time_prob=0.5), and transformers masks as much when it finetunes" in printed
    theirs = transformers.Wav2Vec2Model.from_pretrained(tmp_path / "theirs").eval()
    processor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "theirs")
    waveform, _ = create_batch([5300])
    inputs = processor(waveform[0].numpy(), sampling_rate=16000, return_tensors="pt")
    assert set(inputs) == {"input_values"}
    expected = theirs(**inputs).last_hidden_state
    context = ours.encoder(waveform, torch.tensor([5300])).context
    Comparison(record_property)("context", context, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": Features.fbank}, "`features` must be waveform"),
        ({"objective": Objective.prediction}, "`objective` must be contrastive"),
        ({"quantizer": SimVQConfig()}, "`quantizer` must be gumbel .* but is simvq"),
        (
            {"encoder": replace(create_config("group").encoder, conv_kernel=5)},
            r"`encoder\.conv_kernel` must be 0",
        ),
    ],
)
def test_what_transformers_has_not_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    save_ours(tmp_path / "ours", replace(create_config("group"), **change))
    with pytest.raises(ModelError, match=message):
        export_model(tmp_path / "ours", tmp_path / "theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_languages_other_formats_and_full_directories_are_refused(tmp_path: Path) -> None:
    config = create_config("group")
    recognizer = create_ctc_model(
        CTCModelConfig(waveform=config.waveform, encoder=config.encoder),
        {"eng_Latn": build_character_vocabulary(["abc"])},
    )
    save_model(tmp_path / "recognizer", recognizer)
    save_ours(tmp_path / "ours", config)
    with pytest.raises(ModelError, match="`--language` must be left out"):
        export_model(tmp_path / "ours", tmp_path / "theirs", language="eng_Latn")
    with pytest.raises(ModelError, match="`--format` must be one of huggingface, but is 'onnx'"):
        export_model(tmp_path / "ours", tmp_path / "theirs", target="onnx")
    with pytest.raises(ModelError, match="must be a new or empty directory"):
        export_model(tmp_path / "ours", tmp_path / "recognizer")
    for output in (tmp_path / "ours", tmp_path / "ours" / "theirs", tmp_path / "x" / ".."):
        with pytest.raises(ModelError, match=r"must be outside of .*, and not above it"):
            export_model(tmp_path / "ours", output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "recognizer"]
    with pytest.raises(ModelError, match="does not exist"):
        export_model(tmp_path / "nothing", tmp_path / "theirs")


def test_a_directory_appears_complete_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_ours(tmp_path / "ours", create_config("group"))

    def fail(*_: Any, **__: Any) -> str:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", fail)
        with pytest.raises(OSError, match="no space"):
            export_model(tmp_path / "ours", tmp_path / "theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]
    (tmp_path / "theirs").mkdir()
    export_model(tmp_path / "ours", tmp_path / "theirs")
    names = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert sorted(path.name for path in (tmp_path / "theirs").iterdir()) == names
    assert (tmp_path / "theirs").stat().st_mode == (tmp_path / "ours").stat().st_mode
