"""Workers that share cores: TensorFlow's idle threads sleep there, and no number is another."""

import json
import subprocess
import sys

import pytest

TRAINS = """
import hashlib, json, sys
from transferpipe.models.building.build import import_keras
from transferpipe.models.idle_threads import share_cores
if sys.argv[1] == "shared":
    share_cores()
keras = import_keras()
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
keras.utils.set_random_seed(0)
layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(8, 3), keras.layers.Flatten(), keras.layers.Dense(3)]
model = keras.Sequential(layers)
model.compile("adam", "mse")
x = np.random.default_rng(0).normal(size=(128, 8, 8, 1))
model.fit(x, np.ones((128, 3)), epochs=2, verbose=0)
digest = hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
sleeping = context.context().config.experimental.disable_thread_spinning
print(json.dumps([sleeping, tf.executing_eagerly(), digest]))
"""


def _train(how):
    ended = subprocess.run([sys.executable, "-c", TRAINS, how], capture_output=True, text=True, check=True)
    return json.loads(ended.stdout)


def test_idle_threads_sleep_where_cores_are_shared_and_train_the_same():
    pytest.importorskip("tensorflow")
    sleeping, eager, digest = _train("shared")
    alone = _train("alone")
    assert (sleeping, eager) == (True, True)
    assert alone == [False, True, digest]
