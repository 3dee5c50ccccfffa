"""Distil microscopy into transcriptomic embeddings from weakly paired data.

The rooms load on first use, so that ``import semiclip`` stays light: ``io`` reads and ``datasets`` downloads or
simulates data, ``pp`` prepares representations, ``tl`` trains and evaluates, ``pl`` draws, ``model`` holds the
scvi-tools models. Below them, ``correction``, ``augment``, ``metrics`` and ``baselines`` work on plain arrays, and
``encoders`` and ``objectives`` are what a model is made of.
``report`` is a function: it writes what they find on one page.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from semiclip._messages import settings

if TYPE_CHECKING:
    from semiclip._report import report

__all__ = [
    "augment",
    "baselines",
    "correction",
    "datasets",
    "encoders",
    "errors",
    "io",
    "metrics",
    "model",
    "objectives",
    "pl",
    "pp",
    "report",
    "settings",
    "tl",
]
__version__ = version("semiclip")


def __getattr__(name: str) -> Any:
    if name == "report":
        return import_module(f"{__name__}._report").report
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
