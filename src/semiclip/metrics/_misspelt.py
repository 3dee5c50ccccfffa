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
    names, database, first, second = read_pairs(relationships.assign(**respelt), genes)
    pair, held = first * n + second, cosine_map.first * n + cosine_map.second
    lost = ~np.isin(database * n**2 + pair, cosine_map.database * n**2 + held)
    if not lost.any():
        return none
    database, pair = database[lost], pair[lost]
    # rows that give a lost pair, in which some labels are right
    a, b = (genes.get_indexer(pd.Index(column, dtype=object)) for column in respelt.values())
    of_row = names.get_indexer(pd.Index(relationships["database"], dtype=object)) if "database" in relationships else 0
    pair_of_row = of_row * n**2 + np.minimum(a, b) * n + np.maximum(a, b)
    at_fault = (a >= 0) & (b >= 0) & np.isin(pair_of_row, database * n**2 + pair)
    faulty = {label for codes, unique in labels.values() for label in unique[np.unique(codes[at_fault])]} & spelt.keys()
    shown = sorted(faulty, key=lambda label: (spelt[label], str(label)))  # labels may be of several types
    told = some((f"{label!r} is {spelt[label]!r} in the map" for label in shown), SHOWN)
    warn(f"{np.unique(pair).size} annotated pair(s) are lost by spelling: {told}; rename them in relationships")
    return np.append(np.bincount(database, minlength=len(none) - 1), np.setdiff1d(pair, held).size)


def fold_gene(gene: str) -> str:
    """Return a gene symbol without what spreadsheets and species change: blanks around it, and case."""
    return str(gene).strip().casefold()
