from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiclip._arguments import AS_IN_SETUP
from semiclip._checks import check_writable
from semiclip._design import STUDENT
from semiclip._provenance import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

    from semiclip.correction import Fallback
    from semiclip.model import Baseline, SemiClip


def embed(
    adata: AnnData | MuData,
    model: SemiClip | Baseline,
    *,
    perturbation_key: str | None = AS_IN_SETUP,
    control: str | Sequence[str] | None = AS_IN_SETUP,
    batch_key: str | None = AS_IN_SETUP,
    fallback: Fallback | None = None,
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
        Names of these in the samples' ``obs``, where they differ from the model's setup; ``None`` where they have none.
        If the setup names several control labels, the samples need one of them.
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
    design, params = model.design, model.init_params_
    key_added = f"X_{model.module.objective_name}" if key_added is None else key_added
    check_writable(design.side(adata, STUDENT), key_added, copy=copy, reads=model.representations["student_rep"])
    columns: dict[str, Any] = {"perturbation_key": perturbation_key, "control": control, "batch_key": batch_key}
    embedding = model.get_latent_representation(adata, **columns, fallback=fallback)
    result = adata.copy() if copy else adata
    samples = design.side(result, STUDENT)
    samples.obsm[key_added] = embedding
    columns = {name: value for name, value in columns.items() if value is not AS_IN_SETUP}
    recorded = {"model": type(model).__name__, **model.representations, **design.changed(**columns).params}
    recorded |= params["non_kwargs"]
    for arguments in (*params["kwargs"].values(), model.train_params_):  # of the objective, and of training
        recorded |= arguments
    if fallback is not None:
        recorded["fallback"] = fallback
    record(samples, key_added, recorded)
    return result if copy else None
