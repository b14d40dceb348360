"""speechvq: untranscribed speech of many languages becomes codes, recognisers and reports.

`speechvq.Recognizer` and `speechvq.load_model` are loaded when they are first used, so that
`import speechvq` is quick and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechvq.deploy.recognizer import Recognizer
    from speechvq.models.directory import load_model

__all__ = ["Recognizer", "__version__", "load_model"]

__version__ = "0.1.0"

_HOMES = {
    "Recognizer": "speechvq.deploy.recognizer",
    "load_model": "speechvq.models.directory",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'speechvq' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
