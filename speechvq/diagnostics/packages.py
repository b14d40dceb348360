"""Checks of the Python packages: are they there, do they load, do their versions fit together."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib import metadata

from speechvq.diagnostics.check import Check, Status

_BASE_PACKAGES = (
    ("torch", "every model"),
    ("numpy", "everything"),
    ("soundfile", "reading WAV, FLAC, MP3, Ogg"),
    ("soxr", "resampling to 16 kHz"),
    ("safetensors", "model weights"),
    ("regex", "text in any script"),
    ("jiwer", "word error rates"),
    ("hydra", "configuration"),
    ("pyarrow", "the corpus"),
    ("fsspec", "reading from stores"),
    ("rich", "tables and progress"),
    ("jinja2", "reports"),
    ("matplotlib", "pictures in reports"),
)
"""(importable name, what for) of what `pip install speechvq` brings."""

_EXTRA_PACKAGES = (
    ("silero_vad", "prep", "cutting long recordings at pauses"),
    ("webrtcvad", "prep", "cutting recordings at pauses, the light way"),
    ("pyloudnorm", "prep", "measuring loudness"),
    ("distributed", "prep", "preparing data on many machines"),
    ("yt_dlp", "fetch", "fetching audio from lists of URLs"),
    ("indicnlp", "indic", "one spelling of Indic scripts"),
    ("indic_numtowords", "indic", "numbers as words in Indic languages"),
    ("num2words", "indic", "numbers as words in other languages"),
    ("kaldingram", "lm", "training language models"),
    ("flashlight", "lm", "decoding with language models"),
    ("epitran", "phones", "turning transcripts into phones"),
    ("panphon", "phones", "comparing phones in analyses"),
    ("onnx", "onnx", "writing ONNX files"),
    ("onnxscript", "onnx", "translating models to ONNX"),
    ("onnxruntime", "onnx", "8-bit weights, running ONNX files"),
    ("s3fs", "cloud", "reading from s3://"),
    ("gcsfs", "cloud", "reading from gs://"),
    ("av", "media", "reading M4A, WebM and video"),
    ("sentencepiece", "text", "sub-word vocabularies"),
    ("torchaudio", "train", "alignment of texts with speech"),
    ("tensorboard", "train", "watching a training run"),
)
"""(importable name, extra that brings it, what for)."""

_DISTRIBUTIONS = {
    **{"hydra": "hydra-core", "silero_vad": "silero-vad", "webrtcvad": "webrtcvad-wheels"},
    **{"yt_dlp": "yt-dlp", "indicnlp": "indic-nlp-library"},
    **{"indic_numtowords": "indic-numtowords", "flashlight": "flashlight-text"},
}
"""The name on the package index where it differs from the importable one."""

_OLDEST_PYTHON = (3, 11)
_NEWEST_PYTHON_TO_TRAIN = (3, 12)
"""fairseq2n 0.8.1 has wheels up to this one."""
_FAIRSEQ2_TIMEOUT_SECONDS = 120


def _get_version(package: str) -> str | None:
    try:
        return metadata.version(_DISTRIBUTIONS.get(package, package))
    except metadata.PackageNotFoundError:
        return None


def _get_first_line(error: BaseException | str) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _find_fault(package: str) -> str | None:
    """Imports `package`; returns why that failed, or None."""
    try:
        importlib.import_module(package)
    except Exception as error:  # a damaged package can raise anything, OSError and SystemError too
        return f"{type(error).__name__}: {_get_first_line(error)}"
    return None


def check_python() -> Check:
    """Checks the version of the interpreter: 3.11 or newer, and for training at most 3.12."""
    version = ".".join(map(str, sys.version_info[:3]))
    status, found, remedy = Status.OK, version, None
    if sys.version_info[:2] < _OLDEST_PYTHON:
        status, remedy = Status.MISSING, "install Python 3.11, then make the environment anew"
    elif sys.version_info[:2] > _NEWEST_PYTHON_TO_TRAIN:
        status, found = Status.OPTIONAL, f"{version}; fairseq2 has no wheels for it"
        remedy = "use Python 3.11 or 3.12 on the machine that trains"
    purpose = "speechvq (3.11 or newer); training (3.11 or 3.12)"
    return Check(name="Python", purpose=purpose, status=status, found=found, remedy=remedy)


def _check_package(package: str, purpose: str, *, extra: str | None) -> Check:
    bad = Status.MISSING if extra is None else Status.OPTIONAL
    requirement = "speechvq" if extra is None else f"speechvq[{extra}]"
    version = _get_version(package)
    fault = _find_fault(package)
    name = _DISTRIBUTIONS.get(package, package)
    if fault is None:
        return Check(name=name, purpose=purpose, status=Status.OK, found=version or "found")
    if version is None:
        found, remedy = "not installed", f'pip install "{requirement}"'
    else:
        # There, but it does not load: another `pip install` of the same version would do nothing.
        found, bad = f"{version} does not load: {fault}", Status.MISSING
        remedy = f'pip install --force-reinstall --no-deps "{name}=={version}"'
    return Check(name=name, purpose=purpose, status=bad, found=found, remedy=remedy)


def check_base_packages() -> list[Check]:
    """Checks what recognising, analysing and compressing need."""
    return [_check_package(name, purpose, extra=None) for name, purpose in _BASE_PACKAGES]


def check_extra_packages() -> list[Check]:
    """Checks what only some verbs need."""
    return [_check_package(name, purpose, extra=extra) for name, extra, purpose in _EXTRA_PACKAGES]


def _find_version_conflicts(fairseq2: str, fairseq2n: str | None, torch: str | None) -> list[str]:
    if fairseq2n is None:
        return ["fairseq2n, its native half, is not installed"]
    conflicts = []
    if fairseq2n != fairseq2:
        conflicts.append(f"fairseq2 is {fairseq2} but fairseq2n {fairseq2n}")
    # The native half is built against one torch; its metadata says which.
    pins = [re.match(r"torch==([\w.]+)", line) for line in metadata.requires("fairseq2n") or ()]
    for pin in filter(None, pins):
        if torch is None or torch.split("+")[0] != pin[1]:
            conflicts.append(f"fairseq2n {fairseq2n} needs torch {pin[1]}, not {torch or 'none'}")
    return conflicts


def check_fairseq2() -> Check:
    """Checks that fairseq2, its native half and torch fit together and load."""
    purpose = "training (pretrain, finetune)"
    install = 'pip install "speechvq[train]"'

    def report(status: Status, found: str, remedy: str | None) -> Check:
        return Check(name="fairseq2", purpose=purpose, status=status, found=found, remedy=remedy)

    version = _get_version("fairseq2")
    if version is None:
        return report(Status.OPTIONAL, "not installed", install)
    conflicts = _find_version_conflicts(version, _get_version("fairseq2n"), _get_version("torch"))
    if conflicts:
        return report(Status.MISSING, "; ".join(conflicts), install)
    # In a process of its own: a library that does not fit may end the process, not raise.
    try:
        process = subprocess.run(
            [sys.executable, "-c", "import fairseq2, fairseq2n.bindings"],
            capture_output=True,
            text=True,
            timeout=_FAIRSEQ2_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found = f"{version} did not load within {_FAIRSEQ2_TIMEOUT_SECONDS} s"
        return report(Status.MISSING, found, f"{install}, on a local disk")
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        remedy = "speechvq doctor --link-libsndfile" if "libsndfile" in lines[-1] else install
        return report(Status.MISSING, f"{version} does not load: {lines[-1]}", remedy)
    return report(Status.OK, f"{version}, with torch {_get_version('torch')}", None)
