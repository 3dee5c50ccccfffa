from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from semiclip._checks import UNSET, spare, writable
from semiclip._pairing import student_of
from semiclip._provenance import record

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
    fallback: Literal["raise", "pooled"] | None = None,
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
        Of several labels that the setup names for the controls, the samples need one.
    fallback
        What happens to a batch with fewer than two controls: an error (``"raise"``), or the ``"pooled"`` controls of
        all batches of these samples. ``None`` is what the model was made with.
    key_added
        Where in ``obsm`` of the student modality the embedding goes, ``"X_"`` and the name of the model's objective if
        ``None``: ``"X_semiclip"``, unless it was trained with another one.
    copy
        Return a copy with the embedding instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. ``obsm[key_added]`` is float32 of shape (n_obs, D). It is made of the student representation
    as the model corrects it on the controls of each batch, and so is ready for ``scanpy.pp.neighbors``.

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
    modalities = model.registry["setup_args"].get("modalities")
    key_added = f"X_{model.module.objective_name}" if key_added is None else key_added
    writable(student_of(adata, modalities), key_added, copy=copy)
    spare(key_added, model.registry["setup_args"]["student_rep"])
    own: dict[str, Any] = {"perturbation_key": perturbation_key, "control": control, "batch_key": batch_key}
    embedding = model.get_latent_representation(adata, **own, fallback=fallback)
    result = adata.copy() if copy else adata
    target = student_of(result, modalities)
    target.obsm[key_added] = embedding
    keys = {**model.registry["setup_args"], **{name: key for name, key in own.items() if key is not UNSET}}
    given = model.init_params_
    objective = {name: value for kwargs in given["kwargs"].values() for name, value in kwargs.items()}
    params = {"model": type(model).__name__, **keys, **given["non_kwargs"], **objective, **model.train_params_}
    if fallback is not None:
        params["fallback"] = fallback
    record(target, key_added, params)
    return result if copy else None
