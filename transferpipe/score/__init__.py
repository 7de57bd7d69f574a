"""What gives a variant its number: callables from a finished model to a `Score`, and the data that they need.

To add one:

1. write a module here with a function of its name; what that must and may do stands at
   `transferpipe.score.result.ScoreFunction`;
2. export it below, which is one line: ``score=NAME`` takes it. A preset, ``conf/score/NAME.yaml``, is for defaults that
   its signature cannot hold, such as the data. From outside, an entry point ``NAME = "package:function"`` under
   ``transferpipe.scores`` stands in place of the line;
3. let it pass `transferpipe.testing.ScoreLaws`, and compare it with an independent implementation.
"""

import types

from transferpipe.execute.epoch_reports import report_epoch as report_epoch
from transferpipe.score.data import Splits as Splits
from transferpipe.score.data import digits_data as digits_data
from transferpipe.score.data import npz_data as npz_data
from transferpipe.score.data import tf_data as tf_data
from transferpipe.score.data import training_share as training_share
from transferpipe.score.evaluate import evaluate as evaluate
from transferpipe.score.finetune import finetune as finetune
from transferpipe.score.h_score import h_score as h_score
from transferpipe.score.head_training import head_training as head_training
from transferpipe.score.leep import leep as leep
from transferpipe.score.linear_probe import linear_probe as linear_probe
from transferpipe.score.logme import logme as logme
from transferpipe.score.parity import parity as parity
from transferpipe.score.result import Control as Control
from transferpipe.score.result import Score as Score
from transferpipe.score.training.convergence import Trained as Trained
from transferpipe.score.training.convergence import trained_from as trained_from

# Of the lines above, so that each is said once. Modules of this folder become its attributes when they are imported.
__all__ = [k for k, found in list(globals().items()) if k[0] != "_" and not isinstance(found, types.ModuleType)]
