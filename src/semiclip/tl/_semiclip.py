from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiclip.tl._distill import distill

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from mudata import MuData

    from semiclip.correction import PEA
    from semiclip.model import SemiClip


def semiclip(
    mdata: MuData,
    *,
    student_rep: str,
    teacher_rep: str,
    pair_on: str | Sequence[str],
    control: str | Sequence[str] | None,
    perturbation_key: str | None = None,
    batch_key: str | None = None,
    split_key: str | None = None,
    modalities: Mapping[str, str] | None = None,
    key_added: str = "X_semiclip",
    max_epochs: int = 150,
    pea: bool | PEA | Mapping[str, Any] | None = None,
    rng: int | np.random.Generator | None = None,
    model_kwargs: dict[str, Any] | None = None,
    **train_kwargs: Any,
) -> SemiClip:
    """Distil the teacher modality into the student modality by the paper's method: set up, train, embed in one call.

    The short way to :func:`distill` with the objective ``"semiclip"``.

    Parameters
    ----------
    mdata
        Two modalities that share perturbation labels but no cells, each with an embedding in ``obsm``.
    student_rep, teacher_rep, pair_on, perturbation_key, control, batch_key, split_key, modalities
        What the columns mean, see :meth:`semiclip.model.SemiClip.setup_mudata`.
    key_added
        Where in ``obsm`` of the student modality the distilled embedding goes.
    max_epochs
        Training epochs.
    pea
        Perturbation Embedding Augmentation, on wherever ``control`` names controls; ``False`` turns it off, options of
        :class:`semiclip.correction.PEA` by name change it.
    rng
        Seed of weights, split and pairing; ``None`` follows ``scvi.settings.seed``.
    model_kwargs
        Further arguments of :class:`semiclip.model.SemiClip`, such as ``n_hidden`` or ``temperature``.
    **train_kwargs
        Further arguments of :meth:`semiclip.model.SemiClip.train`, such as ``batch_size`` or ``plan_kwargs``.

    Returns
    -------
    The trained model, with which :func:`semiclip.tl.embed` embeds other data. ``obsm[key_added]`` of the student
    modality is float32 of shape (n_obs, D), and ``uns["semiclip"][key_added]["params"]`` says how it was made, with
    ``rng`` and the number of ``shared_keys``.

    Raises
    ------
    KeyError, ValueError, TypeError
        If the data are not as described, or an argument is not known; nothing is written then.

    References
    ----------
    Bendidi et al., ICML 2025, section 3, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40).mdata
    >>> encoder = scl.pp.encode(mdata["rna"], encoder="pca", n_components=8)
    >>> model = scl.tl.semiclip(
    ...     mdata,
    ...     student_rep="X_pca",
    ...     teacher_rep="X_image",
    ...     pair_on=["perturbation", "dose"],
    ...     perturbation_key="perturbation",
    ...     control="control",
    ...     batch_key="batch",
    ...     max_epochs=2,
    ...     rng=0,
    ...     enable_progress_bar=False,
    ... )
    >>> mdata["rna"].obsm["X_semiclip"].shape
    (432, 128)
    """
    if "objective" in train_kwargs:
        msg = (
            "scl.tl.semiclip has the objective 'semiclip'; call scl.tl.distill(mdata, "
            f"objective={train_kwargs['objective']!r}, …) for another"
        )
        raise TypeError(msg)
    return distill(
        mdata,
        objective="semiclip",
        student_rep=student_rep,
        teacher_rep=teacher_rep,
        pair_on=pair_on,
        control=control,
        perturbation_key=perturbation_key,
        batch_key=batch_key,
        split_key=split_key,
        modalities=modalities,
        key_added=key_added,
        max_epochs=max_epochs,
        pea=pea,
        rng=rng,
        model_kwargs=model_kwargs,
        **train_kwargs,
    )
