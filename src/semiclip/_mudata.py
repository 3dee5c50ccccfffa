"""MuData without what its versions say about themselves."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData


def make_mudata(**modalities: AnnData) -> MuData:
    """Make a MuData whose modalities alone hold the columns of ``obs``."""
    import mudata

    with silence_mudata():
        return mudata.MuData(modalities)


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
