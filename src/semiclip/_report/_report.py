from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._checks import some
from semiclip._report import _about, _enrichment, _overlap, _preservation, _recall, _summary
from semiclip._report._findings import Asked, computed
from semiclip._report._format import count, listed
from semiclip._report._page import page

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile

MOST = 6  # representations, which pictures can tell apart
FEWEST = 100  # permutations, for a p-value of 0.01


def report(
    adata: AnnData,
    path: str | os.PathLike[str] = "report.html",
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
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
    more than chance, and shows recall by database and over the thresholds, the cosines behind it, which pairs are
    shared, gained and lost, which gene sets these hold, and how all of this was computed, with the tables as files
    inside it.

    Parameters
    ----------
    adata
        Observations of genetic perturbations.
    path
        File to write; its folder must exist.
    use_rep
        Key or keys of ``obsm`` (or ``"X"``), at most six.
    perturbation_key, control, batch_key, relationships, method, profile, ridge, fallback
        As in :func:`semiclip.tl.recall`.
    base
        Representation that gains and losses are counted from; by default the first of ``use_rep``.
    gene_sets
        Gene sets to test for enrichment, as in :func:`semiclip.tl.enrich`; by default none.
    preservation
        What :func:`semiclip.tl.preservation` returned, to be shown too. It takes long, so it is not computed here.
    n_permutations
        Number of exchanges of the gene labels that measure chance, at least 100.
    title
        Title of the page.
    overwrite
        Whether to replace a file that exists.
    rng
        Seed or generator of the exchanges and of layouts; the page states the seed.
    progress_bar
        Whether to show which part is being computed.

    Returns
    -------
    The path of the page. It is written when everything has been computed; ``adata`` stays as it is.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, FileExistsError
        If the folder does not exist or cannot be written to, ``path`` is a folder, or the file exists and ``overwrite``
        is false.
    KeyError
        If ``base`` is not in ``use_rep``, or as in :func:`semiclip.tl.recall`.
    TypeError, ValueError
        If there are more than six representations or fewer than 100 permutations, or as in
        :func:`semiclip.tl.recall`, :func:`semiclip.tl.enrich` and :func:`semiclip.pl.preservation`.

    References
    ----------
    Bendidi et al., ICML 2025, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import tempfile
    >>> import anndata
    >>> import numpy as np
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> rng = np.random.default_rng(0)
    >>> genes = [f"G{i:02}" for i in range(40)]
    >>> adata = anndata.AnnData(obs=pd.DataFrame({"gene": genes}, index=genes))
    >>> adata.obsm["X_pca"] = np.repeat(rng.normal(size=(20, 8)), 2, axis=0) + rng.normal(size=(40, 8))
    >>> known = pd.DataFrame({"gene_a": genes[0::2], "gene_b": genes[1::2]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = scl.report(
    ...         adata,
    ...         f"{folder}/report.html",
    ...         use_rep="X_pca",
    ...         perturbation_key="gene",
    ...         control=None,
    ...         relationships=known,
    ...         method=None,
    ...         n_permutations=100,
    ...         progress_bar=False,
    ...     )
    ...     print(path.name, path.read_text(encoding="utf-8")[:15])
    report.html <!DOCTYPE html>
    """
    file = _writable(path, overwrite=overwrite)
    how: dict[str, Any] = {"perturbation_key": perturbation_key, "control": control, "batch_key": batch_key}
    how |= {"method": method, "profile": profile, "ridge": ridge, "fallback": fallback}
    asked = _asked(adata, use_rep, base, how, relationships, gene_sets, n_permutations, rng)
    # drawn first, so that a table of another kind is refused before the long work
    preserved = [] if preservation is None else [_preservation.preservation(preservation, asked.names)]

    from tqdm.auto import tqdm

    with tqdm(total=5, desc="report", disable=not progress_bar) as bar:

        def say(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update(1)

        found = computed(asked, say)
        say("pictures")
        made = datetime.now(UTC)
        sections = [
            _summary.summary(asked, found),
            _summary.reading(asked),
            _recall.data(asked, found),
            _recall.recall(asked, found),
            _recall.curve(found),
            _recall.similarity(asked, found),
            _overlap.overlap(asked, found),
            _enrichment.enrichment(asked, found),
            *preserved,
            _about.method(asked, made),
        ]
    from semiclip import __version__

    heading = f"Known relationships recalled by {listed(asked.names)}" if title is None else title
    lead = f"Recall of annotated gene pairs by representations of perturbations, {made.day} {made:%B %Y}"
    text = page(heading, lead, sections, generator=f"semiclip {__version__}")
    _write(file, text)
    return file


def _writable(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return the path of a file that can be written, or say why not."""
    file = Path(path).expanduser()
    if file.is_dir():
        msg = f"{file} is a folder; name a file in it, such as {file / 'report.html'}"
        raise IsADirectoryError(msg)
    if not file.parent.is_dir():
        msg = f"the folder {file.parent} does not exist; make it first, or choose another path"
        raise FileNotFoundError(msg)
    if not os.access(file.parent, os.W_OK):
        msg = f"the folder {file.parent} cannot be written to; choose another path"
        raise PermissionError(msg)
    if file.exists() and not overwrite:
        msg = f"{file} exists; pass overwrite=True to replace it, or choose another path"
        raise FileExistsError(msg)
    return file


def _asked(
    adata: AnnData,
    use_rep: str | Sequence[str],
    base: str | None,
    how: dict[str, Any],
    relationships: pd.DataFrame | None,
    gene_sets: str | os.PathLike[str] | Mapping[str, Iterable[str]] | None,
    n_permutations: int,
    rng: int | np.random.Generator | None,
) -> Asked:
    """Check everything that can be checked before the work, and say where the annotations are from."""
    from semiclip import datasets
    from semiclip.tl._enrich import _named
    from semiclip.tl._maps import corrected, named

    names = named(use_rep)
    if len(names) > MOST:
        msg = f"use_rep names {len(names)} representations ({some(names)}); the page shows at most {MOST}"
        raise ValueError(msg)
    if base is not None and base not in names:
        msg = f"base={base!r} is not in use_rep, which has {some(names)}"
        raise KeyError(msg)
    if isinstance(n_permutations, bool) or not isinstance(n_permutations, int | np.integer) or n_permutations < FEWEST:
        msg = f"n_permutations={n_permutations} must be a whole number of at least {FEWEST}"
        raise ValueError(msg)
    seed = int(rng) if isinstance(rng, int | np.integer) else int(np.random.default_rng(rng).integers(2**31))
    corrected(adata, names, **how)  # checks rows, columns and representations

    sources = {"relationships": "those of scl.datasets.relationships()", "gene_sets": "none"}
    if relationships is None:
        known = datasets.relationships()
    else:
        known = relationships
        sources["relationships"] = f"a table of {count(len(known), 'row')}"
    sets = None
    if gene_sets is not None:
        sets = _named(gene_sets)
        source = "a mapping" if isinstance(gene_sets, Mapping) else Path(gene_sets).name
        sources["gene_sets"] = f"{source}, {count(len(sets), 'set')}"
    asked_how = how | {"relationships": known}
    return Asked(adata, names, names[0] if base is None else base, asked_how, sets, sources, int(n_permutations), seed)


def _write(file: Path, text: str) -> None:
    """Write beside the file and put it in place when it is whole, so that no half page is ever there."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
