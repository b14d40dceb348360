"""Checks of the machine: GPU, disk, memory, cores, and programs that some verbs start."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from speechvq.diagnostics.check import Check, Status

_GIB = 2**30
_ENOUGH_DISK_GIB = 10
_ENOUGH_MEMORY_GIB = 6


def check_gpu() -> Check:
    """Looks for a CUDA device; without one `tiny` still trains."""
    name, purpose = "GPU", "pretraining the presets small, base and large"
    try:
        import torch

        if torch.cuda.is_available():
            devices = [
                torch.cuda.get_device_properties(index)
                for index in range(torch.cuda.device_count())
            ]
            found = ", ".join(f"{d.name} ({d.total_memory / _GIB:.0f} GiB)" for d in devices)
            return Check(name=name, purpose=purpose, status=Status.OK, found=found)
    except Exception as error:  # no torch, or a driver that does not fit: both mean no GPU
        found = f"none that torch can use ({type(error).__name__})"
    else:
        found = "none that torch can use"
    if shutil.which("nvidia-smi"):
        remedy = "install an NVIDIA driver for CUDA 12.8 or newer (`nvidia-smi` shows the present)"
    else:
        remedy = "none needed for preset=tiny; use a machine with an NVIDIA GPU for the others"
    return Check(name=name, purpose=purpose, status=Status.OPTIONAL, found=found, remedy=remedy)


def check_disk(directory: Path) -> Check:
    """Checks the free space where `directory` lies."""
    present = next(path for path in (directory, *directory.resolve().parents) if path.exists())
    free = shutil.disk_usage(present).free / _GIB
    small = free < _ENOUGH_DISK_GIB
    return Check(
        name="disk",
        purpose=f"corpus (about 60 MB an hour of speech) and runs, in {directory}",
        status=Status.OPTIONAL if small else Status.OK,
        found=f"{free:.1f} GiB free",
        remedy="write to a larger disk: output=DIR" if small else None,
    )


def _read_memory_bytes() -> int:
    """Returns the memory that this process may use: the machine's, or its container's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def check_memory() -> Check:
    """Checks the memory of the machine or the container."""
    memory = _read_memory_bytes() / _GIB
    small = memory < _ENOUGH_MEMORY_GIB
    return Check(
        name="memory",
        purpose="training and preparing",
        status=Status.OPTIONAL if small else Status.OK,
        found=f"{memory:.1f} GiB",
        remedy="fewer workers (workers=1) and smaller batches" if small else None,
    )


def check_cores() -> Check:
    """Counts the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return Check(
        name="cores", purpose="preparing, training on CPU", status=Status.OK, found=str(cores)
    )


def check_compiler() -> Check:
    """Looks for a C++ compiler; torch.compile and packages without a wheel need one."""
    names = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    compiler = next((path for path in map(shutil.which, filter(None, names)) if path), None)
    return Check(
        name="C++ compiler",
        purpose="torch.compile, and packages that have no wheel",
        status=Status.OK if compiler else Status.OPTIONAL,
        found=compiler or "none",
        remedy=None if compiler else "apt install g++, or xcode-select --install",
    )


def check_espeak() -> Check:
    """Looks for eSpeak NG, in the environment or on PATH; only the demo speaks."""
    found = shutil.which("espeak-ng")
    if importlib.util.find_spec("espeakng_loader") is not None:
        found = "espeakng-loader"
    return Check(
        name="espeak-ng",
        purpose="the demo (it synthesises its speech; GPL-3)",
        status=Status.OK if found else Status.OPTIONAL,
        found=found or "not installed",
        remedy=None if found else 'pip install "speechvq[demo]"',
    )
