"""Families of autoencoders, one file each; a file that is here is known."""

import importlib
import inspect
from collections.abc import Mapping

from workbench.data.clips import ENOUGH
from workbench.errors import UsageError
from workbench.models._settings import FIXED, complete, over
from workbench.runs.parameters import families as names
from workbench.runs.parameters import literals

__all__ = ["build", "check", "for_clips", "known", "literals", "names"]


def known(family: str, preset: str | None = None) -> None:
    """Refuse a family that is not there, and a preset that it has not, as far as its file says so."""
    if family not in names():
        raise UsageError(f"There is no family '{family}'; known are {', '.join(names())}.")
    if preset is not None and preset not in (presets := literals(family).get("PRESETS", [preset])):
        raise UsageError(f"The family '{family}' has no preset '{preset}'; it has {', '.join(presets)}.")


def found(family: str):
    """The module of a family; UsageError for one that is not there."""
    known(family)
    return importlib.import_module(f"{__name__}.{family}")


def check(family: str, preset: str | None = None, settings: Mapping | None = None) -> None:
    """Refuse a family, preset or setting that `for_clips` would, as far as the family's file says so, without torch."""
    known(family, preset)
    says = literals(family)
    if says.keys() >= {"DEFAULTS", "PRESETS"}:
        own = set(says["build"]) - set(FIXED)  # what a family looks at itself
        given = over(says["PRESETS"].get(preset, {}), settings or {})
        complete(family, says["DEFAULTS"], {name: value for name, value in given.items() if name not in own})


def build(family: str, preset: str | None = None, **settings):
    """A new model of a family; `settings` win over those of the preset, also within a mapping such as `steps`."""
    module = found(family)
    if preset is not None and preset not in module.PRESETS:
        raise UsageError(f"The family '{family}' has no preset '{preset}'; it has {', '.join(module.PRESETS)}.")
    return module.build(**over(module.PRESETS[preset] if preset else {}, settings))


def for_clips(clips, family: str, preset: str | None = None, settings: Mapping | None = None):
    """A new model for the clips of a store, which sets length, rate and labels, and the attributes where a family takes them.

    What the store cannot serve, such as more codes than there are frames, is refused here, before a run begins.
    """
    check(family, preset, settings)
    fixed = {"length": clips.length, "rate": clips.rate, "labels": clips.labels}
    if "attributes" in inspect.signature(found(family).build).parameters:
        fixed["attributes"] = known = clips.attributes()
        asked = (settings or {}).get("attributes", ())
        if not isinstance(asked, (list, tuple)) or not all(isinstance(word, str) for word in asked):
            raise UsageError(
                f"`attributes` came as {asked!r}; give a list of words, as in [{', '.join(map(repr, known[:1]))}]."
            )
        if unknown := ", ".join(sorted(set(asked) - set(known))):
            there = ", ".join(known) or "no attributes"
            raise UsageError(
                f"Fewer than {ENOUGH} training clips of {clips.store} are known to be {unknown}; it has {there}."
            )
    model = build(family, preset, **{**fixed, **(settings or {})})
    model.check(clips)
    return model
