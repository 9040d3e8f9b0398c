"""Training: a loop over the stages that a model asks for."""

from workbench.training.checkpoints import TrainingError
from workbench.training.log import read_log
from workbench.training.loop import Loop, fit, fit_stage

__all__ = ["Loop", "TrainingError", "fit", "fit_stage", "read_log"]
