"""Model configurations as JSON: a closed schema, in which every key is known and present.

The dataclasses of `speechvq.models.config` are the schema. Enumerations are stored as strings; a
quantiser's section carries its `kind`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from speechvq.errors import ModelError
from speechvq.models.config import (
    LATER,
    EMAConfig,
    FSQConfig,
    GumbelConfig,
    QuantizerConfig,
    RandomProjectionConfig,
    SimVQConfig,
    VQConfig,
)

QUANTIZER_KINDS: dict[str, type[QuantizerConfig]] = {
    "gumbel": GumbelConfig,
    "simvq": SimVQConfig,
    "vq": VQConfig,
    "ema": EMAConfig,
    "fsq": FSQConfig,
    "random": RandomProjectionConfig,
}
"""All quantisers that a file, or `quantizer=` on the command line, may name."""

_Config = TypeVar("_Config")


def config_to_json(config: Any) -> dict[str, Any]:
    """A configuration as a JSON object.

    Args:
        config: A dataclass of `speechvq.models.config`.

    Returns:
        Nested dictionaries of plain values, in the order of the fields.
    """
    document: dict[str, Any] = {}
    if isinstance(config, QuantizerConfig):
        kinds = {cls: kind for kind, cls in QUANTIZER_KINDS.items()}
        document["kind"] = kinds[type(config)]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = config_to_json(value)
        elif isinstance(value, Enum):
            value = value.value
        elif isinstance(value, list):
            value = list(value)
        document[field.name] = value
    return document


def config_from_json(cls: type[_Config], document: object, path: str) -> _Config:
    """Reads what `config_to_json` wrote.

    Args:
        cls: The dataclass that is expected.
        document: Parsed JSON.
        path: Where the object stands, for messages: "config.json: model".

    Returns:
        The configuration; types are checked, values are not (see `validate`).

    Raises:
        ModelError: A key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(document, Mapping):
        raise ModelError(f"{path} must be an object, but is {_describe(document)}.")
    document = dict(document)
    if issubclass(cls, QuantizerConfig):
        cls = _pop_quantizer_kind(document, path)  # type: ignore[assignment]
    types = get_type_hints(cls)
    names = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        names.append(field.name)
        if LATER in field.metadata:
            document.setdefault(field.name, field.default)
    check_keys(document, names, path)
    return cls(
        **{name: _value_from_json(types[name], document[name], f"{path}.{name}") for name in names}
    )


def check_keys(document: Mapping[str, object], names: list[str], path: str) -> None:
    """Compares the keys of an object with those it must have.

    Args:
        document: Parsed JSON object.
        names: All keys, none optional.
        path: Where the object stands, for the message.

    Raises:
        ModelError: Some are unknown or missing.
    """
    problems = []
    if unknown := sorted(set(document) - set(names)):
        problems.append(f"unknown: {', '.join(unknown)}")
    if missing := sorted(set(names) - set(document)):
        problems.append(f"missing: {', '.join(missing)}")
    if problems:
        raise ModelError(
            f"{path} must have exactly the keys {', '.join(names)} ({'; '.join(problems)}); "
            "was it written by another version of speechvq, or edited?"
        )


def _pop_quantizer_kind(document: dict[str, Any], path: str) -> type[QuantizerConfig]:
    kind = document.pop("kind", None)
    if not isinstance(kind, str) or kind not in QUANTIZER_KINDS:
        raise ModelError(
            f"{path}.kind must be one of {', '.join(QUANTIZER_KINDS)}, but is {kind!r}."
        )
    return QUANTIZER_KINDS[kind]


def _value_from_json(expected: Any, value: object, path: str) -> object:
    if dataclasses.is_dataclass(expected):
        return config_from_json(expected, value, path)  # type: ignore[arg-type]
    if get_origin(expected) is list:
        if not isinstance(value, list):
            raise ModelError(f"{path} must be a list, but is {_describe(value)}.")
        (item,) = get_args(expected)
        return [_value_from_json(item, v, f"{path}[{i}]") for i, v in enumerate(value)]
    if isinstance(expected, type) and issubclass(expected, Enum):
        values = [member.value for member in expected]
        if value not in values:
            raise ModelError(f"{path} must be one of {', '.join(values)}, but is {value!r}.")
        return expected(value)
    if expected is float and type(value) is int:
        return float(value)
    # `bool` is an `int` for isinstance, but not for us.
    if type(value) is not expected:
        raise ModelError(f"{path} must be a {expected.__name__}, but is {_describe(value)}.")
    return value


def _describe(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
