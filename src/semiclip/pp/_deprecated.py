"""Former names of the readers, which are in :mod:`semiclip.io` now; to be removed in the next version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scverse_misc import Deprecation, deprecated

if TYPE_CHECKING:
    from anndata import AnnData


@deprecated(Deprecation("0.1.0", "Use semiclip.io.profiles instead."))
def profiles(table: Any, **arguments: Any) -> AnnData:
    """Return what :func:`semiclip.io.profiles` returns."""
    from semiclip import io

    return io.profiles(table, **arguments)


@deprecated(Deprecation("0.1.0", "Use semiclip.io.images instead."))
def images(table: Any, **arguments: Any) -> AnnData:
    """Return what :func:`semiclip.io.images` returns."""
    from semiclip import io

    return io.images(table, **arguments)


@deprecated(Deprecation("0.1.0", "Use semiclip.io.plate_map instead."))
def annotate(adata: AnnData, plate_map: Any, **arguments: Any) -> AnnData | None:
    """Return what :func:`semiclip.io.plate_map` returns."""
    from semiclip import io

    return io.plate_map(adata, plate_map, **arguments)
