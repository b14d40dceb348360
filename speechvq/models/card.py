"""The model card: README.md of a model directory, generated from what the directory holds.

`save_model` writes it with what training knows; `speechvq card` writes it again with evaluations
and a licence. The head is Hugging Face's (https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from speechvq.models.card_evaluations import describe_evaluations, list_index_results

_LOADERS = {"pretrain": "load_pretrain_model", "ctc": "load_ctc_model"}
_LEFT_OUT = ("output", "corpus", "labels", "model", "init", "old_corpus", "architecture")
"""Keys of training that name files and folders of the machine, or repeat config.json."""


def render_model_card(
    document: Mapping[str, Any],
    metrics: Mapping[str, Any],
    num_labels: Mapping[str, int],
    num_parameters: int,
    *,
    evaluations: Sequence[Mapping[str, Any]] = (),
    decoding: Mapping[str, Any] | None = None,
    license_name: str | None = None,
) -> str:
    """Writes the card.

    Args:
        document: The model's config.json.
        metrics: Its metrics.json.
        num_labels: Number of labels by language; empty for a pretrained encoder.
        num_parameters: Number of weights.
        evaluations: The metrics.json of evaluations of this very model.
        decoding: Languages of its decoding.json: by language and language model, tuned weights.
        license_name: Under which the weights are published, as Hugging Face abbreviates it.

    Returns:
        Markdown, the same for the same arguments.
    """
    model, corpus = document["model"], document["corpus"] or {}
    encoder = model["encoder"]
    pretrained = document["kind"] == "pretrain"
    loader = _LOADERS[document["kind"]]
    lines = [
        *_format_head(document, num_labels, evaluations, license_name),
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
    if bottlenecks := document.get("bottlenecks"):
        places = ", ".join(f"{one['layer']} {one['site']}" for one in bottlenecks)
        lines += [f"Bottlenecks of codes (layer and site): {places}.", ""]
    if num_labels:
        lines += ["| language | labels |", "|---|---|"]
        lines += [f"| {language} | {number} |" for language, number in num_labels.items()]
        lines += [""]
    lines += ["## Use", "", "```python"]
    if pretrained:
        lines += [
            f"from speechvq.models.directory import {loader}",
            "",
            f"model = {loader}(DIRECTORY)",
        ]
    else:
        lines += ["from speechvq import Recognizer", "",
                  'Recognizer.load(DIRECTORY).transcribe("speech.wav").text']  # fmt: skip
    lines += ["```", ""]
    lines += _describe_data(corpus)
    lines += describe_evaluations(evaluations)
    lines += _describe_decoding(decoding or {})
    lines += _describe_limits(document, num_labels, evaluations)
    lines += _describe_licence(corpus, license_name)
    training = {k: v for k, v in (document["training"] or {}).items() if k not in _LEFT_OUT}
    rest = {k: v for k, v in corpus.items() if k not in ("sources", "languages")}
    for title, values in (("Results in training", metrics), ("Training", training),
                          ("Corpus", rest)):  # fmt: skip
        if rows := _flatten(values):
            lines += [f"## {title}", "", *_format_table(("key", "value"), rows)]
    return "\n".join(lines)


def _format_head(
    document: Mapping[str, Any],
    num_labels: Mapping[str, int],
    evaluations: Sequence[Mapping[str, Any]],
    license_name: str | None,
) -> list[str]:
    """Front matter; strings are JSON's, which YAML reads too."""
    pretrained = document["kind"] == "pretrain"
    languages = sorted(num_labels or (document["corpus"] or {}).get("languages") or {})
    codes = sorted({language.partition("_")[0] for language in languages})
    task = "feature-extraction" if pretrained else "automatic-speech-recognition"
    lines = ["---", "library_name: speechvq", f"pipeline_tag: {task}"]
    lines += ["language:", *(f"- {json.dumps(code)}" for code in codes)] if codes else []
    if license_name:
        lines += [f"license: {json.dumps(license_name)}"]
    lines += ["tags:", "- speech", "- speechvq", *([] if pretrained else ["- ctc"])]
    if results := list_index_results(evaluations):
        lines += ["model-index:", "- name: speechvq", "  results:", *results]
    return [*lines, "---", ""]


def _describe_features(model: Mapping[str, Any]) -> str:
    if model["features"] == "fbank":
        fbank = model["fbank"]
        return f"{fbank['num_mels']} log-mel channels, {fbank['stack']} frames of 10 ms stacked"
    waveform = model["waveform"]
    return f"{len(waveform['dims'])} convolutions over the waveform ({waveform['norm']} norm)"


def _describe_data(corpus: Mapping[str, Any]) -> list[str]:
    """Hours of training audio, by source where training noted it, else by language."""
    sources, languages = corpus.get("sources"), corpus.get("languages")
    head: tuple[str, ...]
    if sources:
        head = ("language", "source", "licence", "hours", "utterances")
        rows = [[_show(entry.get(name)) for name in head] for entry in sources]
    elif languages:
        head = ("language", "hours", "utterances")
        rows = [[name, *(_show(entry.get(key)) for key in head[1:])]
                for name, entry in sorted(languages.items())]  # fmt: skip
    else:
        return []
    lines = ["## Training data", "", *_format_table(head, rows)]
    if normalizer := corpus.get("normalizer"):
        lines += [f"Texts were normalised with `{normalizer}` (docs/data_format.md).", ""]
    return lines


def _describe_decoding(decoding: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            language,
            f"`{digest[:19]}…`",
            _show(entry.get("lm_weight")),
            _show(entry.get("word_score")),
        ]
        for language, entries in sorted(decoding.items())
        for digest, entry in sorted(entries.items())
    ]
    if not rows:
        return []
    head = ("language", "language model", "weight", "word score")
    return ["## Decoding", "", "Tuned for beam search (`decoding.json`).", "",
            *_format_table(head, rows)]  # fmt: skip


def _describe_limits(
    document: Mapping[str, Any],
    num_labels: Mapping[str, int],
    evaluations: Sequence[Mapping[str, Any]],
) -> list[str]:
    corpus = document["corpus"] or {}
    limits = []
    if isinstance(hours := corpus.get("hours"), int | float):
        limits.append(
            f"It was trained on {hours:.2f} hours; other languages, accents, rooms, microphones "
            "and ways of speaking than these hold were not seen."
        )
    if num_labels:
        scored = {name for metrics in evaluations for name in metrics.get("languages", {})}
        missing = sorted(set(num_labels) - scored)
        if missing:
            limits.append(f"No evaluation is reported for {', '.join(missing)}.")
        limits.append(
            "It writes normalised text: no punctuation or case that the normaliser removed, "
            "no speakers, no other language than asked for. Confidence is not calibrated."
        )
        if any(metrics.get("shared_speakers") is None for metrics in evaluations):
            limits.append("Whether speakers of the test set were heard in training is unknown.")
    limits += sorted(
        {warning for metrics in evaluations for warning in metrics.get("warnings", [])}
    )
    return ["## Limits", "", *(f"- {limit}" for limit in limits), ""] if limits else []


def _describe_licence(corpus: Mapping[str, Any], license_name: str | None) -> list[str]:
    weights = license_name or "not stated; `speechvq card MODEL --license NAME` states it"
    found = sorted({entry.get("licence") or "unknown" for entry in corpus.get("sources") or []})
    lines = ["## Licence", "", f"- weights: {weights}"]
    return [*lines, f"- training data: {'; '.join(found) or 'unknown'}", ""]


def _format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _show(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str("–" if value is None else value)
    return text.replace("|", "\\|").replace("\n", " ")


def _flatten(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Dotted keys and short values; long lists are left to the JSON files."""
    if isinstance(values, Mapping):
        return [row for key, value in values.items() for row in _flatten(value, f"{prefix}{key}.")]
    text = _show(values)
    return [] if values is None or len(text) > 200 else [(prefix[:-1], text)]
