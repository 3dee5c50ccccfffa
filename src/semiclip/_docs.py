"""Descriptions of parameters that many functions share, so that each is written once and shown wherever it is taken."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

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
    "modalities": """\
modalities
    Names of the two modalities, ``{"student": "rna", "teacher": "image"}`` by default.""",
    "correction": """\
method, profile, ridge, fallback
    Correction of the representation on the controls, see :func:`semiclip.correction.correct`; ``method=None`` takes it
    as it is.""",
    "representations": """\
use_rep
    Key or keys of ``obsm``, or ``"X"``.""",
    "drawing": """\
ax
    Where to draw; by default a new figure.
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


def document(function: F) -> F:
    """Fill in the shared parameters, each a line ``{name}`` of a docstring with the indentation of a parameter."""
    lines = (function.__doc__ or "").split("\n")
    for i, line in enumerate(lines):
        if (name := line.strip()[1:-1]) in PARAMETERS and line.strip() == f"{{{name}}}":
            lines[i] = indent(PARAMETERS[name], line[: len(line) - len(line.lstrip())])
    function.__doc__ = "\n".join(lines)
    return function
