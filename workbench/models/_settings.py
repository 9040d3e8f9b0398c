"""Settings of a family: completed by its defaults, or refused by name. Without torch, so that a mistake is found at once."""

__all__ = ["CHOICES", "FIXED", "PRIORS", "complete", "over"]

import math
from collections.abc import Mapping

from workbench.errors import UsageError

PRIORS = ("standard", "gaussian", "mixture", "realnvp", "spline")
CHOICES = {"start": ("data", "random"), "posterior": ("gaussian", "flow"), "prior": PRIORS}
NONE_WILL_DO = ("iterations", "warmup")  # whole numbers that may be 0; of all others there is one at least
FIXED = ("length", "rate", "labels")  # of the store


def over(preset: Mapping, settings: Mapping) -> dict:
    """A preset with `settings` in place of its own, also within a mapping such as `steps`."""
    return {
        **preset,
        **{
            k: {**preset[k], **v} if isinstance(v, Mapping) and isinstance(preset.get(k), Mapping) else v
            for k, v in settings.items()
        },
    }


def complete(family: str, defaults: Mapping, given: Mapping) -> dict:
    """The defaults with what is given in their place; a setting or stage that is not known is refused by name."""
    if not isinstance(given.get("steps", {}), Mapping):
        raise UsageError(
            f"`steps` came as {given['steps']!r}; give one number for each stage, as in {defaults['steps']}."
        )
    if asked := [name for name in FIXED if name in given]:
        raise UsageError(
            f"`{asked[0]}` is set by the store, not by the settings; build another store for another {asked[0]}."
        )
    for known, asked, what in ((defaults, given, "setting"), (defaults["steps"], given.get("steps", {}), "stage")):
        if unknown := set(asked) - set(known):
            raise UsageError(
                f"The family '{family}' has no {what} {', '.join(sorted(unknown))}; it has {', '.join(known)}."
            )
    for name, value in [*given.items(), *((f"steps: {k}", v) for k, v in given.get("steps", {}).items())]:
        default = 0 if name.startswith("steps: ") else defaults[name]
        if name in CHOICES and value not in CHOICES[name]:
            raise UsageError(f"The setting {name} came as {value!r}; known are {', '.join(CHOICES[name])}.")
        least = 1 if type(default) is int and default > 0 and name not in NONE_WILL_DO else 0
        if not _fits(value, default, least):
            raise UsageError(
                f"The setting {name} came as {value!r}, and something like {default!r} was expected"
                + (f", at least {least}." if type(default) in (int, float) else ".")
            )
    return {**defaults, **given, "steps": {**defaults["steps"], **given.get("steps", {})}}


def _fits(value, default, least: float) -> bool:
    """Is a setting of its default's kind, and a number no smaller than `least`?"""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= least
    match default:
        case None:  # a number of validations, or none
            return value is None or (isinstance(value, int) and number)
        case bool():
            return isinstance(value, bool)
        case int():
            return isinstance(value, int) and number
        case float():
            return number
        case tuple():
            return isinstance(value, (list, tuple)) and len(value) > 0 and all(_fits(v, 1, 1) for v in value)
    return isinstance(value, type(default))
