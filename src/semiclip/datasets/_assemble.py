"""Brings published tables into AnnData and MuData in a form that every supported version can store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._mudata import silence_mudata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from anndata import AnnData


def read_r(path: Path) -> Any:
    """Read an .rda file (a dictionary of its objects) or an .rds file (its object)."""
    import rdata

    read = rdata.read_rds if path.suffix == ".rds" else rdata.read_rda
    # GCT is the class of the L1000 tables; its slots, as attributes, are all that is needed of it
    return read(path, constructor_dict={**rdata.conversion.DEFAULT_CLASS_MAP, "GCT": lambda slots, _: slots})


def make_adata(values: Any, *, obs: Mapping[str, Any], obs_names: Any, var_names: Any) -> AnnData:
    """Make an AnnData with float32 ``X``, plain string names and text columns as categories."""
    from anndata import AnnData

    arrays = {key: _as_plain(column) for key, column in obs.items()}
    columns = {key: pd.Categorical(array) if array.dtype.kind == "U" else array for key, array in arrays.items()}
    frame = pd.DataFrame(columns, index=pd.Index(_as_plain(obs_names)))
    var = pd.DataFrame(index=pd.Index(_as_plain(var_names)))
    with silence_mudata():
        return AnnData(np.asarray(values, dtype=np.float32), obs=frame, var=var)


def _as_plain(column: Any) -> np.ndarray:
    """Turn text of whatever kind (R's, pandas') into NumPy strings; leave numbers and truth values as they are."""
    array = np.asarray(column)
    return array.astype(str) if array.dtype.kind in "OSTU" else array
