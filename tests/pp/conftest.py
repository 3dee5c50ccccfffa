from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING

import mudata
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData


@pytest.fixture(scope="session")
def make_mdata() -> Callable[..., mudata.MuData]:
    """Make a MuData whose modalities alone hold the columns of ``obs``."""

    def make(**modalities: AnnData) -> mudata.MuData:
        # mudata 0.3 warns unless the behaviour of 0.4 is asked for
        options = mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext()
        with options, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mudata.MuData(modalities)

    return make
