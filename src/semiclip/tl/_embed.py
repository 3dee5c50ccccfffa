from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiclip._checks import UNSET, modality, nonempty, spare, writable
from semiclip._pairing import roles
from semiclip._record import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

    from semiclip.model import Baseline, SemiClip


def embed(
    adata: AnnData | MuData,
    model: SemiClip | Baseline,
    *,
    perturbation_key: str | None = UNSET,
    control: str | Sequence[str] | None = UNSET,
    batch_key: str | None = UNSET,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Embed transcriptomic samples with a trained model; no images are needed.

    Parameters
    ----------
    adata
        Samples with the model's student representation and ``obs`` columns: an AnnData, or a MuData with the student
        modality. Its batches are corrected with their own controls.
    model
        A trained model.
    perturbation_key, control, batch_key
        What the samples' ``obs`` calls them, where that differs from the model's setup; ``None`` where they have none.
    key_added
        Where in ``obsm`` of the student modality the embedding goes, ``"X_"`` and the name of the model's objective if
        ``None``: ``"X_semiclip"``, unless it was trained with another one.
    copy
        Return a copy with the embedding instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. ``obsm[key_added]`` is float32 of shape (n_obs, D).

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError, ValueError
        If the samples do not fit the model, see :meth:`semiclip.model.SemiClip.get_latent_representation`.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40)
    >>> encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=8)
    >>> model = scl.tl.semiclip(
    ...     study.mdata,
    ...     student_rep="X_pca",
    ...     teacher_rep="X_image",
    ...     pair_on=["perturbation", "dose"],
    ...     perturbation_key="perturbation",
    ...     control="control",
    ...     batch_key="batch",
    ...     max_epochs=2,
    ...     enable_progress_bar=False,
    ... )
    >>> knockouts = study.knockouts["rna"]
    >>> encoder = scl.pp.encode(knockouts, encoder=encoder)
    >>> scl.tl.embed(knockouts, model)
    >>> knockouts.obsm["X_semiclip"].shape
    (312, 128)
    """
    from mudata import MuData

    student = roles(model.registry["setup_args"].get("modalities"))["student"]
    key_added = f"X_{model.module.objective_name}" if key_added is None else key_added
    source = modality(adata, student) if isinstance(adata, MuData) else nonempty(adata)
    writable(source, key_added, copy=copy)
    spare(key_added, model.registry["setup_args"]["student_rep"])
    own: dict[str, Any] = {"perturbation_key": perturbation_key, "control": control, "batch_key": batch_key}
    embedding = model.get_latent_representation(adata, **own)
    result = adata.copy() if copy else adata
    target = result.mod[student] if isinstance(result, MuData) else result
    target.obsm[key_added] = embedding
    keys = {**model.registry["setup_args"], **{name: key for name, key in own.items() if key is not UNSET}}
    given = model.init_params_
    objective = {name: value for kwargs in given["kwargs"].values() for name, value in kwargs.items()}
    params = {"model": type(model).__name__, **keys, **given["non_kwargs"], **objective, **model.train_params_}
    record(target, key_added, params)
    return result if copy else None
