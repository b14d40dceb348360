"""Adapters, and recognisers that learn another language."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from speechvq.errors import ModelError
from speechvq.models.build import create_ctc_model
from speechvq.models.config import CTCModelConfig, EncoderConfig, Features
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import load_ctc_model, save_model
from speechvq.models.transfer import add_languages
from speechvq.models.vocabulary import build_character_vocabulary

HINDI, TAMIL = "hin_Deva", "tam_Taml"
LETTERS = build_character_vocabulary(["abc"])
LENGTHS = torch.tensor([8000, 6000])


def create_model(adapter_dim: int = 4, languages: tuple[str, ...] = (HINDI, TAMIL)) -> CTCModel:
    torch.manual_seed(1)
    encoder = EncoderConfig(
        num_layers=2, model_dim=16, num_heads=2, ffn_dim=32, position_kernel=8, position_groups=2,
        layer_drop_prob=0.0, dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    config = CTCModelConfig(features=Features.fbank, encoder=encoder, adapter_dim=adapter_dim)
    return create_ctc_model(config, dict.fromkeys(languages, LETTERS))


def spoil_adapters(model: CTCModel, language: str) -> None:
    """Give new adapters weights that change something."""
    with torch.no_grad():
        for adapter in model.get_adapters(language) or ():
            for parameter in adapter.parameters():
                parameter += 0.3 * torch.randn_like(parameter)


def compute(model: CTCModel, language: str) -> torch.Tensor:
    waveform = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(waveform, LENGTHS, language=language).logits
    return logits


def test_new_adapters_change_nothing_and_trained_ones_their_own_language_only() -> None:
    model, plain = create_model(), create_model(adapter_dim=0)
    plain.load_state_dict(model.state_dict(), strict=False)
    for language in (HINDI, TAMIL):
        torch.testing.assert_close(compute(model, language), compute(plain, language))
    before = compute(model, TAMIL)
    spoil_adapters(model, HINDI)
    assert not torch.allclose(compute(model, HINDI), compute(plain, HINDI), atol=1e-3)
    assert torch.equal(compute(model, TAMIL), before)


def test_adapter_is_the_published_bottleneck() -> None:
    model = create_model()
    spoil_adapters(model, HINDI)
    adapter = (model.get_adapters(HINDI) or [])[0]
    frames = torch.randn(2, 5, 16)
    norm = torch.nn.functional.layer_norm(frames, (16,), adapter.norm.weight, adapter.norm.bias)
    inner = torch.relu(norm @ adapter.down.weight.T + adapter.down.bias)
    expected = frames + inner @ adapter.up.weight.T + adapter.up.bias
    torch.testing.assert_close(adapter(frames), expected)


def test_every_parameter_that_learns_gets_a_gradient_whatever_the_language() -> None:
    model = create_model().train()
    model.encoder.transformer.layer_drop_prob = 0.9  # most layers are left out
    model(torch.randn(2, 8000), LENGTHS, language=HINDI).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.adapters[TAMIL][0].up.weight.grad.abs().sum() == 0


def test_directory_keeps_adapters(tmp_path: Path) -> None:
    model = create_model()
    spoil_adapters(model, HINDI)
    save_model(tmp_path / "model", model)
    again = load_ctc_model(tmp_path / "model")
    assert again.config.adapter_dim == 4
    assert torch.equal(compute(again, HINDI), compute(model, HINDI))


def test_directory_from_before_adapters_is_read(tmp_path: Path) -> None:
    model = create_model(adapter_dim=0)
    save_model(tmp_path / "model", model)
    path = tmp_path / "model" / "config.json"
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if "adapter_dim" not in line]
    assert len(kept) == len(lines) - 1
    text = "\n".join(kept).replace('"dropout_final": 0.0,', '"dropout_final": 0.0')
    path.write_text(text, encoding="utf-8")
    assert torch.equal(compute(load_ctc_model(tmp_path / "model"), HINDI), compute(model, HINDI))


@pytest.mark.parametrize("adapter_dim", [0, 4])
def test_added_language_leaves_the_others_as_they_were(tmp_path: Path, adapter_dim: int) -> None:
    model = create_model(adapter_dim, (HINDI,))
    spoil_adapters(model, HINDI)
    save_model(tmp_path / "model", model)
    new = {TAMIL: build_character_vocabulary(["xyz"])}
    grown = add_languages(tmp_path / "model", new, {"adapter_dim": 4})
    assert list(grown.vocabularies) == [HINDI, TAMIL]
    assert torch.equal(compute(grown, HINDI), compute(model, HINDI))
    spoil_adapters(grown, TAMIL)
    assert torch.equal(compute(grown, HINDI), compute(model, HINDI))


def test_adapters_of_another_width_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model", create_model())
    with pytest.raises(ModelError, match=r"`adapter_dim` must be that of .* \(4\)"):
        add_languages(tmp_path / "model", {"mdw_Latn": LETTERS}, {"adapter_dim": 8})
