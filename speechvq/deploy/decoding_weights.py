"""Tuned weights of language models, kept in the model directory: `decoding.json`.

    {"format": "speechvq-decoding", "format_version": 1,
     "languages": {"hin_Deva": {"sha256:…": {"lm_weight": …, "word_score": …, …}}}}

By language and by digest of `lm.arpa`, so that weights are never taken for another model.
`speechvq.deploy.tuning` writes, `speechvq.deploy.text_decoder` reads.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechvq.decoding.config import BeamSettings
from speechvq.durable import write_durably
from speechvq.errors import ModelError

WEIGHTS_FILE = "decoding.json"
_FORMAT = "speechvq-decoding"
_FORMAT_VERSION = 1
TUNED_KEYS = ("lm_weight", "word_score")


def read_tuned_settings(model: Path, language: str, digest: str) -> BeamSettings | None:
    """Returns the settings that were tuned for a language model, or None.

    Args:
        model: The model directory.
        language: The head.
        digest: Of the language model.

    Raises:
        ModelError: The file is damaged.
    """
    entry = _read(model / WEIGHTS_FILE).get(language, {}).get(digest)
    if entry is None:
        return None
    values: dict[str, Any] = {key: entry.get(key) for key in TUNED_KEYS}
    if any(type(value) not in (int, float) for value in values.values()):
        raise ModelError(
            f"{model / WEIGHTS_FILE}: {language}: {' and '.join(TUNED_KEYS)} must be numbers, but "
            f"are {values}. Tune again."
        )
    return replace(BeamSettings(), **values)


def read_all_settings(model: Path) -> dict[str, dict[str, Any]]:
    """Returns all that was tuned, by language and digest of the language model.

    Args:
        model: The model directory.

    Raises:
        ModelError: The file is damaged.
    """
    return _read(model / WEIGHTS_FILE)


def save_tuned_settings(model: Path, language: str, digest: str, entry: dict[str, Any]) -> None:
    """Adds the settings for a language model, or replaces them.

    Args:
        model: The model directory.
        language: The head.
        digest: Of the language model.
        entry: `TUNED_KEYS`, and what else is worth knowing; JSON values.
    """
    path = model / WEIGHTS_FILE
    languages = _read(path)
    languages.setdefault(language, {})[digest] = entry
    document = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "languages": languages}
    content = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    write_durably(path, content.encode())


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}); remove it and tune again.") from None
    match document:
        case {"format": "speechvq-decoding", "format_version": 1, "languages": dict(languages)}:
            if all(
                isinstance(entries, dict) and all(isinstance(e, dict) for e in entries.values())
                for entries in languages.values()
            ):
                return languages
    raise ModelError(
        f'{path} must be {{"format": "{_FORMAT}", "format_version": {_FORMAT_VERSION}, '
        '"languages": {…}}; remove it and tune again.'
    )
