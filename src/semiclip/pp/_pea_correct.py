from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from semiclip._checks import batches, controls, finite_rows, nonempty, representation, writable
from semiclip._record import record
from semiclip.correction import correct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def pea_correct(
    adata: AnnData,
    *,
    use_rep: str,
    control: str | Sequence[str] | None,
    perturbation_key: str | None = None,
    batch_key: str | None = None,
    method: Literal["center", "center_scale", "tvn"] = "tvn",
    profile: Literal["clean", "public"] = "clean",
    ridge: float = 0.0,
    coral_reg: float | None = 0.5,
    fallback: Literal["raise", "pooled"] = "raise",
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Correct an embedding for batch effects with the control samples of each batch.

    These are the corrections from which Perturbation Embedding Augmentation draws, each applied in full and fitted on
    all controls: what the teacher, validation and inference use.

    Parameters
    ----------
    adata
        Samples with an embedding and controls.
    use_rep
        Embedding in ``obsm``, or ``"X"``; shape (n_obs, d).
    control, perturbation_key
        Label(s) of the controls and their ``obs`` column. ``control=None`` says that there are none: every row of a
        batch is then its reference, and what all treated rows have in common is corrected away.
    batch_key
        ``obs`` column of the batches, such as plate or experiment; ``None`` makes all rows one batch.
    method, profile, ridge, coral_reg, fallback
        The correction, see :func:`semiclip.correction.correct`.
    key_added
        Where in ``obsm`` the result goes, ``f"{use_rep}_{method}"`` by default.
    copy
        Return a corrected copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. ``obsm[key_added]`` is float32 of shape (n_obs, d), or narrower where the ``public``
    profile drops directions without control variance; ``uns["semiclip"][key_added]["params"]`` says how it was made.

    Raises
    ------
    KeyError
        If the embedding or a column is missing.
    ValueError
        If rows hold NaN or infinity, a control label matches nothing or a batch has fewer than two controls.

    References
    ----------
    Bendidi et al., ICML 2025, section 3 and Appendix C, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import semiclip as scl
    >>> images = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40).mdata["image"]
    >>> scl.pp.pea_correct(
    ...     images, use_rep="X_image", perturbation_key="perturbation", control="control", batch_key="batch"
    ... )
    >>> images.obsm["X_image_tvn"].shape
    (429, 128)
    """
    params = {name: value for name, value in locals().items() if name not in ("adata", "copy")}
    key_added = key_added or f"{use_rep}_{method}"
    writable(nonempty(adata), key_added, copy=copy)
    reference = controls(adata, perturbation_key, control) if control is not None else np.ones(adata.n_obs, dtype=bool)
    codes, names = batches(adata, batch_key)
    corrected = correct(
        representation(adata, use_rep),
        codes,
        reference,
        method=method,
        profile=profile,
        ridge=ridge,
        coral_reg=coral_reg,
        fallback=fallback,
        batch_names=names.tolist(),
    )
    with np.errstate(over="ignore"):  # what float32 cannot hold is named next
        corrected = corrected.astype(np.float32, copy=False)
    finite_rows(corrected, adata.obs_names, "the corrected embedding")
    target = adata.copy() if copy else adata
    target.obsm[key_added] = corrected
    record(target, key_added, params)
    return target if copy else None
