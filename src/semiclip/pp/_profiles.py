from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._checks import batches, controls, some, writable
from semiclip._provenance import record
from semiclip.pp._annotate import described, from_map
from semiclip.pp._tables import PREFIX, as_text, read_table, well_names, without_slashes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from anndata import AnnData

    Table = str | PathLike[str] | pd.DataFrame

COMPARTMENTS = ("Cells_", "Cytoplasm_", "Nuclei_")
MAD_TO_SD = 1.4826  # of a normal distribution
NO_SPREAD = 1e-6  # spread, as a share of the size of the values, that is rounding alone

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
    r"""Make a teacher of CellProfiler features: wells, scaled on the controls of their plate.

    The steps are the usual ones of image-based profiling. The cells of a well become one profile, their median.
    Features go that are not numeric, lack too many values, have one value alone, or do not vary among the controls of
    some plate. Each of the others is scaled by median and MAD of the controls :math:`C_b` of its plate,
    :math:`(x - \mathrm{med}_{C_b}) / (1.4826\,\mathrm{MAD}_{C_b})`, and clipped. The log says how many features went,
    and why.

    Parameters
    ----------
    table
        Features of cells or of wells: a CSV, TSV or parquet file, or a DataFrame; several, such as one per plate, as a
        list. Columns that begin with ``Metadata_`` say what a row is. Tables are read and averaged one after another,
        and keep the features that all of them have. An AnnData of features that are scaled already, such as by
        pycytominer, needs no ``profiles``: copy them to ``obsm``, and use it as it is.
    perturbation_key, control
        The column of the perturbation, and the label(s) of the controls. Columns go by their name without
        ``Metadata_``.
    batch_key, well_key
        The columns of plate and well. The rows of one plate and well are averaged; ``well_key=None`` leaves each row
        as it is.
    plate_map
        A plate map with the perturbation of each well, where the tables do not say; joined on plate and well as
        :func:`semiclip.pp.annotate` does.
    features
        Names of the features, or their beginnings; ``("Cells_", "Cytoplasm_", "Nuclei_")`` by default, as in
        pycytominer.
    max_missing
        Largest share of rows in which a feature may be NaN or infinite. Where it is, it becomes 0, the median of the
        controls.
    clip
        Largest size of a scaled value; ``None`` to leave them as they are.
    key_added
        Where in ``obsm`` the profiles go.

    Returns
    -------
    One row per well with all features, float32, in ``X`` and in ``obsm[key_added]``. ``obs`` has the columns
    ``Metadata_``, without those that differ between the cells of a well; wells by their usual names, such as A01; what
    the plate map adds; and ``n_rows``, how many rows of the table a well had. In their names, ``/``, which files cannot
    hold, becomes ``_``. ``uns["semiclip"][key_added]["params"]`` tells how the profiles were made. Wells in which no
    feature has a value, such as empty ones, are left out, with a warning in the log.

    Raises
    ------
    FileNotFoundError, ImportError
        If there is no such file, or a parquet file needs pyarrow.
    KeyError
        If a column is missing.
    TypeError
        If ``table`` is neither a table nor a path, such as an AnnData.
    ValueError
        If a table cannot be read, has no column ``Metadata_`` or names one twice, no feature is there or left, a
        control label matches nothing, or a plate has fewer than two controls.

    References
    ----------
    Serrano et al., Nature Methods 2025, DOI 10.1038/s41592-025-02611-8.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> table = pd.DataFrame(
    ...     {
    ...         "Metadata_Plate": "p1",
    ...         "Metadata_Well": ["A1", "A2", "A3", "A4"],
    ...         "Metadata_drug": ["DMSO", "DMSO", "DMSO", "aspirin"],
    ...         "Cells_AreaShape_Area": [100.0, 110.0, 90.0, 120.0],
    ...     }
    ... )
    >>> images = scl.pp.profiles(table, perturbation_key="drug", control="DMSO")
    >>> images.obsm["X_image"].ravel().astype(float).round(2).tolist()
    [0.0, 0.67, -0.67, 1.35]
    """
    from anndata import AnnData

    if not 0 <= max_missing < 1 or (clip is not None and not clip > 0):
        msg = f"max_missing={max_missing} must be at least 0 and below 1, clip={clip} above 0 or None"
        raise ValueError(msg)
    writable(AnnData(), key_added)
    perturbation_key, batch_key = perturbation_key.removeprefix(PREFIX), batch_key.removeprefix(PREFIX)
    well_key = None if well_key is None else well_key.removeprefix(PREFIX)
    tables = _tables(table, key_added)
    keys = [batch_key] if well_key is None else [batch_key, well_key]
    obs, values = _collect(tables, keys, perturbation_key, features)
    if plate_map is not None:
        keys = [batch_key, well_key or "Well"]
        _columns(obs, keys)
        columns = from_map(obs[keys], plate_map, keys)
        obs = pd.concat([obs.drop(columns=columns.columns, errors="ignore"), columns], axis=1)
    _columns(obs, [batch_key, perturbation_key])
    obs = without_slashes(obs)
    perturbation_key, batch_key = perturbation_key.replace("/", "_"), batch_key.replace("/", "_")

    empty = values.isna().all(axis=1).to_numpy()
    if empty.any():
        names = obs.index[empty]
        logger.warning("no feature has a value in %d row(s), which are left out: %s", len(names), some(names))
        obs, values = obs.loc[~empty], values.loc[~empty]
    adata = AnnData(obs=described(obs))
    reference = controls(adata, perturbation_key, control)
    codes, plates = batches(adata, batch_key)
    n_controls = np.bincount(codes[reference], minlength=len(plates))
    if few := [f"{plate} ({n})" for plate, n in zip(plates, n_controls, strict=True) if n < 2]:
        msg = (
            f"plate(s) with fewer than 2 controls, which scaling needs: {some(few)}; drop these plates, or name the "
            f"controls that they have with control=[...]"
        )
        raise ValueError(msg)
    scaled = _scale(values, codes, reference, max_missing)
    if clip is not None:
        scaled = scaled.clip(-clip, clip)
    array = scaled.to_numpy(dtype=np.float32)
    result = AnnData(array, obs=adata.obs, var=pd.DataFrame(index=scaled.columns.astype(str)))
    result.obsm[key_added] = array.copy()
    params = {
        "perturbation_key": perturbation_key,
        "control": control if isinstance(control, str) else list(control),
        "batch_key": batch_key,
        "well_key": well_key,
        "features": COMPARTMENTS if features is None else features if isinstance(features, str) else list(features),
        "max_missing": max_missing,
        "clip": clip,
        "from_plate_map": plate_map is not None,
    }
    record(result, key_added, params)
    return result


def _tables(table: Any, key_added: str) -> list[Table]:
    """Return tables as a list, and refuse what is none."""
    several = isinstance(table, Iterable) and not isinstance(table, pd.DataFrame | str)
    tables = list(table) if several else [table]
    for each in tables:
        if isinstance(each, pd.DataFrame | str) or hasattr(each, "__fspath__"):
            continue
        msg = f"table is a(n) {type(each).__name__}; a DataFrame, the path of a file, or a list of these is needed"
        if hasattr(each, "obsm"):
            msg += (
                f". If its features are scaled already, use it as it is: adata.obsm[{key_added!r}] = adata.X. If not, "
                "pass adata.obs.join(adata.to_df()), with Metadata_ before the names of the columns of obs"
            )
        raise TypeError(msg)
    return tables


def _collect(
    tables: Sequence[Table], keys: list[str], perturbation_key: str, features: str | Sequence[str] | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what describes the rows of all tables, and their features with NaN for infinity."""
    parts = [_read(table, keys, perturbation_key, features) for table in tables]
    if not parts:
        msg = "no table is given"
        raise ValueError(msg)
    obs = pd.concat([part[0] for part in parts], ignore_index=True)
    values = pd.concat([part[1] for part in parts], ignore_index=True, join="inner")
    if lost := max(part[1].shape[1] for part in parts) - values.shape[1]:
        logger.info("%d feature(s) are not in all tables, and go", lost)
    names = obs[keys].agg(":".join, axis=1)
    if len(keys) == 2 and (repeated := names[names.duplicated()].unique().tolist()):
        msg = f"well(s) in several tables: {some(repeated)}; give plates names of their own, or each table once"
        raise ValueError(msg)
    index = pd.Index(names if len(keys) == 2 else names + ":" + obs.index.astype(str))
    return obs.set_axis(index), values.set_axis(index)


def _read(
    table: Table, keys: list[str], perturbation_key: str, features: str | Sequence[str] | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return description and features of one table, its cells averaged by the keys plate and well."""
    frame = read_table(table, lambda names: _choose(names, features), text={PREFIX + key for key in keys}.__contains__)
    is_obs = frame.columns.str.startswith(PREFIX)
    obs, values = frame.loc[:, is_obs].rename(columns=lambda name: name.removeprefix(PREFIX)), frame.loc[:, ~is_obs]
    numeric = values.select_dtypes("number").columns
    if text := values.columns.difference(numeric).tolist():
        logger.info("%d feature(s) hold text, and go: %s", len(text), some(text))
    values = values[numeric].astype(np.float64)
    values = values.mask(np.isinf(values))
    _columns(obs, keys)
    for key in keys:
        if n := int(obs[key].isna().sum()):
            msg = f"{PREFIX}{key} has no value in {n} row(s); fill or drop them"
            raise ValueError(msg)
    obs[keys[0]] = as_text(obs[keys[0]])
    if len(keys) == 1:
        return obs, values
    obs[keys[1]] = well_names(obs[keys[1]])
    if perturbation_key in obs:
        _whole(obs, keys, perturbation_key)
    groups = obs.groupby(keys, sort=False)
    wells, several = groups.first(), groups.nunique(dropna=False) > 1
    differ = several.columns[several.any()].tolist()
    if perturbation_key in differ:
        mixed = some(map(":".join, several.index[several[perturbation_key]]))
        msg = f"{PREFIX}{perturbation_key} differs within well(s) {mixed}; give plates of one name names of their own"
        raise ValueError(msg)
    if len(wells) < len(obs):
        logger.info("%d rows are averaged to %d wells", len(obs), len(wells))
        values = values.groupby([obs[key] for key in keys], sort=False).median()
    if differ:
        logger.info("column(s) that differ within wells go: %s", some(differ))
    wells = wells.drop(columns=differ)
    if "n_rows" in wells:
        logger.warning("n_rows counts the rows of a well; the column of the table is now %sn_rows", PREFIX)
        wells = wells.rename(columns={"n_rows": f"{PREFIX}n_rows"})
    return wells.assign(n_rows=groups.size()).reset_index(), values.reset_index(drop=True)


def _whole(obs: pd.DataFrame, keys: list[str], perturbation_key: str) -> None:
    """Make empty labels gaps, and refuse wells in which some rows have a label and others none."""
    labels = as_text(obs[perturbation_key])
    missing = labels.isna() | (labels == "")
    obs[perturbation_key] = obs[perturbation_key].mask(missing)
    share = missing.groupby([obs[key] for key in keys], sort=False).mean()
    if partly := [":".join(well) for well in share.index[share.between(0, 1, inclusive="neither")]]:
        msg = f"{PREFIX}{perturbation_key} has no value in some rows of well(s) {some(partly)}; fill or drop these rows"
        raise ValueError(msg)


def _choose(names: Sequence[str], features: str | Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Choose the columns of a table: those that describe, and the features."""
    obs = [name for name in names if name.startswith(PREFIX)]
    if not obs:
        msg = f"no column begins with {PREFIX!r}, as plate, well and perturbation must; there are {some(names)}"
        raise ValueError(msg)
    wanted = COMPARTMENTS if features is None else (features,) if isinstance(features, str) else tuple(features)
    others = [name for name in names if not name.startswith(PREFIX)]
    exact = set(wanted) & set(others)
    starts = tuple(name for name in wanted if name not in exact)
    chosen = [name for name in others if name in exact or name.startswith(starts)]
    unmet = [start for start in starts if not any(name.startswith(start) for name in chosen)]
    if not chosen or (features is not None and unmet):
        msg = f"no feature begins with {some(unmet)}; there are {some(others) or 'none'}; say which with features=[...]"
        raise ValueError(msg)
    return obs, chosen


def _columns(obs: pd.DataFrame, keys: Sequence[str]) -> None:
    if absent := [key for key in keys if key not in obs]:
        msg = f"no column says {some(absent)}; without the prefix {PREFIX!r} there are {some(obs.columns)}"
        raise KeyError(msg)


def _scale(values: pd.DataFrame, codes: np.ndarray, reference: np.ndarray, max_missing: float) -> pd.DataFrame:
    """Scale features on the controls of each plate, without those that have nothing to say."""
    gone: dict[str, Any] = {f"with more than {max_missing:.0%} missing": values.isna().mean() > max_missing}
    gone["with one value alone"] = values.max() == values.min()
    measured = values[reference]
    centre = measured.groupby(codes[reference]).median()
    spread = (measured - centre.loc[codes[reference]].to_numpy()).abs().groupby(codes[reference]).median() * MAD_TO_SD
    gone["without spread among the controls of a plate"] = ~(spread > NO_SPREAD * centre.abs()).all()
    kept, reasons = pd.Series(data=True, index=values.columns), []
    for reason, mask in gone.items():  # each feature counts for the first reason
        reasons.append(f"{(kept & mask).sum()} {reason}")
        kept &= ~mask
    logger.info("%d of %d features stay; %s", kept.sum(), len(kept), ", ".join(reasons))
    if not kept.any():
        msg = f"no feature is left of {len(kept)}: {', '.join(reasons)}; look at the controls, or raise max_missing="
        raise ValueError(msg)
    values, centre, spread = (frame.loc[:, kept] for frame in (values, centre, spread))
    scaled: pd.DataFrame = values.sub(centre.loc[codes].to_numpy()).div(spread.loc[codes].to_numpy())
    if n := int(scaled.isna().to_numpy().sum()):
        logger.info("%d missing values in %d row(s) become 0", n, scaled.isna().any(axis=1).sum())
    return scaled.fillna(0.0)
