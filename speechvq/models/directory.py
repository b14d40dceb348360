"""Model directories: how a model is stored, without pickle (safetensors and JSON only).

    model.safetensors   weights in fp32 as trained
    config.json         {"format", "format_version", "kind", "model", "training", "corpus"}, and
                        "bottlenecks" where there are some; a closed schema
    vocab.json          recognisers: {language: vocabulary}
    metrics.json        what was measured, free form
    README.md           model card, generated

The same model gives the same bytes. A directory appears complete or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from speechvq.durable import sync_directory, sync_files
from speechvq.errors import ConfigError, ModelError
from speechvq.models import json_files
from speechvq.models.bottlenecks import attach_from_json, bottlenecks_to_json
from speechvq.models.build import create_ctc_model, create_pretrain_model
from speechvq.models.card import render_model_card
from speechvq.models.config import CTCModelConfig, PretrainModelConfig
from speechvq.models.config_json import check_keys, config_from_json, config_to_json
from speechvq.models.ctc_model import CTCModel, is_language_name
from speechvq.models.json_files import check_regular
from speechvq.models.pretrain_model import PretrainModel
from speechvq.models.vocabulary import Vocabulary, vocabulary_from_json

FORMAT = "speechvq-model"
FORMAT_VERSION = 2

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
VOCABULARY_FILE = "vocab.json"
METRICS_FILE = "metrics.json"
CARD_FILE = "README.md"

_MAX_NUMBER = 1 << 20
"""No width, count or kernel is larger; memory is asked for before weights are compared."""
_MAX_MELS = 4096
_CONFIG_KEYS = ["format", "format_version", "kind", "model", "training", "corpus"]
_BOTTLENECKS = "bottlenecks"


def save_model(
    directory: str | Path,
    model: PretrainModel | CTCModel,
    *,
    metrics: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    corpus: Mapping[str, Any] | None = None,
) -> None:
    """Writes a model directory to the disk; an older model at the same place is replaced.

    Args:
        directory: Where it shall stand.
        model: The model.
        metrics: What was measured, JSON values.
        training: How it was trained, JSON values.
        corpus: What it was trained on, JSON values.

    Raises:
        ModelError: Something that is no model directory stands there, or a value is not JSON.
    """
    directory = Path(directory)
    check_replaceable(directory)
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": "pretrain" if isinstance(model, PretrainModel) else "ctc",
        "model": config_to_json(model.config),
        "training": training,
        "corpus": corpus,
    }
    if bottlenecks := bottlenecks_to_json(model):
        document[_BOTTLENECKS] = bottlenecks
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        _write_files(work, model, document, dict(metrics or {}))
        # mkdtemp makes it private; a model directory has the rights of any new directory.
        work.chmod(0o777 & ~_get_umask())
        sync_files(work)
        _replace_directory(work, directory)
        sync_directory(directory.parent)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def load_model(directory: str | Path) -> PretrainModel | CTCModel:
    """Reads a model directory of either kind.

    Args:
        directory: What `save_model` wrote.

    Returns:
        The model, on the CPU, in evaluation mode.

    Raises:
        ModelError: The directory is missing, foreign, damaged, or of another version.
    """
    directory = Path(directory)
    document = read_model_config(directory)
    kind, path = document["kind"], f"{directory / CONFIG_FILE}: model"
    weights = _read_weights(directory / WEIGHTS_FILE)
    _check_numbers(document["model"], path, num_tensors=len(weights))
    model: PretrainModel | CTCModel
    try:
        match kind:
            case "pretrain":
                config = config_from_json(PretrainModelConfig, document["model"], path)
                with torch.device("meta"):  # no time for random weights that are replaced at once
                    model = create_pretrain_model(config)
            case "ctc":
                ctc_config = config_from_json(CTCModelConfig, document["model"], path)
                vocabularies = _read_vocabularies(directory, num_tensors=len(weights))
                with torch.device("meta"):
                    model = create_ctc_model(ctc_config, vocabularies)
            case _:
                raise ModelError(
                    f'{directory / CONFIG_FILE}: kind must be "pretrain" or "ctc", but is {kind!r}.'
                )
    except ConfigError as error:
        raise ModelError(f"{path} cannot work:\n{error}") from error
    except (RuntimeError, KeyError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise ModelError(
            f"{directory}: {CONFIG_FILE} and {VOCABULARY_FILE} describe no model that can be built "
            f"({str(error)[:200]}); copy the directory again from where it was made."
        ) from error
    if _BOTTLENECKS in document:
        path = f"{directory / CONFIG_FILE}: {_BOTTLENECKS}"
        _check_numbers(document[_BOTTLENECKS], path, num_tensors=len(weights))
        with torch.device("meta"):
            attach_from_json(model, document[_BOTTLENECKS], path)
    _load_weights(model, weights, directory / WEIGHTS_FILE)
    return model.eval()


def load_pretrain_model(directory: str | Path) -> PretrainModel:
    """Reads a pretrained model; see `load_model`."""
    model = load_model(directory)
    if isinstance(model, PretrainModel):
        return model
    raise ModelError(
        f"{directory} must hold a pretrained model, but holds a recogniser; give the `model/` that "
        "`pretrain` left."
    )


def load_ctc_model(directory: str | Path) -> CTCModel:
    """Reads a recogniser; see `load_model`."""
    model = load_model(directory)
    if isinstance(model, CTCModel):
        return model
    raise ModelError(
        f"{directory} must hold a recogniser, but holds a pretrained model, which has no "
        "vocabulary; run `finetune` first."
    )


def read_model_config(directory: str | Path) -> dict[str, Any]:
    """Reads config.json and checks its outer keys.

    Args:
        directory: A model directory.

    Returns:
        The document; "model" is not yet checked.

    Raises:
        ModelError: It is missing, no JSON, foreign, or of a newer version.
    """
    path = Path(directory) / CONFIG_FILE
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelError(
            f'{path} must have "format": "{FORMAT}", but has not: this is no speechvq model. '
            "Bring models of other projects in with `speechvq import`."
        )
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path}: format_version must be {FORMAT_VERSION}, but is {version!r}; use the "
            "speechvq version that wrote it."
        )
    present = [_BOTTLENECKS] if _BOTTLENECKS in document else []
    check_keys(document, [*_CONFIG_KEYS, *present], str(path))
    for key in ("training", "corpus"):
        if not isinstance(document[key], dict | None):
            raise ModelError(f"{path}: {key} must be an object or null; copy the directory again.")
    return document


def read_architecture(directory: str | Path) -> PretrainModelConfig:
    """Reads the configuration of a pretrained model, without its weights.

    Raises:
        ModelError: It cannot be read, or is that of a recogniser.
    """
    document = read_model_config(directory)
    if document["kind"] != "pretrain":
        raise ModelError(
            f"{directory} must hold a pretrained model, but holds a recogniser; give the `model/` "
            "that `pretrain` left."
        )
    path = f"{Path(directory) / CONFIG_FILE}: model"
    return config_from_json(PretrainModelConfig, document["model"], path)


def check_replaceable(directory: str | Path) -> None:
    """Refuses to replace what `save_model` did not write.

    Args:
        directory: Where a model shall stand.

    Raises:
        ModelError: Something that is neither empty nor a model directory stands there.
    """
    directory = Path(directory)
    if not directory.exists():
        return
    if directory.is_dir() and (not any(directory.iterdir()) or _is_ours(directory)):
        return
    raise ModelError(f"{directory} must be a new, empty or model directory; choose another name.")


def check_apart(source: str | Path, output: str | Path) -> None:
    """Refuses to write where something is read from.

    Args:
        source: File or directory that is read.
        output: Directory that is written.

    Raises:
        ModelError: They are the same, or one is inside of the other.
    """
    read, written = Path(source).resolve(), Path(output).resolve()
    if read == written or read in written.parents or written in read.parents:
        raise ModelError(
            f"{output} must be outside of {source}, and not above it; choose another name."
        )


def _write_files(
    work: Path,
    model: PretrainModel | CTCModel,
    document: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> None:
    weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    save_file(weights, work / WEIGHTS_FILE)
    _write_json(work / CONFIG_FILE, document)
    _write_json(work / METRICS_FILE, metrics)
    vocabularies = model.vocabularies if isinstance(model, CTCModel) else {}
    if vocabularies:
        _write_json(work / VOCABULARY_FILE, {name: v.to_json() for name, v in vocabularies.items()})
    card = render_model_card(
        document,
        metrics,
        {name: len(vocabulary) for name, vocabulary in vocabularies.items()},
        sum(parameter.numel() for parameter in model.parameters()),
    )
    (work / CARD_FILE).write_text(card, encoding="utf-8")


def _is_ours(directory: Path) -> bool:
    try:
        document = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def _replace_directory(work: Path, directory: Path) -> None:
    """Moves a finished directory to its place; the old one goes out of the way first."""
    if not directory.exists():
        work.rename(directory)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.old.", dir=directory.parent))
    directory.replace(old)  # an empty directory may be replaced
    work.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def _get_umask() -> int:
    umask = os.umask(0o022)
    os.umask(umask)
    return umask


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    try:
        text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path.name} must hold JSON values only: {error}.") from error
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads a JSON file of a model directory; ModelError if it is missing, damaged or huge."""
    return json_files.read_json(
        path,
        missing=f"{path.parent} is no model directory. `pretrain` and `finetune` leave one, named "
        "`model`",
        damaged="copy the directory again from where it was made",
    )


def _read_vocabularies(directory: Path, *, num_tensors: int) -> dict[str, Vocabulary]:
    path = directory / VOCABULARY_FILE
    document = read_json(path)
    if not isinstance(document, dict):
        raise ModelError(f"{path} must be an object from language to vocabulary.")
    if len(document) > num_tensors:
        raise ModelError(
            f"{path} must have no more languages than there are weights ({num_tensors}), but has "
            f"{len(document)}; copy the directory again from where it was made."
        )
    vocabularies = {}
    for language, entry in document.items():
        if not is_language_name(language):
            raise ModelError(f"{path}: a language must be named as hin_Deva is, not {language!r}.")
        try:
            vocabularies[language] = vocabulary_from_json(entry)
        except ModelError as error:
            raise ModelError(f"{path}: {language}: {error}") from error
    return vocabularies


def _check_numbers(document: object, path: str, *, num_tensors: int) -> None:
    """Refuses numbers that would take the machine's memory or time before anything else fails."""
    if isinstance(document, dict):
        for key, value in document.items():
            place = f"{path}.{key}"
            limit = {"num_layers": num_tensors, "num_mels": _MAX_MELS}.get(key, _MAX_NUMBER)
            if isinstance(value, int) and value > limit:
                raise ModelError(
                    f"{place} must be at most {limit}, but is {str(value)[:40]}; copy the directory"
                    " again from where it was made."
                )
            _check_numbers(value, place, num_tensors=num_tensors)
    elif isinstance(document, list):
        for value in document:
            _check_numbers({"[]": value}, path, num_tensors=num_tensors)


def _load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    expected = model.state_dict()
    problems = [f"missing: {name}" for name in sorted(expected.keys() - weights.keys())]
    problems += [f"unknown: {name}" for name in sorted(weights.keys() - expected.keys())]
    problems += [
        f"{name} must be {_describe(expected[name])}, but is {_describe(tensor)}"
        for name, tensor in sorted(weights.items())
        if name in expected and _describe(expected[name]) != _describe(tensor)
    ]
    if problems:
        shown = "; ".join(problems[:5]) + ("; ..." if len(problems) > 5 else "")
        raise ModelError(
            f"{path} does not fit its {CONFIG_FILE} ({shown}); copy both files again from where "
            "they were made."
        )
    model.load_state_dict(weights, assign=True)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        check_regular(path)
        return load_file(path)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} does not exist; copy the directory again from where it was made."
        ) from error
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is damaged or no safetensors file ({error}); copy it again from where it was "
            "made."
        ) from error
