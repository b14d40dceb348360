"""Who owns an output directory: `prepare.json` says with which configuration and input it was
begun, so that another preparation is refused, and what was decided last.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import Any

from speechvq.data.config import (
    PREPARE_FILE,
    ArchiveConfig,
    DecideConfig,
    PrepareConfig,
    SegmentConfig,
)
from speechvq.data.corpus import CORPUS_FILE, write_text_atomically
from speechvq.data.manifest import ManifestRow
from speechvq.data.records import Rejection
from speechvq.data.segment_table import DIRECTORY, MEASURED_FILE
from speechvq.data.storage import is_remote, strip_file_scheme
from speechvq.errors import ConfigError

MEASURING_VERSION = 2
"""Raised whenever a change of this package may change what is measured of the same audio."""
_MEASURING_PACKAGES = ("soundfile", "av", "soxr", "pyloudnorm", "torch", "numpy")
_DETECTOR_PACKAGES = {"silero": "silero-vad", "webrtc": "webrtcvad-wheels"}
DECISION_KEYS = (
    *("decide", "max_transcribed_seconds", "dev_share", "test_share", "seed", "normalizer"),
    "digits",
)
"""Keys that change what is accepted and how it is split and spelt, but nothing that is measured."""
_WITHOUT_EFFECT = (
    *("output", "workers", "plan", "shard", "dask_scheduler", "decide_only", "keep_measurements"),
    *("decode_timeout_seconds", "publish"),
)
"""Keys that change how the work is done, not what comes out."""


def list_measuring_keys(config: PrepareConfig) -> dict[str, Any]:
    """Returns the part of a configuration that measuring depends on; inputs by absolute path."""
    values = {
        key: value
        for key, value in asdict(config).items()
        if key not in (*_WITHOUT_EFFECT, *DECISION_KEYS)
    }
    values["input"] = sorted(
        path if is_remote(path) else str(Path(path).resolve())
        for path in map(strip_file_scheme, config.input)
    )
    return values


def find_measuring_versions(config: PrepareConfig) -> dict[str, str]:
    """Returns what measuring depends on besides configuration and input: this package's measures,
    and the versions of what decodes, resamples, and finds speech.
    """
    versions = {"measuring": str(MEASURING_VERSION), "python": platform.python_version()}
    for package in (*_MEASURING_PACKAGES, _DETECTOR_PACKAGES[config.segment.vad]):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    with contextlib.suppress(ImportError):
        import soundfile

        versions["libsndfile"] = soundfile.__libsndfile_version__
    return versions


def read_measuring_versions(output: Path) -> dict[str, str]:
    """Returns the versions with which an output was measured; none where it does not say."""
    return dict(_read(output).get("versions", {}))


def check_versions(output: Path, config: PrepareConfig) -> None:
    """Refuses to go on measuring with other versions than it was begun with.

    Raises:
        ConfigError: If one differs; the message names it.
    """
    before, now = read_measuring_versions(output), find_measuring_versions(config)
    problems = [
        f"{output} was begun with {name} {before.get(name, 'unknown')}, but here is"
        f" {now.get(name, 'none')}: half of it would be measured otherwise. Go on with the"
        " versions that it was begun with, or remove the directory."
        for name in sorted({*now, *before})
        if now.get(name) != before.get(name)
    ]
    if problems:
        raise ConfigError(problems)


@contextlib.contextmanager
def lock_output(output: Path) -> Iterator[None]:
    """Keeps shards that begin or end together from writing the same file at once; a process that
    dies lets go.
    """
    directory = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def list_deciding_keys(config: PrepareConfig) -> dict[str, Any]:
    """Returns the part of a configuration that deciding depends on."""
    values = asdict(config)
    return {key: values[key] for key in DECISION_KEYS}


def claim_output(
    output: Path,
    config: PrepareConfig,
    rows: Sequence[ManifestRow],
    rejections: Sequence[Rejection],
) -> None:
    """Takes possession of the output directory, or finds that it is ours.

    Raises:
        ConfigError: If the directory holds something else, or was half measured with other
            versions; the message names the keys that differ.
    """
    digest = _hash_input(rows, rejections)
    output.mkdir(parents=True, exist_ok=True)
    with lock_output(output):
        _claim(output, config, digest)


def _claim(output: Path, config: PrepareConfig, digest: str) -> None:
    measuring = list_measuring_keys(config)
    if not (output / PREPARE_FILE).exists():
        # A kill amid the very first write leaves its temporary file.
        if any(path.name != f"{PREPARE_FILE}.tmp" for path in output.iterdir()):
            raise ConfigError(
                [f"`output` must be a new or empty directory, but {output} holds other files."]
            )
        claim = {"config": measuring, "input": digest, "decide": list_deciding_keys(config)}
        _write(output, {**claim, "versions": find_measuring_versions(config)})
        return
    owner = _read(output)
    before, now = _flatten(owner["config"]), _flatten(measuring)
    problems = [
        f"`{key}` is {now.get(key)!r}, but {output} was prepared with {before.get(key)!r}; choose"
        " another `output`, or remove the directory."
        for key in sorted({*now, *before})
        if now.get(key) != before.get(key)
    ]
    if not problems and owner["input"] != digest:
        problems = [
            f"The files or manifests of `input` changed since {output} was begun; choose another"
            " `output`, or remove the directory."
        ]
    if problems:
        raise ConfigError(problems)
    if not (output / DIRECTORY / MEASURED_FILE).exists():
        check_versions(output, config)


def adopt_config(config: PrepareConfig) -> PrepareConfig:
    """Completes a configuration without `input` by what its output was prepared with.

    Returns:
        The configuration with the output's measuring keys and its own deciding keys.

    Raises:
        ConfigError: If a measuring key was set to something else.
    """
    output = Path(config.output)
    stored = _read(output)["config"]
    before, now = _flatten(stored), _flatten(list_measuring_keys(config))
    usual = _flatten(list_measuring_keys(PrepareConfig()))
    problems = [
        f"`{key}` is {now[key]!r}, but {output} was measured with {before.get(key)!r}; give `input`"
        " and another `output` to measure again."
        for key in sorted(now)
        if key != "input" and now[key] != usual[key] and now[key] != before.get(key)
    ]
    if problems:
        raise ConfigError(problems)
    try:
        changes = {
            **stored,
            "segment": SegmentConfig(**stored["segment"]),
            "archive": ArchiveConfig(**stored["archive"]),
        }
        return replace(config, **changes)
    except (TypeError, KeyError):
        raise ConfigError(
            [f"{output} was prepared by another version of speechvq; prepare it from its input."]
        ) from None


def is_complete(output: Path, config: PrepareConfig) -> bool:
    """Returns whether the corpus stands there, decided as the configuration says."""
    if not (output / CORPUS_FILE).exists():
        return False
    return bool(_read(output)["decide"] == list_deciding_keys(config))


def read_decision(output: Path) -> PrepareConfig:
    """Returns the configuration with which a corpus was measured and decided.

    Raises:
        ConfigError: If the directory is none that `prepare` made.
    """
    decided = _read(output)["decide"]
    config = adopt_config(PrepareConfig(output=str(output)))
    return replace(config, **{**decided, "decide": DecideConfig(**decided["decide"])})


def list_deciding_overrides(output: Path) -> list[str]:
    """Returns what must be given on the command line to decide as a corpus was decided:
    `decide.min_snr_db=15`.
    """
    usual = _flatten(list_deciding_keys(PrepareConfig()))
    decided = _flatten(list_deciding_keys(read_decision(output)))
    return [
        f"{key}={'null' if value is None else value}"
        for key, value in decided.items()
        if value != usual[key]
    ]


def begin_decision(output: Path, config: PrepareConfig) -> None:
    """Notes what is being decided; from here on the corpus is incomplete until it is written."""
    (output / CORPUS_FILE).unlink(missing_ok=True)
    _write(output, {**_read(output), "decide": list_deciding_keys(config)})


def _write(output: Path, claim: dict[str, Any]) -> None:
    text = json.dumps(claim, ensure_ascii=False, indent=2) + "\n"
    write_text_atomically(output / PREPARE_FILE, text)


def _read(output: Path) -> dict[str, Any]:
    file = output / PREPARE_FILE
    try:
        owner = json.loads(file.read_text(encoding="utf-8"))
        if not {"config", "input", "decide"} <= set(owner):
            raise ValueError
    except FileNotFoundError:
        raise ConfigError(
            [f"{output} was not made by `speechvq prepare`: it has no {PREPARE_FILE}."]
        ) from None
    except (ValueError, TypeError):
        raise ConfigError(
            [f"{file} is damaged or of an older version; remove {output} and prepare again."]
        ) from None
    return dict(owner)


def _flatten(config: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": cell for name, cell in value.items()}
        else:
            flat[key] = value
    return flat


def _hash_input(rows: Sequence[ManifestRow], rejections: Sequence[Rejection]) -> str:
    """Returns a digest that does not depend on the order of the rows."""
    total = 0
    for records, kind in ((rows, ManifestRow), (rejections, Rejection)):
        get_values = attrgetter(*(field.name for field in fields(kind)))
        for record in records:
            digest = hashlib.blake2b(repr(get_values(record)).encode(), digest_size=16).digest()
            total += int.from_bytes(digest, "big")
    return f"{total % (1 << 128):032x}"
