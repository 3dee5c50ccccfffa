"""Annotated pairs that a map would hold if their genes were spelt as they are there."""

import numpy as np
import pandas as pd

from semiclip._messages import warn
from semiclip.errors import some
from semiclip.metrics._map import GeneMap, read_pairs

SHOWN = 3  # spellings that a warning names


def count_misspelt(relationships: pd.DataFrame, cosine_map: GeneMap) -> np.ndarray:
    """Return how many pairs case and blanks alone lose, of each database and of their union, and warn of them."""
    genes, n = cosine_map.genes, len(cosine_map.genes)
    none = np.zeros(len(cosine_map.names) + 1, dtype=np.intp)
    labels = {name: pd.factorize(pd.Index(relationships[name], dtype=object)) for name in ("gene_a", "gene_b")}
    absent = {label for _, unique in labels.values() for label in unique[genes.get_indexer(unique) < 0]}
    forms = pd.Series(genes, index=[fold_gene(gene) for gene in genes])
    by_form = forms[~forms.index.duplicated(keep=False)].to_dict()  # a form of two genes says neither
    spelt = {label: by_form[form] for label in absent if (form := fold_gene(label)) in by_form}
    if not spelt:
        return none
    respelt = {
        name: np.array([spelt.get(label, label) for label in unique], dtype=object)[codes]
        for name, (codes, unique) in labels.items()
    }
    _, database, first, second = read_pairs(relationships.assign(**respelt), genes)
    pair, held = first * n + second, cosine_map.first * n + cosine_map.second
    lost = ~np.isin(database * n**2 + pair, cosine_map.database * n**2 + held)
    if not lost.any():
        return none
    n_lost = np.setdiff1d(pair[lost], held).size
    told = some((f"{label!r} is {gene!r} in the map" for label, gene in sorted(spelt.items())), SHOWN)
    warn(f"{n_lost} annotated pair(s) are lost by spelling: {told}; rename them in relationships")
    return np.append(np.bincount(database[lost], minlength=len(none) - 1), n_lost)


def fold_gene(gene: str) -> str:
    """Return a gene symbol without what spreadsheets and species change: blanks around it, and case."""
    return str(gene).strip().casefold()
