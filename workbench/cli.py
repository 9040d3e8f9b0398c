"""The `workbench` command: a few verbs, each a thin call."""

__all__ = ["app", "joined", "main"]

import hashlib
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from workbench import __version__, runs
from workbench.errors import UsageError

app = typer.Typer(
    help="Variational autoencoders for one-shots. `workbench demo` does the whole job once; `workbench run --help` "
    "lists the notebooks. --debug after any verb shows the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# the demo's parameters, where they differ from the notebooks' defaults
DEMO = {
    "1_data": {},
    "2_train": {"settings": {"steps": {"autoencode": 400, "adversarial": 60, "prior": 300}}},
    "3_draw": {},
    "7_report": {"steps": 200},
}


def version(asked: bool) -> None:
    if asked:
        typer.echo(f"workbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=version, help="Say the version.")] = False):
    pass


@app.command(context_settings={"help_option_names": []})
def run(
    ctx: typer.Context,
    notebook: Annotated[str, typer.Argument(help="A notebook's path, or its short name: train is 2_train.ipynb.")] = "",
    out: Annotated[Path | None, typer.Option(help="The run folder; by default runs/<UTC time>-<name>.")] = None,
    parameter: Annotated[
        list[str], typer.Option("-p", metavar="NAME VALUE", help="A parameter; may be repeated.")
    ] = (),
    file: Annotated[
        Path | None, typer.Option("-f", metavar="YAML", help="A file of parameters; -p wins over it.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in --out, with the parameters it was given.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Empty the run folder --out first.")] = False,
    help: Annotated[bool, typer.Option("--help", "-h", help="This text, and the notebook's parameters.")] = False,
):
    """Run a notebook by papermill into a run folder, and write the page (HTML) beside it."""
    from workbench import checks
    from workbench.runs import notebooks, parameters

    if help or not notebook:
        typer.echo(ctx.get_help())
        typer.echo("\n" + (_describe(notebooks.resolve(notebook)) if notebook else f"Notebooks: {notebooks.names()}."))
        raise typer.Exit(0 if help else 2)
    path = notebooks.resolve(notebook)
    if resume and out is None:
        raise runs.RunError("--resume needs the run folder: name it by --out.")
    declared, begun = notebooks.parameters(path), notebooks.recall(out, path) if resume else {}
    given = _file(file) if file else {}
    given |= {name: parameters.Text(value) for name, _, value in (text.partition("=") for text in parameter)}
    values = begun | (now := notebooks.fit(declared, given, path.stem))
    before = {name: parameters.default(p) for name, p in declared.items()} | begun
    if resume and (other := [name for name in now if now[name] != before[name]]):
        raise runs.RunError(
            f"{out} was begun with {other[0]} = {before[other[0]]!r}, and {now[other[0]]!r} came now: --resume goes on with what "
            "it was begun with. Leave -p away, or begin another run."
        )
    values |= checks.check(path, declared, values, out if resume else None)
    outcome = _execute(notebook, path, out or runs.fresh(path.stem), values, resume=resume, replace=replace)
    if outcome.status != "finished":
        raise typer.Exit(130 if outcome.status == "interrupted" else 1)
    typer.echo(f"Open {outcome.page}")


def _execute(name: str, path: Path, out: Path, values: dict, **how):
    from workbench.runs import notebooks

    outcome = notebooks.execute(path, out, values, stream=sys.stderr, **how)
    if outcome.status != "finished":
        _say(f"workbench: {outcome.reason}")
        _say(f"What it did until then: {outcome.page}")
    if outcome.status == "interrupted" and "resume" in notebooks.parameters(path):
        _say(f"To go on: {shlex.join(['workbench', 'run', name, '--out', str(out), '--resume'])}")
    return outcome


def _describe(path: Path) -> str:
    from workbench.runs import notebooks

    rows = [
        (f"  -p {p.name}", p.kind or "any", p.default, p.help)
        for p in notebooks.parameters(path).values()
        if p.name not in notebooks.OURS
    ]
    if not rows:
        return f"{path} has no parameters."
    widths = [min(max(len(row[i]) for row in rows), 28) for i in range(3)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows]
    return f"Parameters of {path} (name, type, default):\n" + "\n".join(lines)


def _file(path: Path) -> dict:
    from workbench.runs import parameters

    try:
        values = parameters.read(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise runs.RunError(f"There is no file of parameters {path}: give one by -f, or parameters by -p.") from None
    except (runs.RunError, UnicodeDecodeError) as error:
        raise runs.RunError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise runs.RunError(
            f"{path} holds {type(values).__name__}, and a mapping of parameter names to values was expected."
        )
    return values


@app.command()
def demo(
    source: Annotated[
        str, typer.Option(help="A folder, archive or recording; by default the built-in pack.")
    ] = "synthetic",
    out: Annotated[Path, typer.Option(help="The folder of the demo's four runs.")] = Path("runs/demo"),
):
    """Do the whole main job: clips from a source, training, new sounds, and a report; after an interruption, go on."""
    from workbench import checks
    from workbench.runs import notebooks

    store = Path("stores", "demo")
    checks.source(source)
    if source != "synthetic":
        source = str(Path(source).expanduser())
        place = Path(source).resolve()  # two folders called "samples" are two stores
        store = Path("stores", f"{place.stem}-{hashlib.sha256(str(place).encode()).hexdigest()[:6]}")
    settings, going_on = {"source": source, "store": str(store), **DEMO}, False
    if (out / runs.RECORD).exists():
        record = runs.read(out)
        if (made := record.get("notebook")) != "demo":
            raise runs.RunError(
                f"{out} is a run of {made}, not a demo, so it is not replaced: give another folder by --out."
            )
        runs.admit(out, resume=True)  # refuses one that is under way
        if going_on := runs.status(out) == "interrupted" and record.get("settings") == settings:
            _say(f"The demo in {out} was interrupted: it goes on where it stopped.")
        else:
            kept = out.with_name(f"{out.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
            out.rename(kept)
            _say(f"The earlier demo is kept in {kept}.")
    paths = {stem: notebooks.resolve(stem) for stem in DEMO}
    train = str(out / "train")
    wiring = {
        "1_data": {"source": source, "store": str(store)},
        "2_train": {"store": str(store)},
        "3_draw": {"run": train},
        "7_report": {"run": train},
    }
    pages, begun = [], time.monotonic()
    with runs.start(out, settings, notebook="demo", resume=going_on) as whole:
        for stem, path in paths.items():
            step, name = time.monotonic(), runs.short(path.stem)
            declared, there = notebooks.parameters(path), (out / name / runs.RECORD).exists()
            values = notebooks.fit(declared, wiring[stem] | DEMO[stem], stem)
            if there and runs.status(out / name) == "finished":
                pages.append((out / name / path.name).with_suffix(".html"))
                _say(f"{stem}: was done before")
                continue
            resume = there and "resume" in declared
            outcome = _execute(name, path, out / name, values, resume=resume, replace=there and not resume)
            if outcome.status != "finished":
                whole.fail(f"{stem}: {outcome.reason}", outcome.status)
                raise typer.Exit(130 if outcome.status == "interrupted" else 1)
            pages.append(outcome.page)
            _say(f"{stem}: {time.monotonic() - step:.0f} s")
        whole.finish(seconds=round(time.monotonic() - begun, 1))
    typer.echo(f"Done in {(time.monotonic() - begun) / 60:.1f} minutes. Open these pages in a browser:")
    for page in pages:
        typer.echo(f"  {page.resolve()}")
    typer.echo(f"Play it: {shlex.join(['workbench', 'app', str(out)])}")


@app.command()
def generate(
    run: Annotated[
        Path | None, typer.Argument(help="A run of 2_train, or the demo's folder; by default the newest.")
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many clips.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same clips.")] = 0,
    label: Annotated[str | None, typer.Option(help="Which class; by default as often as they were learned.")] = None,
    temperature: Annotated[float, typer.Option(help="From 0, typical, to 3, wild.")] = 1.0,
    out: Annotated[Path | None, typer.Option(help="An empty or new folder; by default inside the run.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Empty the folder first, if draws are in it.")] = False,
):
    """Draw new clips: WAV files, one long WAV of all, a contact sheet, and a note of how they were made."""
    source = runs.locate(run) if run else runs.newest()
    if not run:
        _say(f"{source} is the newest run.")
    from workbench.evaluation.generate import listing, write

    folder = write(source, out, n=n, seed=seed, label=label, temperature=temperature, replace=replace, say=_say)
    typer.echo(f"{n} clips in {folder}: {listing(folder)}")


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="A YAML file as those in notebooks/sweeps.")],
    parameter: Annotated[
        list[str], typer.Option("-p", metavar="NAME VALUE", help="What it needs, or a part of its grid.")
    ] = (),
    workers: Annotated[int, typer.Option(min=1, help="Runs at once; they share the cores.")] = 1,
    scheduler: Annotated[str, typer.Option(help="The address of a Dask cluster that sees the same folders.")] = "",
    list_: Annotated[bool, typer.Option("--list", help="Say how its runs stand, and do nothing.")] = False,
):
    """Do all runs of a sweep which are not done yet; after Ctrl-C the same command goes on."""
    from workbench.runs import sweeps

    spec = sweeps.read(file, dict(text.partition("=")[::2] for text in parameter))
    todo = sweeps.jobs(spec)
    typer.echo(f"{spec.get('what', file)}\n{len(todo)} runs.")
    if list_:
        for job in todo:
            typer.echo(f"{sweeps.status(job):12} {job.out}")
        return
    ended = sweeps.run(todo, workers, _say, scheduler)
    if bad := [out for out, how in ended.items() if how != "finished"]:
        raise runs.RunError(f"{len(bad)} of {len(todo)} runs are not done, first {bad[0]}: {ended[bad[0]]}")


@app.command(name="app")
def serve(
    run: Annotated[
        Path | None, typer.Argument(help="A run of 2_train, or the demo's folder; by default the newest.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="By default a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
):
    """Show the instrument and the map of a run in a browser, without code, served by Voila on this machine alone."""
    source = runs.locate(run) if run else runs.newest()
    from workbench.runs import notebooks, serving
    from workbench.trained import open_run
    from workbench.widgets import instrument

    instrument.playable(open_run(source)[0])
    _say(
        "A page takes a quarter of a minute, the first one of a run a minute: its directions and its map are made then."
    )
    serving.serve(notebooks.resolve("play"), {"run": str(source.resolve())}, port, browser)


@app.command()
def listen(
    sources: Annotated[list[Path], typer.Argument(help="The folder of a test; or runs of 2_train to make one of.")],
    kind: Annotated[str, typer.Option(help="acr: opinions of draws; mushra: reconstructions by a reference.")] = "acr",
    clips: Annotated[int, typer.Option(min=1, help="Rated clips of each run.")] = 12,
    training: Annotated[int, typer.Option(min=1, help="Clips or sets for practice, not counted.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of clips, draws and orders.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder of a test that is made.")] = Path("runs/listening"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="By default a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
):
    """Show a listening test to listeners, served by Voila on this machine alone; votes are kept in the test's folder."""
    from workbench import listening
    from workbench.listening.page import from_runs
    from workbench.runs import notebooks, serving

    if len(sources) == 1 and not (sources[0] / runs.RECORD).exists():
        out = sources[0]
    else:
        from_runs(out, sources, kind, clips, training, seed)
    _say(str(listening.Test(out)))
    again = shlex.join(["workbench", "listen", str(out)])
    _say(
        f"For further listeners: {again}. What they say: {shlex.join(['workbench', 'run', 'listen', '-p', 'test', str(out)])}"
    )
    serving.serve(notebooks.resolve("listen"), {"test": str(out.resolve()), "listener": True}, port, browser)


@app.command()
def lab():
    """Open JupyterLab at the notebooks; runs and stores are those of the folder from which it is called."""
    import os
    import subprocess

    from workbench.runs import notebooks

    folder = notebooks.resolve("play").resolve().parent
    words = [f"--ServerApp.root_dir={folder.parent}", f"--LabApp.default_url=/lab/tree/{folder.name}"]
    # nothing is asked of the network: neither versions nor news nor lists of extensions
    words += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None"]
    words += ["--LabApp.extension_manager=readonly"]
    words += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # as in containers
    environment = {**notebooks.CALM, **os.environ, "WORKBENCH_HOME": str(Path.cwd())}
    raise typer.Exit(subprocess.call([sys.executable, "-m", "jupyterlab", *words], env=environment))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="clap-music or clap-630k.")],
    out: Annotated[Path, typer.Option(help="The folder to put it in.")] = Path("checkpoints"),
):
    """Download a checkpoint of CLAP, by which 7_report can hear; nothing else is ever downloaded."""
    from workbench.evaluation import embeddings

    path = embeddings.fetch(name, out)
    typer.echo(f"{path}, SHA-256 {embeddings.sha256(path)}. To use it: export {embeddings.VARIABLE}={path.resolve()}")


@app.command()
def doctor():
    """Say what is there on this machine, what is missing, what for, and what to type."""
    from workbench import doctor

    for finding in doctor.examine():
        typer.echo(f"{'ok     ' if finding.there else 'missing'}  {finding.name}: {finding.what}")
        if finding.remedy and not finding.there:
            typer.echo(f"         {finding.remedy}")


def _say(text: str) -> None:
    typer.echo(text, err=True)


def joined(words: Iterable[str]) -> list[str]:
    """Arguments in which `-p NAME VALUE` is `-p NAME=VALUE`."""
    words, arguments = iter(words), []
    for word in words:
        if word == "-p" and (name := next(words, None)) is not None:
            arguments += ["-p", name if "=" in name else f"{name}={next(words, '')}"]
        else:
            arguments.append(word)
    return arguments


def main() -> None:
    """The entry point: an error that is a sentence is printed as one."""
    debug = "--debug" in sys.argv
    try:
        app(joined(word for word in sys.argv[1:] if word != "--debug"), prog_name="workbench")
    except (UsageError, OSError) as error:  # any other error is a fault of the workbench, and keeps its traceback
        if debug:
            raise
        filename = getattr(error, "filename", None)
        text = f"{error.strerror}: {filename}" if filename and error.strerror else str(error)
        sys.exit(f"workbench: {text}")


if __name__ == "__main__":
    main()
