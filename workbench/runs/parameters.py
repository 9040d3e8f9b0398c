"""Parameters of a notebook: what its cell declares, and what was typed as values of the declared types."""

__all__ = [
    "Misfit",
    "Parameter",
    "Text",
    "default",
    "families",
    "fit",
    "listed",
    "literals",
    "parameters",
    "plain",
    "read",
]

import ast
import contextlib
import difflib
import io
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.runs.folder import RunError

MODELS = Path(__file__).resolve().parents[1] / "models"
OURS = ("out", "resume", "replace")  # parameters which the command sets itself
WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*|([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)")


@dataclass(frozen=True)
class Parameter:
    """A name in a notebook's parameters cell: its annotation ("" without one), default (source text) and comment."""

    name: str
    kind: str
    default: str
    help: str


class Text(str):
    """A value as it was typed, of which only the parameter knows what it means."""


class Misfit(ValueError):
    """What came is no value of the type."""


def parameters(notebook: Path) -> dict[str, Parameter]:
    """What the cell tagged `parameters` declares, in its order."""
    import nbformat

    try:
        cells = nbformat.read(notebook, as_version=4).cells
        source = next((cell.source for cell in cells if "parameters" in cell.metadata.get("tags", ())), "")
        body = ast.parse(source).body
    except (ValueError, AttributeError, SyntaxError) as error:
        raise RunError(f"{notebook} cannot be read as a notebook: {error}") from None
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for line in body:  # papermill's own inspection passes over annotations such as `str | None`
        match line:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=value) if value is not None:
                found[name] = Parameter(name, ast.unparse(kind), ast.unparse(value), comments.get(line.end_lineno, ""))
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = Parameter(name, "", ast.unparse(value), comments.get(line.end_lineno, ""))
    return found


def default(parameter: Parameter) -> Any:
    """The default's value; None for one that is no literal, of which only the notebook knows the value."""
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(parameter.default)


def families() -> tuple[str, ...]:
    """Names of the files in `workbench/models`."""
    return tuple(sorted(path.stem for path in MODELS.glob("[!_]*.py")))


def literals(family: str) -> dict:
    """DEFAULTS and PRESETS as they stand in a family's file, without importing it, which takes torch and seconds.

    A name that is missing, or of which something is computed, is left out. `build`: the arguments of that function.
    """
    found = {}
    if family in families():
        for line in ast.parse((MODELS / f"{family}.py").read_text(encoding="utf-8")).body:
            match line:
                case ast.Assign(targets=[ast.Name(id="DEFAULTS" | "PRESETS" as name)], value=value):
                    with contextlib.suppress(ValueError):
                        found[name] = ast.literal_eval(value)
                case ast.FunctionDef(name="build", args=arguments):
                    found["build"] = tuple(argument.arg for argument in arguments.kwonlyargs)
    return found


def fit(declared: Mapping[str, Parameter], given: Mapping[str, Any], notebook: str = "The notebook") -> dict[str, Any]:
    """The given values in the declared types; RunError names a parameter that is unknown or does not fit.

    A `Text`, also within a list or mapping, is as it was typed, and means what its type says: `007` is a string where that is
    str, `[808, on]` two where it is list[str], and in `settings` of a `family` each value what that setting's default is like.
    """
    values = {}
    for name, value in given.items():
        if name in OURS:
            raise RunError(f"The parameter {name} is set by --{name}, not by -p or -f.")
        if name not in declared:
            close = difflib.get_close_matches(str(name), declared, 1, 0.5)
            hint = f" Did you mean {close[0]}?" if close else ""
            known = listed(n for n in declared if n not in OURS) or "none"
            raise RunError(f"{notebook} has no parameter {name}.{hint} It has: {known}.")
        parameter, like, why = declared[name], None, ""
        if name == "settings" and "family" in declared:
            like = literals(str(given.get("family", default(declared["family"])))).get("DEFAULTS")
        options = _declared(parameter)
        if isinstance(value, Text) and not options.keys() & {"str", "int", "float"}:
            try:
                value = read(value)
            except RunError as error:
                value, why = str(value), f" {error}"
        try:
            values[name] = _as(value, options, like)
        except Misfit as misfit:
            came, part = (
                plain(value),
                f", in which {misfit} does not fit," if isinstance(value, (list, tuple, Mapping)) else ",",
            )
            raise RunError(
                f"The parameter {name} came as {came!r} ({type(came).__name__}){part} and {parameter.kind or listed(sorted(options))} was "
                f"expected; its default is {parameter.default}.{why}"
            ) from None
    return values


# ---------------------------------------------------------------------------------------------------------------- YAML


def read(text: str) -> Any:
    """YAML as mappings, lists and strings; what stands without quotes is a `Text`, and so left to what it is meant for.

    YAML 1.1 takes `on` for true, 010 for eight, 12:30 for 750 and 1e-3 for a string. RunError for what is no YAML.
    """
    import yaml

    def value(node):
        match node:
            case yaml.MappingNode():
                for pair in node.value:
                    match pair:
                        case yaml.ScalarNode(value=glued, style=None), yaml.ScalarNode(value="", style=None) if (
                            ":" in glued
                        ):
                            apart = glued.replace(":", ": ", 1)
                            raise RunError(f"YAML wants a space after the colon: write {apart} instead of {glued}.")
                return {str(key.value): value(part) for key, part in node.value}
            case yaml.SequenceNode():
                return [value(part) for part in node.value]
        return str(node.value) if node.style else Text(node.value)

    try:
        node = yaml.compose(text, yaml.SafeLoader)
        return Text("") if node is None else value(node)
    except (yaml.YAMLError, RecursionError) as error:
        raise RunError(f"It is not YAML: {' '.join(str(error).split()) or 'it holds itself'}") from None


def plain(value: Any) -> Any:
    """What was typed where no type is known: null, true and false, numbers as JSON has them, and text."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if not isinstance(value, Text):
        return value
    if value in ("", "~") or value.lower() in ("null", "none"):
        return None
    if value.lower() in ("true", "false"):
        return WORDS[value.lower()]
    if NUMBER.fullmatch(value):
        return int(value) if value.lstrip("+-").isdigit() else float(value)
    return str(value)


# --------------------------------------------------------------------------------------------------------------- types


def _declared(parameter: Parameter) -> dict[str, list[ast.expr]]:
    """The types that fit, read from the annotation, else from the default; none where anything does."""
    if not parameter.kind:
        kind = type(default(parameter)).__name__
        return {"NoneType": {}, "int": {"int": [], "float": []}, "tuple": {"list": []}}.get(kind, {kind: []})
    try:
        return _options(ast.parse(parameter.kind, mode="eval").body)
    except SyntaxError:
        return {}


def _options(kind: ast.expr) -> dict[str, list[ast.expr]]:
    """The types that an annotation allows, each with those of its parts; none where anything fits."""
    match kind:
        case ast.BinOp(op=ast.BitOr()):
            found = [_options(kind.left), _options(kind.right)]
        case ast.Subscript(value=ast.Name(id="Optional")):
            found = [_options(kind.slice), {"None": []}]
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            found = [_options(part) for part in parts]
        case ast.Subscript(value=ast.Name(id=name)):
            parts = kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]
            found = [{name: [part for part in parts if not isinstance(part, ast.Constant)]}]
        case ast.Constant(value=None):
            found = [{"None": []}]
        case ast.Constant(value=str(text)):
            return _options(ast.parse(text, mode="eval").body)
        case ast.Name(id=name):
            found = [{name: []}]
        case _:
            return {}
    if not all(found):
        return {}
    names = {"Path": "str", "tuple": "list", "Sequence": "list", "Mapping": "dict"}
    merged = {names.get(name, name): parts for option in found for name, parts in option.items()}
    return merged if merged.keys() <= {"str", "int", "float", "bool", "list", "dict", "None"} else {}


def _as(value: Any, options: Mapping[str, list[ast.expr]], like: Any = None) -> Any:
    """The value as one of the types; Misfit names what is of none. `like` holds defaults for the parts of a mapping."""
    if isinstance(value, Text):
        return _typed(value, options)
    if isinstance(value, (list, tuple)) and (not options or "list" in options):
        part = options.get("list", [])[:1]
        return [_as(each, _options(part[0]) if part else {}) for each in value]
    if isinstance(value, Mapping) and (not options or "dict" in options):
        if like is not None:
            return _alike(value, like)
        part = options.get("dict", [])[1:]
        return {key: _as(each, _options(part[0]) if part else {}) for key, each in value.items()}
    kind = {"NoneType": "None"}.get(type(value).__name__, type(value).__name__)
    if options and kind not in options and not (kind == "int" and "float" in options):
        raise Misfit(repr(value))
    return value


def _typed(text: Text, options: Mapping[str, Any]) -> Any:
    if not options:
        return plain(text)
    if "None" in options and text.lower() in ("none", "null", "~", ""):
        return None
    if "str" in options:
        return str(text)
    for name, number in (("int", int), ("float", float)):
        if name in options:
            with contextlib.suppress(ValueError):
                return number(text)
    if "bool" in options and text.lower() in WORDS:
        return WORDS[text.lower()]
    raise Misfit(repr(plain(text)))


def _alike(value: Any, like: Any) -> Any:
    """What was typed for a setting, as its default is: the family itself refuses what does not fit, by name."""
    if isinstance(value, Mapping):
        known = like if isinstance(like, Mapping) else {}
        return {key: _alike(part, known.get(key)) for key, part in value.items()}
    if isinstance(value, list):
        return [_alike(part, like[0] if isinstance(like, (tuple, list)) and like else None) for part in value]
    if isinstance(value, Text) and like is not None:
        kinds = {str: ["str"], bool: ["bool"], int: ["int"], float: ["int", "float"]}.get(type(like), [])
        with contextlib.suppress(Misfit):
            return _typed(value, dict.fromkeys(kinds))
    return plain(value)


def listed(names) -> str:
    return ", ".join(dict.fromkeys(names))
