from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._arguments import check_number
from semiclip._checks import check_writable
from semiclip._design import Design
from semiclip._provenance import record
from semiclip.errors import Empty, Refused, WrongType, some
from semiclip.io._features import COMPARTMENTS, check_columns, read_features
from semiclip.io._plate_map import match_wells
from semiclip.io._tables import PREFIX, format_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from semiclip.io._tables import Table

MAD_TO_SD = 1.4826  # of a normal distribution
NO_SPREAD = 1e-6  # a spread below this share of the size of the values is rounding

logger = logging.getLogger(__name__)


def profiles(
    table: Table | Sequence[Table],
    *,
    perturbation_key: str,
    control: str | Sequence[str],
    batch_key: str = "Plate",
    well_key: str | None = "Well",
    plate_map: Table | None = None,
    features: str | Sequence[str] | None = None,
    max_missing: float = 0.05,
    clip: float | None = 20.0,
    key_added: str = "X_image",
) -> AnnData:
    r"""Return a teacher of CellProfiler features: one row per well, scaled on the controls of its plate.

    The steps are the usual ones of image-based profiling. The profile of a well is the median over its cells. A feature
    is dropped if it is not numeric, lacks too many values, has a single value, or does not vary among the controls of
    some plate. Every other feature is scaled by the median and MAD of the controls :math:`C_b` of the plate,
    :math:`(x - \mathrm{med}_{C_b}) / (1.4826\,\mathrm{MAD}_{C_b})`, and clipped. The log counts dropped features.

    Parameters
    ----------
    table
        Features of cells or of wells: a CSV, TSV or parquet file, or a DataFrame; or a list of these, such as one per
        plate. Columns that begin with ``Metadata_`` describe the rows. Features that some tables lack are dropped. An
        AnnData whose features are scaled already, for example by pycytominer, does not need this function: copy its
        features to ``obsm``.
    perturbation_key, control
        Column of the perturbations, and the label or labels of the controls in it. All columns are named without
        ``Metadata_``.
    batch_key, well_key
        Columns of plate and well. The rows of a well are averaged; ``well_key=None`` leaves them as they are.
    plate_map
        A plate map with the perturbation of each well, if the tables do not have it. It is joined on plate and well as
        in :func:`semiclip.io.plate_map`.
    features
        Names of the features, or their beginnings; ``("Cells_", "Cytoplasm_", "Nuclei_")`` by default, as in
        pycytominer.
    max_missing
        Largest share of rows in which a feature may be NaN or infinite. These values become 0, the median of the
        controls.
    clip
        Largest size of a scaled value; ``None`` does not clip.
    key_added
        Key of ``obsm`` for the profiles.

    Returns
    -------
    One row per well with all features, float32, in ``X`` and in ``obsm[key_added]``. ``obs`` has the ``Metadata_``
    columns that are the same for all cells of a well, with wells spelt like A01; the columns of the plate map; and
    ``n_rows``, the number of rows of each well in the table. In the names of columns ``_`` replaces ``/``, which files
    cannot hold. ``uns["semiclip"][key_added]["params"]`` has the arguments. Wells in which no feature has a value, such
    as empty ones, are left out, with a warning in the log.

    Raises
    ------
    FileNotFoundError, ImportError
        If there is no such file, or a parquet file needs pyarrow.
    KeyError, TypeError
        If a column is missing, or ``table`` is no table, but for example an AnnData.
    ValueError
        If a table cannot be read, has no ``Metadata_`` column or names a column twice, if no feature is found or left,
        a control label matches nothing, or a plate has fewer than two controls.

    References
    ----------
    Serrano et al., Nature Methods 2025, DOI 10.1038/s41592-025-02611-8.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> wells = pd.DataFrame(
    ...     {"Plate": "p1", "Well": ["A1", "A2", "A3", "A4"], "drug": ["DMSO", "DMSO", "DMSO", "aspirin"]}
    ... )
    >>> table = wells.add_prefix("Metadata_").assign(Cells_AreaShape_Area=[100.0, 110.0, 90.0, 120.0])
    >>> images = scl.io.profiles(table, perturbation_key="drug", control="DMSO")
    >>> images.obsm["X_image"].ravel().astype(float).round(2).tolist()
    [0.0, 0.67, -0.67, 1.35]
    """
    from anndata import AnnData

    check_number("max_missing", max_missing, least=0, below=1)
    if clip is not None:
        check_number("clip", clip, above=0)
    check_writable(AnnData(), key_added)
    plate, perturbation = batch_key.removeprefix(PREFIX), perturbation_key.removeprefix(PREFIX)
    design = Design.of(
        perturbation_key=perturbation.replace("/", "_"), control=control, batch_key=plate.replace("/", "_")
    )
    well = None if well_key is None else well_key.removeprefix(PREFIX)
    names = (features,) if isinstance(features, str) else None if features is None else tuple(features)
    tables = list(table) if isinstance(table, Iterable) and not isinstance(table, pd.DataFrame | str) else [table]
    if any(isinstance(item, AnnData) for item in tables):
        way_out = f"copy its features to obsm[{key_added!r}] if they are scaled already; if not, pass "
        way_out += f"adata.obs.add_prefix({PREFIX!r}).join(adata.to_df())"
        raise WrongType("table", AnnData, "a DataFrame, the path of a file, or a list of these", way_out)

    keys = [plate] if well is None else [plate, well]
    obs, values = read_features(tables, keys, perturbation, names)
    if plate_map is not None:
        keys = [plate, well or "Well"]
        check_columns(obs, keys)
        columns = match_wells(obs[keys], plate_map, keys)
        obs = pd.concat([obs.drop(columns=columns.columns, errors="ignore"), columns], axis=1)
    check_columns(obs, [plate, perturbation])
    is_empty = values.isna().all(axis=1)
    if n_empty := is_empty.sum():
        logger.warning(
            "no feature has a value in %d row(s), which are left out: %s", n_empty, some(obs.index[is_empty])
        )
    adata = AnnData(obs=format_columns(obs[~is_empty]))
    scaled = _scale(values[~is_empty], adata, design, max_missing)
    if clip is not None:
        scaled = scaled.clip(-clip, clip)

    array = scaled.to_numpy(dtype=np.float32)
    var = pd.DataFrame(index=scaled.columns.astype(str))
    result = AnnData(array, obs=adata.obs, var=var, obsm={key_added: array.copy()})
    params = {"well_key": well, "features": names or COMPARTMENTS, "max_missing": max_missing, "clip": clip}
    record(result, key_added, {**design.params, **params, "from_plate_map": plate_map is not None})
    return result


def _scale(values: pd.DataFrame, adata: AnnData, design: Design, max_missing: float) -> pd.DataFrame:
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
    is_dropped = {
        f"with more than {max_missing:.0%} missing": values.isna().mean() > max_missing,
        "with one value alone": values.max() == values.min(),
        "without spread among the controls of a plate": ~(spread > NO_SPREAD * centre.abs()).all(),
    }
    is_kept, counts = pd.Series(data=True, index=values.columns), []
    for reason, mask in is_dropped.items():  # a feature counts for its first reason
        counts.append(f"{(is_kept & mask).sum()} {reason}")
        is_kept &= ~mask
    logger.info("%d of %d features stay; %s", is_kept.sum(), len(is_kept), ", ".join(counts))
    if not is_kept.any():
        way_out = f"{', '.join(counts)}: look at the controls, or raise max_missing="
        raise Empty(f"features left of {len(is_kept)}", way_out)
    centres, spreads = (frame.loc[plate_codes, is_kept].to_numpy() for frame in (centre, spread))
    scaled: pd.DataFrame = values.loc[:, is_kept].sub(centres).div(spreads)
    if n_gaps := int(scaled.isna().to_numpy().sum()):
        logger.info("%d missing values in %d row(s) become 0", n_gaps, scaled.isna().any(axis=1).sum())
    return scaled.fillna(0.0)
