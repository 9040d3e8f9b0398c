"""Where things are and what they are called on paper: paths are named once."""

from pathlib import Path

from workbench import thesis

HOME = Path(__file__).resolve().parent.parent
STEPS = thesis.Steps(HOME)
DEMO, MAIN = "demo", "flows-small"  # the run on the built-in pack, and the sweep of the main results
ROWS, FOLDS, FLOORS = f"{MAIN}/rows.csv", f"{MAIN}/folds.csv", f"{MAIN}/floors.csv"
GENERATED = "thesis/generated"
# sets of the ladder: what they are called in results, and on paper
LADDER = {
    "other real clips (floor)": ("floor", "other real clips (floor)"),
    "training clips, copied": ("copied", "training clips, copied"),
    "reconstructions": ("reconstructions", "reconstructions"),
    "draws": ("draws", "draws"),
    "draws of N(0, I) instead of the prior": ("standard", "draws of N(0, I)"),
    "real clips of half of the labels": ("half", "half of the labels"),
    "real clips against those of other labels": ("others", "other labels"),
    "white noise": ("noise", "white noise"),
}
