"""The model card: README.md of a model directory, generated from what the directory holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LOADERS = {"pretrain": "load_pretrain_model", "ctc": "load_ctc_model"}


def render_model_card(
    document: Mapping[str, Any],
    metrics: Mapping[str, Any],
    num_labels: Mapping[str, int],
    num_parameters: int,
) -> str:
    """Writes the card.

    Args:
        document: The model's config.json.
        metrics: Its metrics.json.
        num_labels: Number of labels by language; empty for a pretrained encoder.
        num_parameters: Number of weights.

    Returns:
        Markdown, the same for the same arguments.
    """
    model = document["model"]
    encoder = model["encoder"]
    pretrained = document["kind"] == "pretrain"
    lines = [
        "---",
        "library_name: speechvq",
        f"pipeline_tag: {'feature-extraction' if pretrained else 'automatic-speech-recognition'}",
        "---",
        "",
        f"# Speech {'encoder, pretrained without labels' if pretrained else 'recogniser'}",
        "",
        f"Transformer of {encoder['num_layers']} layers × {encoder['model_dim']} on "
        f"{_describe_features(model)}, "
        f"{num_parameters / 1e6:.1f} million weights. Input: mono speech at 16 kHz.",
        "",
    ]
    if pretrained:
        quantizer = model["quantizer"]
        lines += [
            f"Targets: {quantizer['kind']} quantiser, {quantizer['num_codebooks']} codebooks × "
            f"{quantizer['codebook_size']} entries.",
            "",
        ]
    if num_labels:
        lines += ["| language | labels |", "|---|---|"]
        lines += [f"| {language} | {number} |" for language, number in num_labels.items()]
        lines += [""]
    loader = _LOADERS[document["kind"]]
    lines += [
        "```python",
        f"from speechvq.models.directory import {loader}",
        "",
        f"model = {loader}(DIRECTORY)",
        "```",
        "",
    ]
    for title, values in [
        ("Results", metrics),
        ("Training", document["training"]),
        ("Corpus", document["corpus"]),
    ]:
        rows = _flatten(values)
        if rows:
            lines += [f"## {title}", "", "| key | value |", "|---|---|"]
            lines += [f"| {key} | {value} |" for key, value in rows]
            lines += [""]
    return "\n".join(lines)


def _describe_features(model: Mapping[str, Any]) -> str:
    if model["features"] == "fbank":
        fbank = model["fbank"]
        return f"{fbank['num_mels']} log-mel channels, {fbank['stack']} frames of 10 ms stacked"
    waveform = model["waveform"]
    return f"{len(waveform['dims'])} convolutions over the waveform ({waveform['norm']} norm)"


def _flatten(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Dotted keys and short values; long lists are left to the JSON files."""
    if isinstance(values, Mapping):
        return [row for key, value in values.items() for row in _flatten(value, f"{prefix}{key}.")]
    text = f"{values:.4g}" if isinstance(values, float) else str(values)
    text = text.replace("|", "\\|").replace("\n", " ")
    return [] if values is None or len(text) > 200 else [(prefix[:-1], text)]
