from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ._registry import fetch

if TYPE_CHECKING:
    import os

_FILES = {
    "hallmark": "genesets/h.all.v7.0.symbols.gmt",
    "reactome": "genesets/ReactomePathways_2024-09-18.gmt",
}


def gene_sets(source: str | os.PathLike[str]) -> dict[str, list[str]]:
    r"""Read gene sets, public ones by name or those of a GMT file.

    Hallmark (MSigDB 7.0) is CC BY 4.0, Reactome (18 September 2024) is CC0. KEGG, which the paper adds to Reactome, is
    not free: get its GMT file from MSigDB and pass the path.

    Parameters
    ----------
    source
        ``"hallmark"``, ``"reactome"`` or the path of a GMT file: one set per line, its name, a description and its
        genes, separated by tabs.

    Returns
    -------
    The genes of each set by its name, in the order of the file; a gene that a line repeats is there once.

    Raises
    ------
    FileNotFoundError
        If ``source`` is neither a known name nor a file.
    ValueError
        If a line of the file has no name, no description or no gene, or repeats the name of an earlier set; or if the
        file holds no set.

    References
    ----------
    Liberzon et al., Cell Systems 2015, DOI 10.1016/j.cels.2015.12.004 (Hallmark); Milacic et al., Nucleic Acids
    Research 2024, DOI 10.1093/nar/gkad1025 (Reactome).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import semiclip as scl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.gmt"
    ...     _ = path.write_text("Mediator\tsubunits\tMED1\tMED12\n")
    ...     scl.datasets.gene_sets(path)
    {'Mediator': ['MED1', 'MED12']}
    """
    path = fetch(_FILES[source]) if isinstance(source, str) and source in _FILES else Path(source).expanduser()
    if not path.is_file():
        msg = f"no gene sets are called {str(source)!r}, nor is it a file; choose {' or '.join(_FILES)}, or a GMT file"
        raise FileNotFoundError(msg)
    sets: dict[str, list[str]] = {}
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            name, *rest = (field.strip() for field in line.split("\t"))
            genes = list(dict.fromkeys(filter(None, rest[1:])))  # a tab too many makes no gene
            if not name or not genes:
                msg = (
                    f"line {number} of {path} is no gene set: {line.strip()[:60]!r}; a name, a description and at "
                    "least one gene must stand there, separated by tabs"
                )
                raise ValueError(msg)
            if name in sets:
                msg = f"line {number} of {path} repeats the name {name!r} of an earlier gene set; rename or merge them"
                raise ValueError(msg)
            sets[name] = genes
    if not sets:
        msg = f"{path} holds no gene set"
        raise ValueError(msg)
    return sets
