"""Colours of observations: one scale of numbers or one set of names for all panels of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip.errors import Empty, MissingEntry, NotFinite
from semiclip.pl import _style as style
from semiclip.pl._beside import add_scale, write_beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes

MISSING = "0.85"  # the grey of what has no value
NUMBERS = "viridis"


@dataclass(frozen=True)
class Colouring:
    """What gives each observation its colour."""

    title: str
    values: np.ndarray
    """A number of each observation, or the code of its name, -1 without one."""
    names: list[str]
    """The names, or none of them where observations have numbers."""
    colours: list[Any]

    @property
    def look(self) -> dict[str, Any]:
        """Colour map and limits, as matplotlib takes them."""
        from matplotlib import colormaps
        from matplotlib.colors import ListedColormap

        if not self.names:
            finite = self.values[np.isfinite(self.values)]
            return {"cmap": colormaps[NUMBERS], "vmin": finite.min(), "vmax": finite.max()}
        return {"cmap": ListedColormap(self.colours), "vmin": -0.5, "vmax": len(self.names) - 0.5}

    @property
    def absent(self) -> np.ndarray:
        """Mask of the observations without a value."""
        return self.values < 0 if self.names else np.isnan(self.values)

    def explain(self, axes: Sequence[Axes], drawn: Any, **mark: Any) -> None:
        """Draw what the colours mean beside the last panel, for what the panels have ``drawn``."""
        if not self.names:
            add_scale(axes, drawn, self.title)
            return
        shown = [(name, colour) for name, colour in zip(self.names, self.colours, strict=True)]
        shown += [("no value", MISSING)] * bool(self.absent.any())
        handles = [style.make_mark(color=colour, label=name, linestyle="none", **mark) for name, colour in shown]
        write_beside(axes[-1], handles, title=self.title)


def read_colouring(adata: AnnData, color: str, palette: style.Palette = None) -> Colouring:
    """Read a column of ``obs`` or a gene; names keep the colours that scanpy keeps in ``uns``."""
    if color in adata.obs:
        column = adata.obs[color]
    elif color in adata.var_names:
        values = adata[:, [color]].X
        column = pd.Series(np.ravel(values.toarray() if hasattr(values, "toarray") else values), adata.obs_names)
    else:
        raise MissingEntry(color, [*adata.obs.columns, *adata.var_names], "obs or var_names", "color")
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return colour_numbers(column.to_numpy(float, na_value=np.nan), color, adata.obs_names)
    labels = column.astype("category").cat.remove_unused_categories()
    names = [str(name) for name in labels.cat.categories]
    if not names:
        raise Empty(f"values in {color} (color)", "name another column or gene")
    kept = adata.uns.get(f"{color}_colors")
    if palette is None and kept is not None and len(kept) == len(column.astype("category").cat.categories):
        of_name = dict(zip(column.astype("category").cat.categories.astype(str), kept, strict=True))
        palette = {name: str(of_name[name]) for name in names}
    if palette is None and len(names) > len(style.COLOURS):
        palette = _list_many_colours()
    colours = style.pick_colours(names, palette)
    return Colouring(color, labels.cat.codes.to_numpy(), names, [colours[name] for name in names])


def colour_numbers(values: np.ndarray, title: str, rows: pd.Index) -> Colouring:
    """Colour by numbers, of which some may be missing."""
    if not np.isfinite(values).any():
        raise NotFinite(title, rows.tolist())
    return Colouring(title, np.where(np.isfinite(values), values, np.nan), [], [])


def _list_many_colours() -> list[str]:
    """Return 60 colours that no neighbours share; more than ten cannot all be told apart at a glance."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps[name](i)) for name in ("tab20", "tab20b", "tab20c") for i in range(20)]
