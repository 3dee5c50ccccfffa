"""Former names of the readers, which are in :mod:`semiclip.io` now; to be removed in the next version."""

from typing import Any

from anndata import AnnData
from scverse_misc import Deprecation, deprecated

import semiclip


@deprecated(Deprecation("0.1.0", "Use semiclip.io.profiles instead."))
def profiles(table: Any, **arguments: Any) -> AnnData:
    """Return what :func:`semiclip.io.profiles` returns."""
    return semiclip.io.profiles(table, **arguments)


@deprecated(Deprecation("0.1.0", "Use semiclip.io.images instead."))
def images(table: Any, **arguments: Any) -> AnnData:
    """Return what :func:`semiclip.io.images` returns."""
    return semiclip.io.images(table, **arguments)


@deprecated(Deprecation("0.1.0", "Use semiclip.io.plate_map instead."))
def annotate(adata: AnnData, plate_map: Any, **arguments: Any) -> AnnData | None:
    """Return what :func:`semiclip.io.plate_map` returns."""
    return semiclip.io.plate_map(adata, plate_map, **arguments)
