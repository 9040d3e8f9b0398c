"""Laws of a notebook's parameters: what is read from its cell, and which values fit."""

import signal
import subprocess
import types
import warnings

import pytest
from conftest import PARAMETERS

from workbench import models, runs
from workbench.models import _settings
from workbench.runs import notebooks, parameters, serving


@pytest.fixture
def declared(tmp_path, write_notebook):
    return notebooks.parameters(write_notebook(tmp_path / "n.ipynb", "pass", parameters=PARAMETERS))


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("steps", "12", 12),
        ("rate", "1e-3", 1e-3),
        ("rate", "2", 2),
        ("name", "007", "007"),
        ("name", "null", "null"),
        ("name", "a=b: c", "a=b: c"),
        ("flow", "false", False),
        ("flow", "no", False),
        ("label", "none", None),
        ("label", "kick", "kick"),
        ("sizes", "[3, 4]", [3, 4]),
        ("settings", "{width: 3}", {"width": 3}),
        ("free", "4", 4),
    ],
)
def test_typed_values_take_the_declared_type(declared, name, typed, value):
    (got,) = notebooks.fit(declared, {name: notebooks.Text(typed)}).values()
    assert got == value and type(got) in (type(value), float)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", notebooks.Text("1.5")),
        ("steps", notebooks.Text("many")),
        ("steps", 1.5),
        ("steps", True),
        ("steps", None),
        ("rate", notebooks.Text("fast")),
        ("rate", False),
        ("name", 7),
        ("flow", notebooks.Text("1")),
        ("flow", 1),
        ("label", 3),
        ("sizes", notebooks.Text("[1,")),
        ("sizes", notebooks.Text("3")),
        ("settings", [1]),
        ("free", "x"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name_value_and_type(declared, name, value):
    with pytest.raises(runs.RunError) as refusal:
        notebooks.fit(declared, {name: value})
    assert f"parameter {name} came as " in str(refusal.value) and str(value) in str(refusal.value)
    assert f"and {declared[name].kind or 'float, int'} was expected" in str(refusal.value)


def test_a_cell_without_the_tag_declares_nothing_and_magic_is_a_sentence(tmp_path, write_notebook):
    assert notebooks.parameters(write_notebook(tmp_path / "a.ipynb", "steps: int = 1")) == {}
    with pytest.raises(runs.RunError, match=r"b\.ipynb cannot be read"):
        notebooks.parameters(write_notebook(tmp_path / "b.ipynb", parameters="%matplotlib inline"))


TRAPS = {  # what was typed: as text, where nothing is declared, and as an int, a float and a bool, None where it is none
    "on": ("on", "on", None, None, True),
    "No": ("No", "No", None, None, False),
    "yes": ("yes", "yes", None, None, True),
    "true": ("true", True, None, None, True),
    "808": ("808", 808, 808, 808.0, None),
    "010": ("010", "010", 10, 10.0, None),
    "0x1f": ("0x1f", "0x1f", None, None, None),
    "1e-3": ("1e-3", 1e-3, None, 1e-3, None),
    "1.5E2": ("1.5E2", 150.0, None, 150.0, None),
    ".5": (".5", 0.5, None, 0.5, None),
    "12:30": ("12:30", "12:30", None, None, None),
    "2026-01-31": ("2026-01-31", "2026-01-31", None, None, None),
    "null": ("null", None, None, None, None),
    "~": ("~", None, None, None, None),
    "y": ("y", "y", None, None, None),
    "hat open": ("hat open", "hat open", None, None, None),
    "C#": ("C#", "C#", None, None, None),
    "=": ("=", "=", None, None, None),
}


@pytest.mark.parametrize("text", TRAPS)
@pytest.mark.parametrize("shape", ["[{}]", "[kick, {}]", "{{a: {}}}", '{{"a": {}}}', "- {}"])
def test_what_stands_in_a_list_or_mapping_is_what_its_type_says_or_is_refused(text, shape):
    given, mapping = parameters.Text(shape.format(text)), "a" in shape
    outer = "dict[str, {}]" if mapping else "list[{}]"
    kinds = dict(zip(("str", "", "int", "float", "bool"), TRAPS[text], strict=True))
    for kind, wanted in kinds.items():
        annotation = outer.format(kind) if kind else outer[:4]
        declared = {"p": parameters.Parameter("p", annotation, "None", "")}
        if (wanted is None and kind) or ("kick" in shape and kind not in ("", "str")):
            with pytest.raises(runs.RunError, match=f"parameter p came as .*in which .* does not fit, and .*{kind}"):
                notebooks.fit(declared, {"p": given})
            continue
        (value,) = notebooks.fit(declared, {"p": given}).values()
        got = value["a"] if mapping else value[-1]
        assert got == wanted and type(got) is type(wanted), (annotation, got)
        quoted = (
            notebooks.fit(declared, {"p": parameters.Text(shape.format(f"'{text}'"))}) if kind in ("", "str") else None
        )
        assert quoted is None or (quoted["p"]["a"] if mapping else quoted["p"][-1]) == text


@pytest.mark.parametrize("family", models.names())
def test_settings_are_what_their_defaults_are_like(family):
    declared = {
        "family": parameters.Parameter("family", "str", "'wave'", ""),
        "settings": parameters.Parameter("settings", "dict", "{}", ""),
    }
    defaults = models.literals(family)["DEFAULTS"]
    typings = {
        bool: {"on": True, "no": False},
        int: {"010": 10, "7": 7},
        float: {"1e-3": 1e-3, "2": 2},
        str: {"on": "on", "808": "808"},
    }
    for name, default in {**defaults, **{f"steps: {k}": v for k, v in defaults["steps"].items()}}.items():
        for text, wanted in typings.get(type(default), {}).items():
            stage = name.removeprefix("steps: ")
            shape = f"{{steps: {{{stage}: {text}}}}}" if stage != name else f"{{{name}: {text}}}"
            given = notebooks.fit(declared, {"family": family, "settings": parameters.Text(shape)})["settings"]
            got = given["steps"][stage] if stage != name else given[name]
            assert got == wanted and type(got) is type(wanted), (name, text, got)
        if isinstance(default, tuple):
            given = notebooks.fit(declared, {"family": family, "settings": parameters.Text(f"{{{name}: [010, 8]}}")})
            assert given["settings"][name] == [10, 8], name


def test_the_words_of_notebooks_are_known():
    """A parameter of several texts says so, or what is typed there would be numbers."""
    for path in set(notebooks.known().values()):
        for parameter in notebooks.parameters(path).values():
            assert parameter.kind not in ("", "list"), f"{path}: {parameter.name}"


def test_every_file_of_a_family_says_its_settings_without_being_imported():
    for family in models.names():
        module = models.found(family)
        says = models.literals(family)
        assert set(says.pop("build")) >= set(_settings.FIXED), family
        assert says == {"DEFAULTS": module.DEFAULTS, "PRESETS": module.PRESETS}, family


@pytest.mark.parametrize(
    "damage", ["", "{", '{"metadata": 3}', "[]", '{"metadata": {"papermill": {"parameters": []}}}']
)
def test_parameters_are_recalled_from_the_record_where_the_notebook_is_torn(tmp_path, write_notebook, damage):
    path = write_notebook(tmp_path / "n.ipynb", "pass", parameters="steps: int = 1\nseed: int = 0")
    runs.start(tmp_path / "run", {"steps": 7}, notebook="n", seed=3).finish()
    (tmp_path / "run" / "n.ipynb").write_text(damage)
    assert notebooks.recall(tmp_path / "run", path) == {"steps": 7, "seed": 3}


def test_the_page_of_the_app_is_asked_for_without_warnings(monkeypatch):
    asked = []

    def popen(command, **_):
        asked.extend(command)
        return types.SimpleNamespace(poll=lambda: 0, wait=lambda: 0)

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    serving.serve(notebooks.resolve("play"), {"run": "r"}, browser=False)
    from traitlets.config.loader import KVArgParseConfigLoader
    from voila.configuration import VoilaConfiguration

    words = [word for word in asked if word.startswith("--VoilaConfiguration")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = KVArgParseConfigLoader(words, classes=[VoilaConfiguration]).load_config()
        assert VoilaConfiguration(config=config).extension_denylist == ["@jupyter-widgets/jupyterlab-manager"]


def test_no_notebook_loads_all_clips_to_show_some():
    for path in set(notebooks.known().values()):
        assert ".audio()" not in path.read_text(encoding="utf-8"), path
