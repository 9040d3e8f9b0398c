"""New clips drawn from a run, written as a pack: WAV files, all in a row, a contact sheet, and how they were made."""

__all__ = ["listing", "write"]

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from workbench import autoencoder, files, plots, runs, saved
from workbench.data import audio
from workbench.errors import UsageError

NOTE, SHEET = "draws.json", 64  # a contact sheet of more clips than this cannot be read


def write(
    run,
    out=None,
    *,
    n: int = 64,
    seed: int = 0,
    label: str | None = None,
    temperature: float = 1.0,
    replace: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Draw `n` clips from the run's prior into the folder `out` (by default one inside the run), and return it.

    Raises UsageError for a label that the model does not know, and for a folder that is in the way.
    """
    run = Path(run)
    if (stands := runs.status(run)) != "finished" and not (run / saved.WEIGHTS).is_file():
        again = shlex.join(["workbench", "run", "train", "--out", str(run), "--resume"])
        then = "wait for it" if stands == "running" else f"go on with it: {again}"
        raise UsageError(f"{run} is {stands}, so there is no model in it yet: {then}, or take another run.")
    model = autoencoder.load(run)
    name = label or "draw"
    out = Path(out) if out is not None else run / "draws" / f"{name}-{seed}"
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken and not out.is_dir():
        raise runs.RunError(f"{out} is a file, and draws need a folder: give another name by --out.")
    if taken and not replace:
        raise runs.RunError(f"{out} is not empty: give another folder by --out, or say --replace.")
    if taken and not (out / NOTE).exists():
        raise runs.RunError(f"{out} holds no draws, so it is not emptied: give another folder by --out.")
    if label is not None and label not in model.labels:
        raise UsageError(f"The model of {run} knows no label '{label}'; it knows {', '.join(model.labels) or 'none'}.")
    clips = model.sample(n, seed=seed, temperature=temperature, label=label).squeeze(1).numpy()
    if out.exists():
        shutil.rmtree(out)
    names = [f"{name}-{seed}-{i:0{len(str(n - 1))}d}" for i in range(n)]
    note = {
        "run": str(run),
        "started": runs.read(run).get("started"),
        **dict(n=n, seed=seed, label=label, temperature=temperature, rate=model.rate, length=model.length),
        "made": runs.now(),
        **runs.provenance(),
    }
    with files.room(out):
        out.mkdir(parents=True)
        files.write_json(out / NOTE, note)  # first: what is left of a full disk can be told for draws, and replaced
        for clip, stem in zip(clips, names, strict=True):
            audio.write(out / f"{stem}.wav", clip, model.rate)
        audio.write(out / f"all-{name}-{seed}.wav", clips.reshape(-1), model.rate)
        sheet = plots.spectrogram(clips[:SHEET], model.rate, names[:SHEET], columns=8)
        try:
            plots.save(sheet, out / "sheet.png", width_cm=24)
        except plots.NoChrome as missing:
            sheet.write_html(out / "sheet.html", config=plots.CONFIG)
            say(f"The contact sheet is sheet.html, no PNG. {missing}")
    if n > SHEET:
        say(f"The contact sheet shows the first {SHEET} of {n} clips.")
    return out


def listing(folder: Path) -> str:
    """All that `write` has written, each with what it is."""
    note, names = files.read_json(folder / NOTE), sorted(path.name for path in folder.iterdir())
    row = f"all-{note['label'] or 'draw'}-{note['seed']}.wav"
    clips = [name for name in names if name.endswith(".wav") and name != row]
    what = {
        row: "all in a row",
        NOTE: "how they were made",
        "sheet.png": "contact sheet",
        "sheet.html": "contact sheet",
    }
    return ", ".join(
        [
            " to ".join(dict.fromkeys((clips[0], clips[-1]))),
            *(f"{name} ({what[name]})" for name in what if name in names),
        ]
    )
