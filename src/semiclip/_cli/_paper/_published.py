"""The paper's own numbers, to be shown beside those of a study."""

from __future__ import annotations

SOURCE = "Bendidi et al., ICML 2025, DOI 10.48550/arXiv.2505.21317"
SETS = ("HUVEC-KO", "LINCS", "SC-RPE1")
# Table 1, in percent: preservation and recall of each set, mean and standard deviation over 15 seeds
TABLE1: dict[str, tuple[tuple[float, float], ...]] = {
    "Random baseline": ((33.92, 0.09), (10.37, 0.11), (47.09, 0.07), (10.81, 0.04), (25.34, 0.11), (10.03, 0.02)),
    "Unimodal baseline": ((52.23, 0.34), (16.51, 0.85), (93.35, 0.07), (12.21, 0.11), (37.75, 0.28), (25.29, 0.24)),
    "KD": ((52.90, 0.31), (16.00, 1.36), (92.69, 0.15), (11.83, 0.27), (37.43, 0.32), (23.90, 0.18)),
    "KD + PEA": ((54.12, 0.63), (20.65, 1.78), (93.11, 0.29), (15.73, 0.59), (37.55, 0.38), (29.02, 0.36)),
    "SHAKE": ((51.93, 0.80), (17.02, 1.02), (91.64, 0.23), (12.09, 0.49), (36.95, 0.46), (25.13, 0.19)),
    "SHAKE + PEA": ((52.93, 0.83), (19.98, 1.34), (92.43, 0.31), (16.84, 0.51), (36.15, 0.51), (30.81, 0.31)),
    "VICReg": ((51.87, 0.39), (17.25, 1.14), (91.19, 0.19), (12.96, 0.45), (36.75, 0.17), (32.19, 0.26)),
    "VICReg + PEA": ((53.76, 0.66), (20.46, 0.83), (91.22, 0.25), (18.12, 0.19), (36.33, 0.22), (38.14, 0.29)),
    "Semi-Clipped": ((52.78, 0.27), (19.71, 1.19), (92.71, 0.23), (12.68, 0.33), (37.54, 0.19), (32.65, 0.21)),
    "Semi-Clipped + PEA": ((53.87, 0.37), (23.05, 0.42), (93.15, 0.38), (19.63, 0.18), (37.56, 0.15), (39.84, 0.23)),
}
# Table 2: recall on HUVEC-KO in percent, by the rungs of semiclip.correction.LADDER
TABLE2: dict[str, tuple[float, ...]] = {
    "KD": (16.00, 16.76, 18.76, 19.37, 20.65),
    "SHAKE": (17.02, 17.22, 18.32, 18.84, 19.98),
    "VICReg": (17.25, 17.97, 18.62, 19.43, 20.46),
    "Semi-Clipped": (19.71, 19.95, 20.58, 21.79, 23.05),
}
# Figure 5: preserved, gains, losses, total. The VICReg column is off by one: its base would be 62, not 61
FIGURE5: dict[str, tuple[int, ...]] = {
    "KD": (22, 59, 39, 81),
    "SHAKE": (33, 44, 28, 77),
    "VICReg": (32, 50, 30, 82),
    "Semi-Clipped": (56, 36, 5, 92),
}
# Table 3, HUVEC-KO: gene sets of what Semi-Clipped alone recalls, and of what it shares with images alone
TABLE3_ONLY, TABLE3_SHARED = ("REACTOME CELL CYCLE CHECKPOINTS", 0.0323), (29, 0.0002)  # and a number with smallest p
# relative gain of recall by PEA, and by all augmentations with PEA (Figure 2b and its text, 5 seeds)
FIGURE2B = {"HUVEC-KO": (0.17, 0.25), "LINCS": (0.55, 0.69), "SC-RPE1": (0.20, 0.26)}
