"""Makes a model directory of a CTC recogniser of another project: transformers' Wav2Vec2ForCTC,
fairseq's `wav2vec_ctc`, fairseq2's `wav2vec2_asr` (omnilingual-asr's CTC models). The counterpart
for pretrained models is `speechvq.models.importing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models import interop_fairseq2
from speechvq.models.build import create_ctc_model
from speechvq.models.checkpoint_settings import (
    ORIGINS,
    apply_options,
    check_origin,
    find_weights,
    read_config,
    read_huggingface_files,
    read_normalize,
    read_tensors,
)
from speechvq.models.config import CTCModelConfig, PretrainModelConfig
from speechvq.models.config_json import config_from_json, config_to_json
from speechvq.models.ctc_model import CTCModel, is_language_name
from speechvq.models.directory import (
    check_apart,
    check_replaceable,
    save_model,
)
from speechvq.models.foreign_labels import HeadLayout, arrange_head
from speechvq.models.foreign_pickle import read_checkpoint, to_plain
from speechvq.models.imported_weights import (
    HUGGINGFACE_MASK_EMBEDDING,
    MASK_EMBEDDING,
    build_model,
    read_safetensors,
)
from speechvq.models.interop_adapters import adapters_from_huggingface
from speechvq.models.interop_fairseq import (
    config_from_fairseq,
    find_normalize,
    state_from_fairseq,
)
from speechvq.models.interop_fairseq_ctc import (
    find_pretraining_task,
    find_recognizer_prefix,
    find_recognizer_settings,
    split_recognizer,
)
from speechvq.models.interop_huggingface import state_from_huggingface
from speechvq.models.interop_labels import (
    FAIRSEQ_DICTIONARY,
    read_fairseq_layout,
    read_huggingface_layout,
    read_huggingface_vocabularies,
    read_sentencepiece_layout,
    read_target_language,
)
from speechvq.models.interop_names import find_prefix
from speechvq.models.interop_shapes import ImportOptions, derive_config

_HEAD = "lm_head"
_FAIRSEQ2_HEAD = "final_proj"


@dataclass(frozen=True)
class ImportedRecognizer:
    """What was made of a checkpoint.

    Attributes:
        model: The recogniser, on the CPU.
        origin: What the checkpoint was.
        fresh: Weights that it lacks and that are new now; recognition does not use them.
        left_out: Parts of it that a recogniser of ours has not.
        assumed: Key of the configuration → value, for what the file does not say and nobody told.
    """

    model: CTCModel
    origin: str
    fresh: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    assumed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What a checkpoint does not say of its labels.

    Attributes:
        language: Under which name the head is kept, such as hin_Deva. `hin_Deva=hin` also names it
            in a vocabulary that has several languages; without that it is looked for under the
            whole name and under what stands before the first `_`.
        path: fairseq's dictionary, by default `dict.ltr.txt` beside the checkpoint, or the
            sentencepiece model of fairseq2, which must be given.
        lowercase: Whether labels are put into lower case, as the text of a corpus is.
    """

    language: str
    path: Path | None = None
    lowercase: bool = False

    @property
    def name(self) -> str:
        """The language as our model has it."""
        return self.language.partition("=")[0]


def import_recognizer(
    source: str | Path,
    output: str | Path,
    *,
    labels: LabelOptions,
    seed: int = 1,
    project: str | None = None,
    options: ImportOptions | None = None,
) -> ImportedRecognizer:
    """Reads a foreign recogniser and writes a model directory.

    Args:
        source: A directory with `config.json`, `vocab.json` and `model.safetensors` or
            `pytorch_model.bin` (transformers' Wav2Vec2ForCTC), or a `.pt` file of fairseq or
            fairseq2 (also omnilingual-asr's CTC models).
        output: The model directory to write.
        labels: Its language and its labels.
        seed: Of the mask embedding, where the checkpoint has none.
        project: Key of `ORIGINS`: whose checkpoint it must be; None for any.
        options: What the checkpoint does not say.

    Returns:
        What was made. It normalises as the checkpoint was trained to, and leaves padding out of
        the statistics of group norm: each utterance gets what the other library computes for it
        alone.

    Raises:
        ModelError: The checkpoint is missing, damaged, no recogniser, or uses what speechvq has
            not; its labels do not fit its head; or see `speechvq.models.importing.import_model`.
    """
    check_apart(source, output)
    check_replaceable(output)
    source, options = Path(source), options or ImportOptions()
    if not is_language_name(labels.name):
        raise ModelError(f"`--language` must be a name such as hin_Deva, but is {labels.name!r}.")
    if source.is_dir():
        imported = _import_huggingface(source, labels, seed, options)
    elif source.is_file():
        imported = _import_file(source, labels, seed, options)
    else:
        raise ModelError(f"{source} does not exist.")
    check_origin(imported.origin, project, source)
    save_model(
        output,
        imported.model,
        training={
            "imported_from": imported.origin,
            "fresh": list(imported.fresh),
            "left_out": list(imported.left_out),
            "assumed": dict(imported.assumed),
        },
    )
    return imported


def _import_huggingface(
    source: Path, labels: LabelOptions, seed: int, options: ImportOptions
) -> ImportedRecognizer:
    if labels.path is not None:
        raise ModelError("`--labels` must be left out: transformers has them in `vocab.json`.")
    state, document = read_huggingface_files(source)
    vocabularies = read_huggingface_vocabularies(source)
    name = _find_language(list(vocabularies), labels.language, source)
    if name is not None:
        state |= _read_language(source, name, is_only=len(vocabularies) == 1)
    state = {name: tensor.float() for name, tensor in state.items()}
    weight, bias = (state.pop(f"{_HEAD}.{kind}", None) for kind in ("weight", "bias"))
    if weight is None or bias is None:
        raise ModelError(
            f"{source} must hold a recogniser (Wav2Vec2ForCTC), but has no `{_HEAD}`. A pretrained "
            "model is imported without `--language`."
        )
    _check_head(weight, bias)
    lowercase = labels.lowercase
    layout = read_huggingface_layout(source, vocabularies[name], len(weight), lowercase=lowercase)
    adapters, theirs = adapters_from_huggingface(state, labels.name)
    config = read_config(document | {"adapter_attn_dim": None}, source / "config.json")
    assumed: dict[str, Any] = {}
    told = read_normalize(source / "preprocessor_config.json")
    config = apply_options(config, options, told, assumed)
    more = {
        "dropout_final": document.get("final_dropout", 0.1),
        "adapter_dim": document.get("adapter_attn_dim") or 0,
    }
    head = _Head(labels.name, layout, weight, bias, adapters)
    imported = _build(config, more, theirs, head, "huggingface", seed)
    return replace(imported, assumed=assumed)


def _find_language(names: list[str | None], language: str, source: Path) -> str | None:
    """The name of a language in a vocabulary that has several; None in one that has not."""
    ours, _, theirs = language.partition("=")
    if names == [None]:
        if theirs:
            raise ModelError(
                f"`--language` must be {ours} without ={theirs}: the vocabulary of {source} has "
                "one language and no name for it."
            )
        return None
    wanted = [theirs] if theirs else [ours, ours.partition("_")[0]]
    for name in wanted:
        if name in names:
            return name
    known = ", ".join(str(name) for name in names[:8]) + (", …" if len(names) > 8 else "")
    raise ModelError(
        f"`--language` must be one of the vocabulary of {source} ({known}), or {ours}=NAME, but is "
        f"{language}."
    )


def _read_language(source: Path, name: str, *, is_only: bool) -> dict[str, Tensor]:
    """Head and adapters of one language of several (MMS), where the weights hold another's."""
    path = source / f"adapter.{name}.safetensors"
    if path.is_file():
        return read_safetensors(path)
    found = read_target_language(source)
    if not is_only and found != name:
        raise ModelError(
            f"{path} does not exist: it must hold head and adapters of {name}, as those in the "
            f"weights are of {found or 'an unnamed language'}. Fetch it from where the model is."
        )
    return {}


def _import_file(
    source: Path, labels: LabelOptions, seed: int, options: ImportOptions
) -> ImportedRecognizer:
    """Finds out whose file it is by the names of its weights."""
    checkpoint = read_checkpoint(source)
    if not isinstance(checkpoint, Mapping):
        raise ModelError(f"{source} must hold a dictionary, as checkpoints of wav2vec 2.0 do.")
    try:
        weights = find_weights(checkpoint)
        if (prefix := find_prefix(weights, interop_fairseq2.ANCHOR)) is not None:
            return _import_fairseq2(read_tensors(weights, prefix), labels, seed, options)
        if (prefix := find_recognizer_prefix(weights)) is not None:
            plain = {key: to_plain(checkpoint[key]) for key in ("args", "cfg") if key in checkpoint}
            state = read_tensors(weights, prefix)
            path = labels.path or source.with_name(FAIRSEQ_DICTIONARY)
            return _import_fairseq(plain, state, replace(labels, path=path), seed, options)
        raise ModelError(
            "This is no recogniser of fairseq or fairseq2. A pretrained model is imported without "
            "`--language`; of transformers give the directory; torchaudio's files hold no labels."
        )
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error


def _import_fairseq(
    plain: Mapping[str, Any],
    state: Mapping[str, Tensor],
    labels: LabelOptions,
    seed: int,
    options: ImportOptions,
) -> ImportedRecognizer:
    settings, finetuning = find_recognizer_settings(plain)
    encoder, weight, bias, left_out = split_recognizer(state)
    assert labels.path is not None
    layout = read_fairseq_layout(labels.path, len(weight), lowercase=labels.lowercase)
    layers = {name.split(".")[2] for name in encoder if name.startswith("encoder.layers.")}
    config = read_config(config_from_fairseq(settings, len(layers)), "its settings")
    told = find_normalize(plain)
    if told is None:
        told = find_normalize(find_pretraining_task(finetuning))
    assumed: dict[str, Any] = {}
    config = apply_options(config, options, told, assumed)
    head = _Head(labels.name, layout, weight, bias)
    more = {"dropout_final": finetuning.get("final_dropout") or 0.0}
    imported = _build(config, more, state_from_fairseq(encoder), head, "fairseq", seed)
    return replace(imported, left_out=tuple(left_out), assumed=assumed)


def _import_fairseq2(
    state: dict[str, Tensor], labels: LabelOptions, seed: int, options: ImportOptions
) -> ImportedRecognizer:
    if "quantizer.entries" in state:
        raise ModelError("This is a pretrained model, which is imported without `--language`.")
    if any(name.startswith("llama_decoder.") for name in state):
        raise ModelError(
            "The recogniser must have a CTC head, but has a language model behind its encoder; "
            "without `--language` the encoder is imported."
        )
    if labels.path is None:
        raise ModelError(
            "`--labels` must be the sentencepiece model of the recogniser's tokenizer: the "
            "checkpoint does not hold it."
        )
    if labels.lowercase:
        raise ModelError("`--lowercase` must be left out: a sentencepiece model has its own case.")
    weight, bias = (state.get(f"{_FAIRSEQ2_HEAD}.{kind}") for kind in ("weight", "bias"))
    if weight is None or bias is None:
        raise ModelError(f"The recogniser must have a head `{_FAIRSEQ2_HEAD}`, but has none.")
    _check_head(weight, bias)
    layout = read_sentencepiece_layout(labels.path, len(weight))
    norm_first = interop_fairseq2.find_norm_order(state)
    theirs, left_out = interop_fairseq2.state_from_fairseq2(state)
    derived = derive_config(theirs, options, norm_first=norm_first)
    head = _Head(labels.name, layout, weight, bias)
    imported = _build(derived.config, {}, theirs, head, "fairseq2", seed)
    return replace(
        imported,
        left_out=tuple(part for part in left_out if part != _FAIRSEQ2_HEAD),
        assumed=derived.assumed,
    )


def _check_head(weight: Tensor, bias: Tensor) -> None:
    if weight.dim() != 2 or bias.shape != weight.shape[:1]:
        raise ModelError(
            "The head must have (labels, channels) weights and a bias a label, but they have the "
            f"shapes {tuple(weight.shape)} and {tuple(bias.shape)}."
        )


@dataclass(frozen=True)
class _Head:
    """A head of theirs, (M, D) and (M,), what it becomes, and our adapters of its language."""

    language: str
    layout: HeadLayout
    weight: Tensor
    bias: Tensor
    adapters: Mapping[str, Tensor] = field(default_factory=dict)


def _build(
    pretrained: PretrainModelConfig,
    more: Mapping[str, Any],
    theirs: Mapping[str, Tensor],
    head: _Head,
    project: str,
    seed: int,
) -> ImportedRecognizer:
    document: dict[str, Any] = config_to_json(
        CTCModelConfig(
            waveform=replace(pretrained.waveform, masked_statistics=True),
            encoder=pretrained.encoder,
            dropout_input=pretrained.dropout_input,
        )
    )
    config = config_from_json(
        CTCModelConfig, document | dict(more), "the settings of the recogniser"
    )
    ours = {**state_from_huggingface(theirs), **head.adapters}
    weight, bias = arrange_head(head.weight, head.bias, head.layout.rows)
    ours |= {f"heads.{head.language}.weight": weight, f"heads.{head.language}.bias": bias}
    vocabularies = {head.language: head.layout.vocabulary}
    model, fresh = build_model(
        lambda: create_ctc_model(config, vocabularies),
        ours,
        seed=seed,
        fresh={MASK_EMBEDDING} if HUGGINGFACE_MASK_EMBEDDING not in theirs else set(),
    )
    return ImportedRecognizer(model, ORIGINS[project], fresh)
