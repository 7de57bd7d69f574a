"""How TensorFlow's threads wait for work where several processes share the cores of one machine.

They spin for a while before they sleep, which spares a lone process the time to wake them. Two processes that train
small convolutions on two cores take a sixth to a quarter of each other's time so; two that train a head alone nothing
that could be measured. How a thread waits changes no number, unlike how many of them there are.
"""

from __future__ import annotations

import sys
from typing import Any

_SHARED: list[None] = []  # an entry once this process was said to share its cores


def share_cores() -> None:
    """Say that other processes compute on the same cores, before TensorFlow is imported."""
    _SHARED.append(None)


def cores_are_shared() -> bool:
    """Tell whether idle threads are to sleep, and it is not too late: TensorFlow reads that as it starts."""
    return bool(_SHARED) and "tensorflow" not in sys.modules


def let_idle_threads_sleep(tf: Any) -> None:
    """Start TensorFlow with threads that sleep when they have nothing to do; just after it was imported.

    `tf.config` has no setting for it; it is read where eager execution is switched on.
    """
    config = tf.compat.v1.ConfigProto()
    config.experimental.disable_thread_spinning = True
    tf.compat.v1.disable_eager_execution()
    tf.compat.v1.enable_eager_execution(config)
