"""Renames genes to the names that other data use for them."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd

from semiclip import datasets
from semiclip._labels import INVISIBLE, UNLABELLED, fold
from semiclip._messages import warn
from semiclip.errors import MissingColumn, Repeated, WrongType, some

Genes = TypeVar("Genes", pd.DataFrame, pd.Series)
PAIR = ["gene_a", "gene_b"]

logger = logging.getLogger(__name__)


def match_genes(
    genes: Genes,
    reference: Iterable[str],
    *,
    control: str | Sequence[str] | None = None,
    aliases: pd.Series | Mapping[str, str] | None = None,
) -> Genes:
    """Rename genes to the names that other data use for them, whether those are current or former symbols.

    Genes change their symbols: H2AFX became H2AX. A table of relationships and a screen of different years, or the
    expression and the images of two laboratories, then miss genes that both have. A gene that the reference does not
    have is renamed if it matches exactly one gene of the reference, by its name without case and blanks around it or by
    its approved symbol. Everything else stays, also labels that name nothing, such as ``"nan"``.

    Parameters
    ----------
    genes
        Relationships, a table with the columns ``gene_a`` and ``gene_b``; or one column of genes, such as the
        perturbations of a modality.
    reference
        Genes under the names to take, such as the perturbations of a screen; names may repeat.
    control
        Label or labels that are no genes, such as those of controls: no gene takes their names, and they keep theirs,
        in any case and with blanks around them.
    aliases
        Approved symbols by other names, by default those of :func:`semiclip.datasets.gene_aliases`. Names without a
        symbol do not count.

    Returns
    -------
    A copy of ``genes``, of the same type. ``attrs["renamed"]`` has the new names by the old ones; the log counts them
    and shows some. In a column, two names never become one: those that would stay, with a warning.

    Examples
    --------
    A screen that has H2AX but still UTX, and relationships of other years:

    >>> import pandas as pd
    >>> import semiclip as scl
    >>> pairs = pd.DataFrame({"gene_a": ["H2AFX", "tp53"], "gene_b": ["KDM6A", "MDM2"]})
    >>> aliases = {"H2AFX": "H2AX", "UTX": "KDM6A"}  # by default those of HGNC
    >>> screen = pd.Series(["H2AX", "UTX", "TP53", "MDM2", "control"])
    >>> matched = scl.pp.match_genes(pairs, screen, control="control", aliases=aliases)
    >>> matched.to_numpy().tolist()
    [['H2AX', 'UTX'], ['TP53', 'MDM2']]
    >>> matched.attrs["renamed"]
    {'H2AFX': 'H2AX', 'KDM6A': 'UTX', 'tp53': 'TP53'}
    """
    if not isinstance(genes, pd.DataFrame | pd.Series):
        raise WrongType("genes", type(genes), "relationships (a DataFrame) or a column of genes (a Series)")
    if isinstance(reference, str | pd.DataFrame):
        raise WrongType("reference", type(reference), "names of genes, such as an obs column")
    is_column = isinstance(genes, pd.Series)
    if not is_column and (absent := [name for name in PAIR if name not in genes]):
        raise MissingColumn(absent, genes.columns, "genes")
    columns: dict[str, Any] = {"": genes} if is_column else {name: genes[name] for name in PAIR}
    controls = [control] if control is None or isinstance(control, str) else list(control)
    names = _find_names(_list_labels(columns.values()), _list_labels([reference]), controls, _read_aliases(aliases))
    if is_column:
        names = _drop_joined(names, _list_labels([genes]))
    renamed = {key: _rename(column, names) for key, column in columns.items()}
    result: Any = renamed[""] if is_column else genes.assign(**renamed)
    result.attrs = {**genes.attrs, "renamed": names}
    n, told = len(_list_labels(columns.values())), some((f"{old} to {new}" for old, new in names.items()), 3)
    logger.info("%d of %d gene names become those of the reference%s", len(names), n, f": {told}" if told else "")
    return result


def _list_labels(columns: Iterable[Any]) -> list[str]:
    """Return the distinct labels of columns, sorted; what is no text, such as a gap, has no other name."""
    labels = {label for column in columns for label in column if isinstance(label, str)}
    return sorted(labels)


def _read_aliases(aliases: pd.Series | Mapping[str, str] | None) -> dict[str, str]:
    if aliases is None:
        aliases = datasets.gene_aliases()
    aliases = pd.Series(aliases, dtype=object)  # also of a mapping
    aliases = aliases[[isinstance(symbol, str) and bool(symbol.strip(INVISIBLE)) for symbol in aliases]]
    if not aliases.index.is_unique:
        repeated = aliases.index[aliases.index.duplicated()].unique().tolist()
        raise Repeated("aliases", repeated, "leave out names that several genes have")
    return {str(alias): str(symbol) for alias, symbol in aliases.items()}


def _find_names(
    labels: Iterable[str], reference: Iterable[str], controls: Iterable[object], aliases: Mapping[str, str]
) -> dict[str, str]:
    """Return the reference's name of each label that it lacks and has under exactly one other name."""

    def find_forms(label: str) -> set[str]:
        """Return what a gene may go by: its own name and the symbol of which that is an alias."""
        bare = label.strip(INVISIBLE)
        return {fold(bare), fold(aliases.get(bare, bare))}

    no_genes = {*UNLABELLED, *(fold(label) for label in controls if isinstance(label, str))}
    there, by_form = {*reference}, dict[str, set[str]]()
    for label in there:
        if fold(label) not in no_genes:
            for form in find_forms(label):
                by_form.setdefault(form, set()).add(label)
    names = {}
    for label in labels:
        if label not in there and fold(label) not in no_genes:
            found = set().union(*(by_form.get(form, ()) for form in find_forms(label)))
            if len(found) == 1:
                names[label] = found.pop()
    return names


def _drop_joined(names: dict[str, str], labels: Iterable[str]) -> dict[str, str]:
    """Return the names that no other label of the column has or takes, and warn of the others."""
    taken = pd.Series([*names.values(), *(label for label in labels if label not in names)], dtype=object)
    shared = {*taken[taken.duplicated()]}
    joined = {old: new for old, new in names.items() if new in shared}
    if joined:
        told = some(f"{old!r} is {new!r}" for old, new in joined.items())
        warn(f"{len(joined)} gene name(s) stay, since the column has the same gene under another name: {told}")
    return {old: new for old, new in names.items() if old not in joined}


def _rename(column: pd.Series, names: Mapping[str, str]) -> pd.Series:
    """Return a column of the same type with other names."""
    renamed = column.astype(object).map(lambda label: names.get(label, label))
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return renamed.astype(column.dtype)
    former = column.cat.categories
    categories = dict.fromkeys(names.get(name, name) for name in former)  # a new name may be a category without rows
    kind = pd.CategoricalDtype(pd.Index(list(categories), dtype=former.dtype), ordered=column.cat.ordered)
    return renamed.astype(kind)
