"""Laws of a notebook's parameters: what is read from its cell, and which values fit."""

import pytest
from conftest import PARAMETERS

from workbench import notebooks, runs


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
