"""The one base of errors that are sentences for the user."""

__all__ = ["UsageError"]


class UsageError(ValueError):
    """What came cannot be used; the message says what was expected and the way out. Notebooks show nothing else."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this instead of printing a traceback
        return [f"{type(self).__name__}: {self}"]
