"""README and docs: their Python runs, their commands are understood, and their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from workbench import cli, models
from workbench.runs import notebooks, parameters

HOME = Path(__file__).parent.parent
PAGES = [HOME / "README.md", HOME / "CONTRIBUTING.md", HOME / "CHANGELOG.md", *sorted((HOME / "docs").glob("*.md"))]


def commands() -> list[tuple[str, list[str]]]:
    """Every line of a page that calls `workbench`, indented or in backticks, as words."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = re.findall(r"^    (workbench .+)$", text, re.MULTILINE) + re.findall(r"`(workbench [a-z][^`]*)`", text)
        found += [(page.name, shlex.split(line.replace("\n", " "), comments=True)[1:]) for line in lines]
    return [(name, words) for name, words in found if words]


@pytest.mark.parametrize("page, words", commands(), ids=lambda v: " ".join(v)[:60] if isinstance(v, list) else v)
def test_each_command_of_the_docs_is_understood(page, words):
    group = typer.main.get_command(cli.app)
    command = group.commands[words[0]]
    if words[1:] and not {"NAME", "RUN", "…"} & set(words):
        context = command.make_context(words[0], cli.joined(words[1:]))
        if words[0] == "run" and "--help" not in words:
            declared = notebooks.parameters(notebooks.resolve(context.params["notebook"]))
            given = {n: parameters.Text(v) for n, _, v in (p.partition("=") for p in context.params["parameter"])}
            parameters.fit(declared, given)


def test_python_of_the_readme_runs(clips, tmp_path, monkeypatch):
    model = models.for_clips(clips, "wave", "tiny")
    model.save(tmp_path / "runs/demo/train")
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores/demo").symlink_to(clips.store)
    monkeypatch.chdir(tmp_path)
    text = (HOME / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks and not any("```python" in page.read_text(encoding="utf-8") for page in PAGES[1:])
    for block in blocks:
        names = {}
        exec(compile(block.replace('"snare"', repr(clips.labels[0])), "README.md", "exec"), names)
        assert names["x"].shape == (8, 1, clips.length) and names["y"].shape == (1, 1, clips.length)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_readme_is_read_in_a_minute_and_names_every_notebook():
    text = (HOME / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    for path in (HOME / "notebooks").glob("**/*.ipynb"):
        name = path.relative_to(HOME / "notebooks").with_suffix("").as_posix()
        assert f"`{name}`" in text, name
