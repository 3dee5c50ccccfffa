"""Chooses the features of cells or wells among the columns of a table, and scales them on controls."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip.errors import Empty, Refused, some
from semiclip.io._tables import PREFIX, read_numbers

if TYPE_CHECKING:
    from anndata import AnnData

    from semiclip._design import Design

COMPARTMENTS = ("Cells_", "Cytoplasm_", "Nuclei_")
MAD_TO_SD = 1.4826  # of a normal distribution
NO_SPREAD = 1e-6  # a spread below this share of the size of the values is rounding
LEAST_SIZE = 1e-8  # values that are smaller throughout are taken to have this size
# columns of CellProfiler that say where an object lies, or which number it has, and nothing about its looks
POSITIONS = re.compile(
    r"(^|_)(Location|Parent|Metadata|Object_Number|ImageNumber|TableNumber)(_|$)|ObjectNumber(_|$)"
    r"|(^|_)(AreaShape_)?(BoundingBox(Minimum|Maximum)|Center|Centroid)_[XYZ](_|$)"
)

logger = logging.getLogger(__name__)


def choose_features(features: tuple[str, ...] | None, names: list[str], *, keep_positions: bool) -> list[str]:
    """Return the features among the columns of a table; those that are named in full stay, also positions."""
    others = [name for name in names if not name.startswith(PREFIX)]
    if len(others) == len(names):
        raise Empty(f"columns {PREFIX}…, which name plate, well and perturbation", f"the table has {some(names)}")
    requested = COMPARTMENTS if features is None else features
    starts = tuple(name for name in requested if name not in others)
    chosen = [name for name in others if name in requested or name.startswith(starts)]
    unmet = [start for start in starts if not any(name.startswith(start) for name in chosen)]
    if not chosen or (features is not None and unmet):
        way_out = f"the table has {some(others) or 'no others'}: name its features with features=[...]"
        raise Empty(f"features that begin with {some(unmet)}", way_out)
    positions = [name for name in chosen if POSITIONS.search(name) and name not in requested and not keep_positions]
    if positions:
        shown = some(positions)
        logger.info("%d column(s) are positions or numbers of objects and images, and go: %s", len(positions), shown)
    if len(positions) == len(chosen):
        raise Empty("features but positions and numbers of objects and images", "pass keep_positions=True to keep them")
    return [name for name in chosen if name not in set(positions)]


def read_features(columns: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that hold numbers as float64, NaN also for infinity and for gaps written as text."""
    others = [str(name) for name, kind in columns.dtypes.items() if kind.kind not in "iufb"]
    read = {name: read_numbers(columns[name]) for name in others}
    if text := [name for name, values in read.items() if values is None]:
        logger.info("%d feature(s) hold text, and go: %s", len(text), some(text))
    if len(text) == columns.shape[1]:
        way_out = "make them numbers with pd.to_numeric, or name others with features=[...]"
        raise Empty(f"numbers in the features {some(text)}", way_out)
    if others:
        numbers = {name: values for name, values in read.items() if values is not None}
        columns = columns.drop(columns=text).assign(**numbers)
    columns = columns.astype(np.float64)  # frees what was before
    return columns.replace([np.inf, -np.inf], np.nan)


def scale_features(values: pd.DataFrame, adata: AnnData, design: Design, max_missing: float) -> pd.DataFrame:
    """Return the features that can be scaled on the controls of every plate, scaled; gaps become 0."""
    is_control, (plate_codes, plates) = design.controls(adata), design.batches(adata)
    n_controls = np.bincount(plate_codes[is_control], minlength=len(plates))
    if few := [f"{plate} ({n})" for plate, n in zip(plates, n_controls, strict=True) if n < 2]:
        way_out = "drop these plates, or name the controls that they have with control=[...]"
        raise Refused("plates have fewer than 2 controls, which scaling needs", few, way_out)
    controls, control_plates = values[is_control], plate_codes[is_control]
    groups = controls.groupby(control_plates)
    centre = groups.median()
    spread = (controls - groups.transform("median")).abs().groupby(control_plates).median() * MAD_TO_SD
    # beside the other values too: a feature that is 0 up to rounding in controls would be huge elsewhere
    size = values.abs().max().clip(lower=LEAST_SIZE)
    is_spread = spread > NO_SPREAD * centre.abs().clip(lower=size, axis=1)
    is_dropped = {
        f"with more than {max_missing:.0%} missing": values.isna().mean() > max_missing,
        "constant": values.max() == values.min(),
        "without spread among the controls of a plate": ~is_spread.all(),
    }
    is_kept, counts = pd.Series(data=True, index=values.columns), []
    for reason, mask in is_dropped.items():  # a feature counts for its first reason
        counts.append(f"{(is_kept & mask).sum()} {reason}")
        if "spread" in reason and (rounded := (is_kept & mask & (spread > 0).all())).any():
            names = some(rounded.index[rounded])
            logger.info(
                "%d feature(s) vary among controls by less than a millionth of their largest value: %s",
                rounded.sum(),
                names,
            )
        is_kept &= ~mask
    logger.info("%d of %d features stay; %s", is_kept.sum(), len(is_kept), ", ".join(counts))
    if not is_kept.any():
        way_out = f"{', '.join(counts)}: look at the controls, or raise max_missing="
        raise Empty(f"features left of {len(is_kept)}", way_out)
    centres, spreads = (frame.loc[plate_codes, is_kept].to_numpy() for frame in (centre, spread))
    scaled: pd.DataFrame = values.loc[:, is_kept].sub(centres).div(spreads)
    if (n_gaps := scaled.isna().sum(axis=1)).any():
        logger.info("%d missing values in %d row(s) become 0", n_gaps.sum(), (n_gaps > 0).sum())
    return scaled.fillna(0.0)
