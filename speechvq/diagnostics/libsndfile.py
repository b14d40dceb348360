"""The native library libsndfile: whether fairseq2 finds one, and how it gets one without root.

fairseq2's native half (fairseq2n 0.8.1, `fairseq2n/__init__.py`) asks the dynamic linker for
libsndfile, then looks into `<environment>/lib`. The wheel of soundfile carries a copy of its own
under another name, which fairseq2n does not find: a link in `<environment>/lib` shows it the way.
"""

from __future__ import annotations

import importlib.util
import platform
import site
import subprocess
import sys
from pathlib import Path

from speechvq.diagnostics.check import Check, Status
from speechvq.errors import SpeechvqError


class LinkError(SpeechvqError):
    """libsndfile could not be linked into the environment."""

    exit_code = 2


def get_library_name() -> str:
    """Returns the file name that fairseq2n asks for on this system."""
    return "libsndfile.1.dylib" if platform.system() == "Darwin" else "libsndfile.so.1"


def _can_load(path: str) -> bool:
    # In a process of its own: once soundfile is imported, the linker answers for its copy as well,
    # and a library of another make may end the process.
    command = [sys.executable, "-S", "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", path]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _list_lookup_paths() -> list[Path]:
    """Returns the files that fairseq2n tries after the dynamic linker, in its order."""
    folders = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    folders += site.getsitepackages()
    return [Path(folder).parent.parent / get_library_name() for folder in folders]


def find_libsndfile() -> str | None:
    """Returns the libsndfile that fairseq2n will load: "system", a path, or None."""
    if _can_load(get_library_name()):
        return "system"
    for path in _list_lookup_paths():
        if _can_load(str(path)):
            return str(path)
    return None


def find_bundled_library() -> Path | None:
    """Returns the library inside soundfile's wheel, or None (no wheel, or one without it)."""
    spec = importlib.util.find_spec("_soundfile_data")
    if spec is None:
        return None
    suffix = "dylib" if platform.system() == "Darwin" else "so"
    for folder in spec.submodule_search_locations or ():
        for path in sorted(Path(folder).glob(f"libsndfile*.{suffix}")):
            if _can_load(str(path)):  # the other processor's library may lie beside ours
                return path
    return None


def link_libsndfile() -> str:
    """Links soundfile's library to where fairseq2n looks, unless it finds one already.

    Returns:
        One sentence that says what was done.

    Raises:
        LinkError: There is no library to link, or the environment cannot be written to.
    """
    found = find_libsndfile()
    if found is not None:
        return f"libsndfile: nothing to do, fairseq2 finds it ({found})."
    library = find_bundled_library()
    if library is None:
        raise LinkError(
            "The installed soundfile carries no libsndfile for this machine: install its wheel "
            "(`pip install --only-binary :all: soundfile`) or the system's library "
            "(`apt install libsndfile1`, `brew install libsndfile`)."
        )
    link = Path(sys.prefix, "lib", get_library_name())
    try:
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)  # a link that went stale, for example of an older soundfile
        try:
            target = library.relative_to(link.parent)  # relative, so that the folder can be moved
        except ValueError:
            target = library
        link.symlink_to(target)
    except OSError as error:
        raise LinkError(f"`{link}` cannot be written ({error}); run it as its owner.") from error
    return f"libsndfile: linked {link} to {library.name} of soundfile."


def check_libsndfile() -> Check:
    """Checks that fairseq2 will find libsndfile; only fairseq2 needs this one."""
    found = find_libsndfile()
    # `find_spec` of a top-level package does not run it, so a broken fairseq2n does no harm here.
    needed = importlib.util.find_spec("fairseq2n") is not None
    bad = Status.MISSING if needed else Status.OPTIONAL
    return Check(
        name="libsndfile",
        purpose="training (fairseq2 reads audio with it)",
        status=Status.OK if found else bad,
        found=found or f"{get_library_name()} is not where fairseq2 looks",
        remedy=None if found else "speechvq doctor --link-libsndfile",
    )
