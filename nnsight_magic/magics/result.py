"""Where results stood: pickled ones name their classes by this place."""

from nnsight_magic.results.record import ModuleTouch, Prediction, PromptResult, SavedVariable
from nnsight_magic.results.result import TraceResult

__all__ = ["ModuleTouch", "Prediction", "PromptResult", "SavedVariable", "TraceResult"]
