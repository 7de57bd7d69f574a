"""Fixtures for every test."""

import compileall
import copy
import gc
import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from transferpipe.collector import collector_paused

# How long an example takes is a matter of the machine. The suite tries enough of them to notice what breaks; `.ci/run`
# tries many more: `pytest --hypothesis-profile=thorough -m hypothesis`.
settings.register_profile("suite", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=100)
settings.load_profile("suite")
os.environ["COLUMNS"] = "200"  # what is printed is looked for in one line; how it is folded is tested where it is
# Tests leave nothing in the user's caches, and take nothing of an earlier run; those of the caches switch them on.
os.environ["TRANSFERPIPE_NO_CACHE"] = "1"

PASSED = pytest.StashKey[bool]()

# What takes most of the time of all tests in an eighth of them: `pytest` leaves it to `pytest -m long`, and `.ci/run` runs
# both. Everything else is done in five minutes on two cores, so that nobody puts it off. A file that is asked for by its
# name runs whole.
LONG = {
    "whole sweeps": ("cli/sweeps/", "cli/test_cli_settings_kept.py", "sweep/comparing/test_simultaneous.py"),
    "every shipped recipe, run": (
        *("test_shipped_recipes.py", "test_vision_recipes.py", "test_surgery_recipes.py", "test_merge_recipes.py"),
        "test_readme.py::test_the_commands_shown_run",
    ),
    "whole commands, most of which go wrong": (
        *("cli/test_cli_hints.py", "cli/test_cli_bad_models.py", "cli/test_cli_newcomers.py", "cli/test_cli_flags.py"),
        *("test_imports.py", "planning/lint/test_settings.py", "execute/test_suspicious_values.py"),
    ),
    "trainings": (
        *("score/training/", "score/test_finetune.py", "score/test_head_training.py", "cli/test_cli_scores.py"),
        *(
            "score/test_evaluate.py",
            "score/test_feature_scores.py",
            "score/test_source_scores.py",
            "zoo/test_digit_halves.py",
        ),
    ),
    "harnesses, in their short forms": (
        *("reliability/", "faults/", "keras_suite/", "suggest_suite/", "execute/test_killed_and_concurrent.py"),
        *("execute/test_passes.py", "test_other_systems.py", "test_without_keras.py"),
        "api/test_typed_api.py::test_a_type_checker",
        "weights/formats/onnx/test_broken_onnx.py::test_millions_of_fields",
    ),
    "what Keras does with a zoo of models": (
        *("save/writers/test_written_keras.py", "save/test_optimizer_transfer.py", "save/test_optimizer_state.py"),
        *("save/test_optimizer_of_other_files.py", "save/test_exports.py", "cli/test_cli_tf_checkpoint.py"),
        *("weights/formats/test_catalog_zoo_keras.py", "weights/formats/keras/test_names_keras.py"),
        *("weights/formats/keras/test_names_of_every_class.py", "weights/formats/tensorflow/test_tf_written.py"),
        *("weights/formats/keras_legacy/test_legacy_h5_keras.py", "planning/layouts/test_keras_2_conversions.py"),
        *("prove/parity/test_quantized_parity.py", "prove/parity/test_causes.py", "prove/parity/test_parity_files.py"),
        *(
            "prove/parity/test_parity_sources.py",
            "prove/test_learned_state.py",
            "execute/test_silent_failures_freezing.py",
        ),
        *("execute/test_upgraded_target.py", "execute/test_quantize.py", "planning/pairing/test_units.py"),
        *("planning/pairing/test_unit_groups.py", "planning/tables/test_plan_80.py"),
        *(
            "models/deferred/",
            "models/test_backends.py",
            "models/test_idle_threads.py",
            "models/test_loaded_once.py",
            "models/test_repeated_models.py",
        ),
        *(
            "models/test_repeated.py",
            "models/test_live_loading.py",
            "models/test_frozen_parts.py",
            "models/test_lora.py",
        ),
        *("models/test_builds_kept.py", "models/building/test_kept_builders.py"),
    ),
}


def pytest_configure():
    """Compile the package and the tests once, also where Python was told to keep no bytecode.

    There each of the many commands that tests start would compile the package anew, which takes longer than to plan, and
    each worker of each run of pytest the tests. Only from here: what a test writes into its own folder can change within
    the second that bytecode counts in.
    """
    compileall.compile_dir(Path(importlib.util.find_spec("transferpipe").origin).parent, quiet=2)
    sys.dont_write_bytecode = False


@pytest.hookimpl(tryfirst=True)  # before `-m` is asked
def pytest_collection_modifyitems(config, items):
    """Mark what is long, unless it was asked for by its path."""
    here = Path(__file__).parent
    places = tuple(place for group in LONG.values() for place in group)

    def is_long(path, test=""):
        return path.is_relative_to(here) and f"{path.relative_to(here).as_posix()}{test or '/'}".startswith(places)

    asked = [Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args]
    only_short = "not long" in config.option.markexpr
    named = tuple(path for path in asked if only_short and (path.suffix == ".py" or is_long(path)))
    for item in items:
        if is_long(item.path, f"::{item.name}") and not any(item.path.is_relative_to(path) for path in named):
            item.add_marker(pytest.mark.long)


def pytest_collection_finish():
    """Let the garbage collector leave alone what was imported.

    Keras has it run whenever a session is cleared or a layer quantized, and looking through what TensorFlow consists of,
    to find nothing, took a third of the time of the tests that do so. What unfreezes, for a stretch of its own, would bring
    all of it back for the tests that follow; and Python's own 700 new objects before it looks are few for building models.
    """
    sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
    gc.collect()
    with collector_paused():  # freezes what it finds at its end, and remembers that
        pass
    gc.unfreeze = lambda: None
    gc.set_threshold(10_000, 10, 10)
    if "keras" in sys.modules:
        from sound_files import trust_what_keras_saves

        trust_what_keras_saves()


@pytest.fixture(autouse=True, scope="session")
def _configurations_are_parsed_once():
    """Let OmegaConf parse a text once: every command line is composed of the same eight files of Hydra's and ours.

    Reading these again was a third of composing, and composing two thirds of the tests of the command line.
    """
    if importlib.util.find_spec("omegaconf") is None:
        yield
        return
    from omegaconf import OmegaConf

    load, parsed = OmegaConf.load, {}

    def load_once(file):
        if not hasattr(file, "seek"):
            return load(file)
        text = file.read()
        if text not in parsed:
            file.seek(0)  # what cannot be parsed is refused with the file's own name
            config = load(file)
            if len(parsed) == 64:  # those of all command lines come first; recipes of single tests are read on
                return config
            parsed[text] = config
        return copy.deepcopy(parsed[text])

    OmegaConf.load = staticmethod(load_once)
    yield
    OmegaConf.load = staticmethod(load)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each worker one stretch of the tests, and let who is done take from the others.

    What a module sets up is then set up by one worker and not by all.
    """
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getvalue("dist") == "load" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture(autouse=True)
def _marks_are_true(request):
    """Check that a test that is marked with `follows` or `warns` and passes really came by these hints and warnings."""
    marks = {name: {t for m in request.node.iter_markers(name) for t in m.args} for name in ("follows", "warns")}
    if not any(marks.values()):
        yield
        return
    from hint_sites import watch

    with watch() as seen:
        yield
    if request.node.stash.get(PASSED, False):
        assert marks["warns"] <= seen.codes
        if marks["follows"]:
            here = seen.keys() | {f"code: {code}" for code in seen.codes}
            assert marks["follows"] <= here, sorted(here)


@pytest.fixture(autouse=True)
def _rare_collections(monkeypatch):
    """Let Keras leave garbage to Python's own collections.

    It asks for one per weight that it quantizes and per session that is cleared, and each looks through the models of
    all tests before.
    """
    collect = gc.collect

    def collect_for_others(*generation):
        asked_by = sys._getframe(1).f_globals.get("__name__", "")
        return 0 if asked_by.startswith("keras.") else collect(*generation)

    monkeypatch.setattr(gc, "collect", collect_for_others)


@pytest.fixture(autouse=True, scope="module")
def _what_earlier_modules_left_is_not_looked_at():
    """Freeze what is alive between two modules: traced functions, kept models and all that TensorFlow registers.

    It grows with every module, and who asks for a collection, as tests of what stays in memory and builds do, looked
    through all of it each time: behind the trainings a build took six seconds that takes 0.2 s by itself.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_name_scope_stays_open():
    """Check that no name scope of Keras outlives a test: the paths of all later models would begin with it."""
    yield
    if "keras" in sys.modules:
        from keras.src.backend.common import global_state

        still_open = global_state.get_global_attribute("name_scope_stack") or []
        names = [scope.name for scope in still_open]
        still_open.clear()
        assert not names


@pytest.fixture(autouse=True)
def _signals_end_as_they_were():
    """Check that no test leaves a handler of SIGINT or SIGTERM: the tests behind it could not be interrupted."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
        signal.signal(number, handler)
    assert after == before
