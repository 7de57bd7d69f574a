"""What gives a variant its number: callables from a finished model to a `Score`."""

from transferpipe.score.head_training import head_training
from transferpipe.score.result import Control, Score

__all__ = ["Control", "Score", "head_training"]
