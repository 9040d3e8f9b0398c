"""A finished run, opened."""

from pathlib import Path

from workbench import autoencoder, plots, runs, saved
from workbench.autoencoder import Autoencoder
from workbench.data import Clips

__all__ = ["open_run", "opened"]


def open_run(source) -> tuple[Autoencoder, Clips]:
    """The model of a run and the clips that it was trained on, refused where they no longer fit together."""
    clips, record = saved.clips_of(source), runs.read(source)
    model = autoencoder.load(source)
    if clips.fingerprint != record["data"]:
        print(
            f"The store {clips.store} has changed since {source} was trained: clips may have moved between its splits."
        )
    apart = {"pack": "of packs of their own", "cluster": "whose near-duplicates are held out with them"}
    print(
        f"{source}: family {model.family}, {len(clips.split('train')):,} training clips; {len(clips.split('test')):,} test clips "
        + apart[clips.manifest["settings"]["split_by"]]
    )
    if not clips.manifest["shareable"]:
        print("This page holds originals, which the pack's card does not call shareable: keep it to yourself.")
    return model, clips


def opened(run: str = "") -> tuple[Path, Autoencoder, Clips]:
    """What a notebook begins with: the folder of a run (of the newest finished one for ""), its model and its clips.

    Before it the notebook goes home (`runs.go_home`), and figures are made to show without a network.
    """
    runs.go_home()
    plots.show_offline()
    source = runs.locate(run) if run else runs.newest()
    return source, *open_run(source)
