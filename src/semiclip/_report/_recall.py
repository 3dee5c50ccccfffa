"""Sections on the data and on the recall of known relationships."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semiclip._checks import batches, column, controls
from semiclip._report._findings import THRESHOLDS
from semiclip._report._format import count, decimals, interval, listed, p_value, share
from semiclip._report._parts import Download, Facts, Note, Picture, Section, Table, Text
from semiclip._report._pictures import drawn, panels

if TYPE_CHECKING:
    from semiclip._report._findings import Asked, Findings
    from semiclip._report._parts import Columns, Part


def data(asked: Asked, found: Findings) -> Section:
    """Count what went in."""
    adata, how = asked.adata, asked.how
    is_control = controls(adata, how["perturbation_key"], how["control"])
    labels = column(adata, how["perturbation_key"], "perturbation_key")[~is_control]
    rows = labels.value_counts()
    rows = rows[rows > 0]  # categories without a row
    codes, names = batches(adata, how["batch_key"])
    of_batch = np.bincount(codes[is_control], minlength=len(names))
    union = found.recall[found.recall["key"] == "union"].iloc[0]
    of_rows = f"{count(rows.max(), 'observation')} each"
    if rows.min() < rows.max():
        of_rows = f"{rows.min():,} to {of_rows} (median {rows.median():g})"
    in_batches = f"{len(names):,}" if how["batch_key"] is not None else "none named; all observations are one batch"
    beside = "none; all observations are the reference of the correction"
    if is_control.any():
        beside = f"at least {of_batch.min():,}, median {np.median(of_batch):g}"
    facts = [
        ("Observations", f"{adata.n_obs:,}, of which {is_control.sum():,} controls"),
        ("Perturbations", f"{len(rows):,}, with {of_rows}"),
        ("Batches", in_batches),
        ("Controls per batch", beside),
        ("Perturbations with an annotated pair", f"{union['n_annotated']:,} of {union['n_genes']:,}"),
        ("Annotated pairs", f"{union['n_pairs']:,} with both genes in the map, each counted once"),
    ]
    ranks = found.main.drop_duplicates("representation").set_index("representation")["rank"]
    width = [adata.X.shape[1] if name == "X" else adata.obsm[name].shape[1] for name in asked.names]
    table = Table(
        "Representations",
        [
            ("Representation", asked.names),
            ("Dimensions", [f"{n:,}" for n in width]),
            ("Kept by the correction", [f"{ranks[name]:,}" for name in asked.names]),
        ],
    )
    return Section("data", "Data", [Facts(facts), table])


def recall(asked: Asked, found: Findings) -> Section:
    """Recall of each database."""
    from semiclip import pl

    table = found.main
    shown: Columns = [
        ("Representation", table["representation"]),
        ("Database", table["key"]),
        ("Recall", table["value"].map(share)),
        ("95% interval", map(interval, table["ci_low"], table["ci_high"])),
        ("Recalled", table["n_recalled"].map("{:,}".format)),
        ("Pairs", table["n_pairs"].map("{:,}".format)),
        ("Chance", table["chance_mean"].map(share)),
        ("± 2 sd", (2 * table["chance_sd"]).map(share)),
        ("p", table["p_value"].map(p_value)),
    ]
    told = "; ".join(
        f"{name}: " + ", ".join(f"{key} {share(value)}" for key, value in zip(part["key"], part["value"], strict=True))
        for name, part in table.groupby("representation", sort=False)
    )
    absent = list(table.loc[table["n_pairs"] == 0, "key"].unique())
    lack = []
    if absent:
        lack = [Note(f"Without a pair in the map, so that they do not count in the mean: {listed(absent)}.")]
    parts: list[Part] = [
        Text("How many of the pairs in each database the representations recall, on average over the databases, and "
             "over their union."),
        Picture(
            drawn(lambda ax: pl.recall(table, ax=ax), size=(5.8, 3.8)),
            f"Bars of recall by database. {told}.",
            "Bars: recall, with 95% intervals. Dashed line: 10%, what a map that knows nothing recalls. Grey bands: "
            f"mean ± 2 standard deviations over {asked.n_permutations:,} exchanges of the gene labels.",
        ),
        *lack,
        Table("Recall by database", shown, 2, Download("recall.csv", found.recall)),
    ]  # fmt: skip
    return Section("recall", "Recall by database", parts)


def curve(found: Findings) -> Section:
    """Recall over the thresholds."""
    from semiclip import pl

    table = found.recall[found.recall["key"] == "mean"]
    tails = [f"{100 * (low + 1 - high):g}%" for low, high in THRESHOLDS]
    rows = table.groupby("representation", sort=False)["value"].agg(list)
    shown: Columns = [("Share of all pairs in the tails", rows.index)]
    shown += [(tail, map(share, values)) for tail, values in zip(tails, zip(*rows, strict=True), strict=True)]
    told = "; ".join(f"{name}: {', '.join(map(share, values))}" for name, values in rows.items())
    parts: list[Part] = [
        Text("If a representation knows more than chance, its curve lies above the diagonal wherever the thresholds "
             "are set, not at 5% and 95% alone."),
        Picture(
            drawn(lambda ax: pl.recall_curve(found.recall, ax=ax), size=(5.2, 3.8)),
            f"Curves of mean recall where {', '.join(tails)} of all pairs are in the tails. {told}.",
            "Mean recall over the databases with 95% intervals, by the share of all pairs in the two tails. Dashed: "
            "chance.",
        ),
        Table("Mean recall by the share of all pairs in the two tails", shown),
    ]  # fmt: skip
    return Section("thresholds", "Recall over the thresholds", parts)


def similarity(asked: Asked, found: Findings) -> Section:
    """How the cosines of annotated pairs lie among all."""
    from semiclip import pl

    table = found.similarity
    cuts = table.drop_duplicates("representation")
    below, above = ([decimals(cut, 3) for cut in cuts[name]] for name in ("cut_low", "cut_high"))
    shown: Columns = [("Representation", cuts["representation"]), ("Recalled below", below), ("Recalled above", above)]
    told = "; ".join(
        f"{name}: recalled below {low} and above {high}"
        for name, low, high in zip(cuts["representation"], below, above, strict=True)
    )
    parts: list[Part] = [
        Text("Where the annotated pairs are more often in the tails than all pairs are, the map knows them. A peak to "
             "the right holds genes whose perturbations look alike, one to the left genes with opposite effects."),
        Picture(
            panels(lambda axes: pl.similarity(table, ax=axes), len(asked.names), size=(3.0, 2.7)),
            f"Histograms of the cosines of all pairs and of the annotated pairs. {told}.",
            "Grey: all pairs of perturbations. Line: annotated pairs. Shaded: the tails, where a pair is recalled.",
        ),
        Table("Cosines beyond which a pair is recalled", shown, 1, Download("similarity.csv", table)),
    ]  # fmt: skip
    return Section("cosines", "Cosines of all and of annotated pairs", parts)
