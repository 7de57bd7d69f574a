"""What gives a variant its number: callables from a finished model to a `Score`, and the data that they need.

To add one:

1. write a function in a module here; what it must and may do stands at `transferpipe.score.result.ScoreFunction`;
2. export it below, and add ``conf/score/NAME.yaml``, whose first line is the command that uses it; from outside, an
   entry point ``NAME = "package:function"`` under ``transferpipe.scores`` in place of both: ``score=NAME`` takes it;
3. let it pass `transferpipe.testing.ScoreLaws`, and compare it with an independent implementation.
"""

from transferpipe.execute.epoch_reports import report_epoch
from transferpipe.score.data import Splits, digits_data, npz_data, tf_data, training_share
from transferpipe.score.evaluate import evaluate
from transferpipe.score.finetune import finetune
from transferpipe.score.h_score import h_score
from transferpipe.score.head_training import head_training
from transferpipe.score.leep import leep
from transferpipe.score.linear_probe import linear_probe
from transferpipe.score.logme import logme
from transferpipe.score.parity import parity
from transferpipe.score.result import Control, Score
from transferpipe.score.training.convergence import Trained, trained_from

__all__ = [
    "Control",
    "Score",
    "Splits",
    "Trained",
    "digits_data",
    "evaluate",
    "finetune",
    "h_score",
    "head_training",
    "leep",
    "linear_probe",
    "logme",
    "npz_data",
    "parity",
    "report_epoch",
    "tf_data",
    "trained_from",
    "training_share",
]
