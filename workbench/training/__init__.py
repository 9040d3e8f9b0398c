"""Training: a loop over the stages that a model asks for."""

from workbench.training.checkpoints import TrainingError
from workbench.training.fit import Loop, fit, fit_stage
from workbench.training.log import read_log

__all__ = ["Loop", "TrainingError", "fit", "fit_stage", "read_log"]
