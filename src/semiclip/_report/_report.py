import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

import semiclip.datasets as datasets
from semiclip._arguments import check_whole
from semiclip._checks import check_adata, read_representation
from semiclip._design import Design
from semiclip._docs import document
from semiclip._messages import warn_without_repeats
from semiclip._report import _sections as sections
from semiclip._report._parts import count, interval, listed, p_value, share
from semiclip._report._request import Request, compute
from semiclip._storage import write_file
from semiclip.correction import CorrectionSpec, Fallback, Method, Profile
from semiclip.errors import FileExists, MissingEntry, MissingFile, TooMany, WrongType
from semiclip.tl._maps import list_names
from semiclip.tl._sets import MOST

FEWEST = 100  # permutations, for a p-value of 0.01


@document
def report(
    adata: AnnData,
    path: str | os.PathLike[str] = "report.html",
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    unlabelled: str | Sequence[str] | None = None,
    base: str | None = None,
    relationships: pd.DataFrame | None = None,
    gene_sets: str | os.PathLike[str] | Mapping[str, Iterable[str]] | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    preservation: pd.DataFrame | None = None,
    n_permutations: int = 1000,
    title: str | None = None,
    overwrite: bool = False,
    rng: int | np.random.Generator | None = None,
    progress_bar: bool = True,
) -> Path:
    """Write a page on how many known gene relationships representations recall, to send to a colleague.

    The page is one file that loads nothing from elsewhere. It says in plain words whether each representation recalls
    more than chance. It shows recall by database and over the thresholds, the cosines behind recall, the pairs that are
    shared, gained and lost, and the gene sets of these pairs. It also says how all of this was computed, and holds the
    tables as CSV files, in which an apostrophe stands before labels that a spreadsheet would compute.

    Parameters
    ----------
    adata
        Observations of genetic perturbations.
    path
        File to write; its folder must exist.
    use_rep
        Key or keys of ``obsm`` (or ``"X"``), at most 16.
    {columns}
    {unlabelled}
    base
        Representation that gains and losses are counted from; by default the first of ``use_rep``.
    {relationships}
    gene_sets
        Gene sets to test for enrichment, as in :func:`semiclip.tl.enrich`; by default none.
    {correction}
    preservation
        What :func:`semiclip.tl.preservation` returned, to be shown too. It takes long, so it is not computed here.
    n_permutations
        Number of exchanges of the gene labels that measure chance, at least 100.
    title, overwrite, progress_bar
        Title of the page, whether to replace a file that exists, and whether to show which part is being computed.
    rng
        Seed or generator of the exchanges and of layouts; the page states the seed.

    Returns
    -------
    The path of the page. It is written when everything has been computed; ``adata`` stays as it is.

    {paper}

    Examples
    --------
    >>> import tempfile
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=40, n_pathways=8, n_genes=40, rng=0)
    >>> keys = {"use_rep": "X_image", "perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> options = {"relationships": study.relationships, "n_permutations": 100, "progress_bar": False}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(scl.report(study.knockouts["image"], f"{folder}/report.html", **keys, **options).name)
    report.html
    """
    file = _check_path(path, overwrite=overwrite)
    names, base = _read_names(use_rep, base)
    check_whole("n_permutations", n_permutations, FEWEST)
    columns: dict[str, Any] = {"perturbation_key": perturbation_key, "control": control, "batch_key": batch_key}
    correction: dict[str, Any] = {"method": method, "profile": profile, "ridge": ridge, "fallback": fallback}
    design, _ = Design.of(**columns, unlabelled=unlabelled), CorrectionSpec(**correction)
    check_adata(adata)
    for read in (design.batches, design.perturbations, design.controls):
        read(adata)
    for name in names:
        read_representation(adata, name)
    sets, source = _read_gene_sets(gene_sets)
    sources = {"relationships": "those of scl.datasets.relationships()", "gene_sets": source}
    if relationships is not None:
        sources["relationships"] = f"a table of {count(len(relationships), 'row')}"
    relationships = datasets.relationships() if relationships is None else relationships
    seed = int(rng) if isinstance(rng, int | np.integer) else int(np.random.default_rng(rng).integers(2**31))
    annotations = (relationships, sets, sources)
    request = Request(adata, names, base, design, columns | correction, *annotations, int(n_permutations), seed)
    # drawn first, so that a table of another kind is refused before the long work
    preserved = None if preservation is None else sections.show_preservation(preservation, names)

    from tqdm.auto import tqdm

    with warn_without_repeats(), tqdm(total=5, desc="report", disable=not progress_bar) as bar:

        def say(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update(1)

        results = compute(request, say)
        say("pictures")
        made = datetime.now(UTC)
        text = _render(
            title=f"Known relationships recalled by {listed(names)}" if title is None else title,
            generator=f"semiclip {version('semiclip')}",
            made=made,
            request=request,
            results=results,
            summary=sections.summarise(request, results),
            data=sections.describe_data(request, results),
            recall=sections.show_recall(request, results),
            thresholds=sections.show_curve(results),
            cosines=sections.show_cosines(results),
            shared=sections.show_shared(request, results),
            compared=sections.show_compared(request, results),
            regions=[sections.show_region(request, results, name) for name in request.regions],
            enrichment=[sections.show_gene_sets(name, table) for name, table in results.enrichment.items()],
            preservation=preserved,
            method=sections.describe_method(request, made),
        )
    write_file(file, text.encode())
    return file


def _check_path(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return the path of a file that can be written, or say why not."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if not file.parent.is_dir():
        raise MissingFile(file.parent, "make this folder first, or choose another path")
    if not os.access(file.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file.parent))
    if file.exists() and not overwrite:
        raise FileExists(file)
    return file


def _read_names(use_rep: str | Sequence[str], base: str | None) -> tuple[list[str], str]:
    """Return the representations, each once, and the one that the others are compared with."""
    names = list_names(use_rep)
    if len(names) > MOST:
        raise TooMany("representations", len(names), MOST, "write a page for some of them")
    if base is not None and base not in names:
        raise MissingEntry(base, names, "use_rep", name="base")
    return names, names[0] if base is None else base


def _read_gene_sets(gene_sets: Any) -> tuple[dict[str, list[str]] | None, str]:
    """Return the genes of each set, and what the sets are, in words."""
    if gene_sets is None:
        return None, "none"
    is_file = isinstance(gene_sets, str | os.PathLike)
    sets = datasets.gene_sets(gene_sets) if is_file else gene_sets
    if not isinstance(sets, Mapping) or any(isinstance(genes, str) for genes in sets.values()):
        raise WrongType("gene_sets", type(sets), "a name, the path of a GMT file or a mapping of names to genes")
    source = Path(gene_sets).name if is_file else "a mapping"
    return {name: list(genes) for name, genes in sets.items()}, f"{source}, {count(len(sets), 'set')}"


def _render(**contents: Any) -> str:
    """Return the page; Jinja escapes every text that is put into it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("semiclip._report")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"share": share, "p_value": p_value, "count": count}
    environment.globals |= {"interval": interval, "listed": listed}
    return environment.get_template("page.html").render(contents)
