"""MuData without what its versions say about themselves."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData


def make_mudata(**modalities: AnnData) -> MuData:
    """Make a MuData whose modalities alone hold the columns of ``obs``."""
    import mudata

    with silence_mudata():
        return mudata.MuData(modalities)


def take_apart(mdata: MuData) -> tuple[dict[str, AnnData], dict[str, Any]]:
    """Return the modalities and the other arguments that make a MuData, which itself cannot be pickled."""
    parts = {name: getattr(mdata, name) for name in ("obs", "var", "uns", "axis")}
    for name in ("obsm", "varm", "obsp", "varp", "obsmap", "varmap"):
        parts[name] = dict(getattr(mdata, name))
    return dict(mdata.mod), parts


def put_together(modalities: dict[str, AnnData], parts: dict[str, Any]) -> MuData:
    """Return the MuData that :func:`take_apart` was given."""
    import mudata

    with silence_mudata():
        return mudata.MuData(modalities, **parts)


@contextmanager
def silence_mudata() -> Iterator[None]:
    """Make or write an AnnData or MuData without the warnings that concern nobody but their own developers."""
    import mudata

    # before 0.4 mudata copied the columns to mdata.obs, and warned that it would stop to; as a context its options
    # write to the root logger, which then gets a handler that repeats the lines of everyone
    options = mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else None
    try:
        with warnings.catch_warnings():
            # both packages use options that pandas 3 deprecates
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(anndata|mudata)\b")
            yield
    finally:
        if options is not None:
            mudata.set_options(**options.opts)
