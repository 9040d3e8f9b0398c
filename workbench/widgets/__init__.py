"""What one touches in a notebook: the instrument, the map, the blind game."""

from workbench.widgets.game import real_or_made

__all__ = ["real_or_made"]
