"""What a builder may take: weights, layers, time and memory, counted while it builds, or in a child first."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from transferpipe.errors import UnsafeError
from transferpipe.models.building import build as building
from transferpipe.models.building import limits, tried
from transferpipe.models.building.arguments import check_arguments, needs_trial
from transferpipe.models.building.sizes import check_sizes
from transferpipe.recipe.model import Build

ZOO = "transferpipe.zoo"
BERT = {"vocabulary_size": 30_522, "num_layers": 12, "num_heads": 12, "hidden_dim": 768, "intermediate_dim": 3072}
GEMMA = {"vocabulary_size": 256_000, "num_layers": 46, "num_query_heads": 32, "num_key_value_heads": 16,
         "hidden_dim": 4608, "intermediate_dim": 73_728, "head_dim": 128, "sliding_window_size": 4096}  # fmt: skip
RESNET = {
    "stackwise_num_blocks": [3, 30, 48, 8],
    "stackwise_num_filters": [64, 128, 256, 512],
    "image_shape": [224, 224, 3],
}
LLAMA = {"vocabulary_size": 128_256, "num_layers": 126, "hidden_dim": 16_384, "intermediate_dim": 53_248,
         "rope_max_wavelength": 500_000, "rope_theta": 10_000_000, "max_sequence_length": 131_072}  # fmt: skip


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("keras.applications.EfficientNetV2L", {"weights": "imagenet", "input_shape": [480, 480, 3], "classes": 21_843}),
        ("keras.applications.MobileNet", {"alpha": 1.4, "depth_multiplier": 2, "weights": None}),
        ("keras_hub.models.BertBackbone", BERT),
        ("keras_hub.models.GemmaBackbone", GEMMA),
        ("keras_hub.models.LlamaBackbone", LLAMA),
        ("keras_hub.models.ResNetBackbone", RESNET),
        ("keras_hub.models.Backbone.from_preset", {"preset": "gemma2_27b_en", "load_weights": False}),
        (f"{ZOO}.small_cnn", {"filters": [512, 1024], "deeper": True}),
    ],
)  # fmt: skip
def test_published_sizes_are_allowed_and_need_no_trial(target, arguments):
    build = Build(target, arguments, "target")
    check_arguments([build])
    assert not needs_trial(build)


@pytest.mark.parametrize(
    ("target", "key", "value"),
    [
        ("keras_hub.models.BertBackbone", "num_layers", 10**6),
        ("keras_hub.models.ResNetBackbone", "stackwise_num_blocks", [900, 900, 900]),
        ("keras_hub.models.ResNetBackbone", "stackwise_num_filters", [64] * 3000),
        ("keras_hub.models.BertBackbone", "hidden_dim", 10**7),
        ("keras.applications.MobileNet", "alpha", 1e4),
        ("keras.applications.MobileNet", "depth_multiplier", 1000),
        ("keras.applications.MobileNet", "classes", 10**8),
        (f"{ZOO}.small_vit", "depth", 3000),
    ],
)
def test_absurd_sizes_are_refused_by_number(target, key, value):
    with pytest.raises(UnsafeError, match="than any model"):
        check_sizes(Build(target, {key: value}, "target"), key, value, f"target.{key}")


@pytest.mark.follows("check_together: give it smaller arguments")
def test_two_sizes_that_are_possible_alone_are_not_together():
    call = Build("keras_hub.models.BertBackbone", {"vocabulary_size": 9 * 10**7, "hidden_dim": 9 * 10**5}, "target")
    with pytest.raises(UnsafeError, match="900,000"):
        check_arguments([call])
    check_arguments([Build(call.target, {**call.arguments, "hidden_dim": 768}, "target")])


@pytest.mark.follows("check_calls: build the model in")
def test_calls_for_calls_are_bounded():
    inner = Build(f"{ZOO}.small_mlp", {}, "target")
    with pytest.raises(UnsafeError, match="calls 121 builders"):
        check_arguments([Build("my_models.build", {"parts": [inner] * 120}, "target")])
    check_arguments([Build("my_models.build", {"parts": [inner] * 20}, "target")])


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that builds with a module of the user's, which is beside the recipe."""
    pytest.importorskip("keras")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # to which building adds the folder
    (tmp_path / "many_models.py").write_text(
        "import keras\n\ndef build(layers, units=1):\n"
        "    return keras.Sequential([keras.Input((1,)), *(keras.layers.Dense(units) for _ in range(layers))])\n"
    )

    def run(**arguments):
        return building.build_model(Build("many_models.build", arguments, "source"), 0)[0]

    yield run
    sys.modules.pop("many_models", None)  # which lies in another folder the next time


@pytest.mark.follows("_limit_call: give it smaller arguments")
def test_weights_are_counted_while_a_model_is_built(own, monkeypatch):
    assert own(layers=9).count_params() == 18
    monkeypatch.setattr(limits, "MOST_WEIGHTS", 12)
    with pytest.raises(UnsafeError, match="more than 12 weights"):
        own(layers=9)
    assert own(layers=6).count_params() == 12
    monkeypatch.setattr(building, "memory_of_machine", lambda: 1000)
    with pytest.raises(UnsafeError, match="more than 1,000 bytes of weights"):
        own(layers=3, units=20)
    assert own(layers=3, units=2).count_params() == 4 + 6 + 6


def test_calls_of_layers_and_time_are_counted(own, monkeypatch):
    monkeypatch.setattr(limits, "MOST_CALLS", 5)
    with pytest.raises(UnsafeError, match="calls layers more than 5 times"):
        own(layers=9)
    monkeypatch.undo()
    left = limits.Limits(1 << 40, seconds=0.01)
    with pytest.raises(limits.OverLimitError, match="processor time"):
        while True:
            left.note_call()


def test_what_a_builder_swallows_is_raised_at_its_end():
    keras = pytest.importorskip("keras")
    left = limits.Limits(100)
    with pytest.raises(limits.OverLimitError, match="100 bytes"), limits.counted(keras, left):
        try:
            keras.layers.Dense(50).build((1, 50))
        except BaseException:
            left.start_over()  # whatever comes, this builder goes on


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the system does not say what a process has")
def test_memory_is_limited_and_the_limit_is_lifted():
    import numpy as np

    with pytest.raises(MemoryError), limits.memory_limited(1 << 28):
        np.ones(1 << 27)
    assert np.ones(1 << 26).nbytes == 1 << 29


@pytest.mark.follows("call: give it smaller arguments")
def test_a_table_that_does_not_fit_into_memory_is_refused(monkeypatch):
    pytest.importorskip("keras")

    def table(hidden):
        """Compute a table, as builders of libraries do for positions."""
        if hidden > 1000:
            raise MemoryError
        return hidden

    monkeypatch.setattr(building, "resolve", lambda *_: table)
    with pytest.raises(UnsafeError, match="more memory than a builder may"):
        building.call(Build(f"{ZOO}.small_mlp", {"hidden": 2000}, "target"))
    assert building.call(Build(f"{ZOO}.small_mlp", {"hidden": 20}, "target")) == 20


@pytest.fixture
def trial(monkeypatch):
    """Return a function that tries a call of the zoo in a child, with little memory and time."""
    pytest.importorskip("keras")
    monkeypatch.setattr(tried, "memory_of_machine", lambda: 1 << 20)
    monkeypatch.setattr(tried, "_SECONDS", 4)

    def run(name, **arguments):
        tried.try_in_child(Build(f"{ZOO}.{name}", arguments, "target"), f"{name} {arguments}")

    return run


@pytest.mark.long
@pytest.mark.follows("try_in_child: give it smaller arguments")
def test_a_call_of_unusual_size_is_tried_in_a_child(trial):
    with pytest.raises(UnsafeError, match="small_mlp would make more than 1,048,576 bytes of weights"):
        trial("small_mlp", hidden=400_000)
    trial("small_mlp", hidden=4)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os.abort()", "SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "processor time"),
        ("print('\\n\"takes too much\"', end='')", "takes too much"),
    ],
)
def test_whatever_ends_the_child_refuses_the_call(program, said, monkeypatch):
    monkeypatch.setattr(tried, "_PROGRAM", program)
    with pytest.raises(UnsafeError, match=said):
        tried.try_in_child(Build(f"{ZOO}.small_mlp", {}, "target"), f"ended by {program}")


def test_ctrl_c_ends_the_child(monkeypatch, tmp_path):
    place = tmp_path / "pid"
    waiting = f"import os, time; open({str(place)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    monkeypatch.setattr(tried, "_PROGRAM", waiting)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has it ignored

    def interrupt():
        until = time.monotonic() + 20
        while not (place.exists() and place.read_text()) and time.monotonic() < until:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            tried.try_in_child(Build(f"{ZOO}.small_mlp", {}, "target"), "waits")
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(place.read_text()), 0)


def test_a_child_finds_modules_where_this_process_does(tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the folder was imported')")
    request = f"{json.dumps(sys.path)}\n{json.dumps([{'_call_': 'no.such', 'where': '', 'arguments': {}}, 1, 1])}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", tried._PROGRAM.replace("be_child()", "print(tried_of(be_child))").replace(
            "import be_child", "import be_child; tried_of = lambda f: f.__module__")],
        input=request, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip() == "transferpipe.models.building.tried", done.stderr
