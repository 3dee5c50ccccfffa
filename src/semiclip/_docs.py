"""Descriptions of parameters that many functions share, so that each is written once and shown wherever it is taken."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

# of ``unlabelled``, whether rows are left out or only counted
USUAL = """\
    ``None`` is the usual ones, without regard to case, such as ``"nan"``, ``"NA"``, ``"None"``, ``"unknown"``,
    ``"unassigned"`` and ``"doublet"``. Pass your own where one of these is a real name, or ``()`` if all labels are
    names."""
PARAMETERS = {
    "columns": """\
perturbation_key
    ``obs`` column of the perturbations.
control
    Label or labels of the controls in that column. ``None`` says that there are none: every row of a batch is then the
    reference of the correction, and what all of them have in common is corrected away.
batch_key
    ``obs`` column of the batches, such as plate or experiment; ``None`` makes all rows one batch.""",
    "pairing": """\
student_rep, teacher_rep
    Embeddings in ``obsm`` of the student and of the teacher modality.
pair_on
    ``obs`` column or columns of both modalities that make the pairing key, such as perturbation and dose.
perturbation_key
    ``obs`` column of the perturbations in both modalities.
control
    Label or labels of the controls in that column; each modality may have its own. Controls are the reference of the
    correction and are never paired. ``None`` says that there are none: every row of a batch is then its reference, and
    what all of them have in common is corrected away.
batch_key
    ``obs`` column of the batches in both modalities; ``None`` makes each modality one batch.
split_key
    ``obs`` column of the student whose groups, such as experiments, are never split between training and validation.
    Without it these are the perturbations, and those that share a pairing key stay together.""",
    "label_key": """\
label_key
    ``obs`` column of the student with the classes of an objective that learns from labels. Without it, every pairing
    key is a class of its own, so that each dose is one.""",
    "unlabelled": f"""\
unlabelled
    Labels that name no perturbation: treated rows that carry one stay, as rows of one perturbation, and a warning
    counts them.
{USUAL}""",
    "labels": f"""\
unlabelled
    Labels that name no perturbation: treated rows that carry one are not paired, and a warning counts them.
{USUAL}
separator
    What stands between the parts of a combination, such as ``"+"``, if their order says nothing: ``"A+B"`` and
    ``"B+A"`` are then paired as one. ``None`` takes labels as they are.""",
    "modalities": """\
modalities
    Names of the two modalities, ``{"student": "rna", "teacher": "image"}`` by default.""",
    "pea": """\
pea
    Perturbation Embedding Augmentation in training: ``True`` for the paper's, ``False`` for none, or options of
    :class:`semiclip.correction.PEA` by name. ``None`` is ``True`` wherever ``control`` names controls. Baselines
    are not augmented.""",
    "training": """\
rng
    Seed or generator of weights, split, pairing and augmentation; ``None`` follows ``scvi.settings.seed``. Threads of
    one process train one after the other, since torch has one generator for all: other code that draws from it
    in a thread of its own, such as :meth:`semiclip.model.SemiClip.train`, still changes what is drawn here.
model_kwargs
    Further arguments of the model, :class:`semiclip.model.SemiClip` or :class:`semiclip.model.Baseline`, such as
    ``n_hidden``, ``student_correction`` or ``temperature``.
**train_kwargs
    Further arguments of :meth:`semiclip.model.SemiClip.train`, such as ``batch_size``, ``train_size``,
    ``plan_kwargs={"lr": …}`` or ``enable_progress_bar=False``.""",
    "trained": """\
Returns
-------
The trained model, with which :func:`semiclip.tl.embed` embeds other data. ``obsm[key_added]`` of the student modality
is float32 of shape (n_obs, D). D is the width of the teacher, or ``n_components`` with ``"dcca"`` and ``"cca"``.
``uns["semiclip"][key_added]["params"]`` records how it was made, with ``rng`` and the number of ``shared_keys``.

Raises
------
KeyError, ValueError, TypeError
    If the data are not as described, or the objective or an argument is not known; nothing is written then.

References
----------
Bendidi et al., ICML 2025, section 3, DOI 10.48550/arXiv.2505.21317.""",
    "correction": """\
method, profile, ridge, fallback
    Correction of the representation on the controls, see :func:`semiclip.correction.correct`; ``method=None`` takes it
    as it is.""",
    "gene_map": """\
embedding
    One vector per gene, shape (n_genes, d), of at least 20 genes.
genes
    Gene labels of the rows, unique.
relationships
    Annotated pairs, with the columns ``gene_a``, ``gene_b`` and, optionally, ``database``. The order within a pair,
    repeats, pairs of a gene with itself and genes outside of the map do not matter.
control
    Mask of rows that are no genes, such as non-targeting guides; they are left out. Boolean, shape (n_genes,).""",
    "representations": """\
use_rep
    Key or keys of ``obsm``, or ``"X"``.""",
    "relationships": """\
relationships
    Annotated pairs of genes, labelled as the perturbations are: columns ``gene_a``, ``gene_b`` and, optionally,
    ``database``. By default the five databases of :func:`semiclip.datasets.relationships`. If genes have changed
    their symbols, :func:`semiclip.pp.match_genes` renames those of the pairs as the perturbations name them.""",
    "threshold": """\
thresholds
    Low and high quantile beyond which a pair is recalled, 0 ≤ low ≤ high ≤ 1.""",
    "paper": """\
References
----------
Bendidi et al., ICML 2025, DOI 10.48550/arXiv.2505.21317.""",
    "zenodo": """\
control
    Label or labels of the controls. By default controls are the rows where the published ``is_control`` is true
    or, without such a column, those labelled ``"non-targeting"``.
files
    Names of the file(s) in the record, parts in their order, where the published names have changed.
backed
    Whether ``X`` stays on disk (``adata.to_memory()`` loads it, also of a subset of rows).
progress_bar
    Whether a bar shows the download; ``TQDM_DISABLE=1`` in the environment hides it too.""",
    "drawing": """\
ax
    Where to draw, one axes per panel; by default a new figure.
palette
    Colours of what is compared, in the order drawn or by name.""",
    "drawn": """\
Returns
-------
The axes; an array of them, one per panel, where a picture has panels.

Raises
------
TypeError
    If ``table`` is not a DataFrame, or a column of figures does not hold numbers.
KeyError
    If the table lacks a column, or a mapping as ``palette`` lacks a name.
ValueError
    If the table is empty or has gaps or repeated rows, an argument names what is not there, or colours are too few.""",
}
ADATA = "adata\n    Observations of perturbations, and representations of them."
PARAMETERS["samples"] = "\n".join([ADATA, PARAMETERS["representations"], PARAMETERS["columns"]])
PARAMETERS["map"] = "\n".join(
    PARAMETERS[name] for name in ("samples", "unlabelled", "relationships", "correction", "threshold")
)


def document(function: F) -> F:
    """Fill in the shared parameters, each a line ``{name}`` of a docstring with the indentation of a parameter."""
    lines = (function.__doc__ or "").split("\n")
    for i, line in enumerate(lines):
        if (name := line.strip()[1:-1]) in PARAMETERS and line.strip() == f"{{{name}}}":
            lines[i] = indent(PARAMETERS[name], line[: len(line) - len(line.lstrip())])
    function.__doc__ = "\n".join(lines)
    return function
