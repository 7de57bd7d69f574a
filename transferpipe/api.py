"""The same as the command line does, from Python, on files, builders and live models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from transferpipe.differences.compare import compare
from transferpipe.differences.result import Diff
from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.live import check_ahead, transfer_live
from transferpipe.execute.open_recipe import open_recipe
from transferpipe.execute.prepare import prepare_opened
from transferpipe.execute.propose import propose
from transferpipe.execute.run import Report, execute
from transferpipe.fetch.open_path import open_path
from transferpipe.models.opened import Prepared
from transferpipe.models.source import live_model
from transferpipe.planning.advice.user_warnings import warn_caller
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_recipe import read_comparison, read_recipe
from transferpipe.planning.suggest.suggestion import Suggestion
from transferpipe.prove.parity.result import Parity
from transferpipe.prove.parity.two import ParitySettings, compare_models
from transferpipe.prove.provenance import Request, recipe_text
from transferpipe.prove.run_folder import RunProof, verify_run
from transferpipe.recipe.keys import RECIPE, SECTIONS
from transferpipe.recipe.keywords import Edits, KerasModel, Origin, PathText, Rules, SaveKeys, VerifyKeys
from transferpipe.recipe.model import LIVE, OptimizerChoice, QuantizeChoice, StateChoice, Unmatched
from transferpipe.show.inspection import Inspection, inspect_source
from transferpipe.show.sweeps.sweep_results import SweepResults, frame_of, read_results
from transferpipe.weights.spec import Catalog

if TYPE_CHECKING:
    from pandas import DataFrame
else:
    DataFrame = object  # an extra, which is not imported before it is used; who asks for the types gets an answer


def catalog(source: PathText | KerasModel, select: str | None = None, *, format: str | None = None) -> Catalog:
    """Return the names, shapes and dtypes of a file's or model's weights. No value is read.

    >>> import numpy as np
    >>> import transferpipe as tp
    >>> np.savez("trunk.npz", **{"conv/kernel": np.ones((3, 3, 1, 8), "float32"), "conv/bias": np.zeros(8, "float32")})
    >>> found = tp.catalog("trunk.npz")
    >>> found
    <Catalog trunk.npz: 2 weights, 80 parameters>
    >>> [(weight.name, weight.shape, weight.dtype) for weight in found]
    [('conv/kernel', (3, 3, 1, 8), 'float32'), ('conv/bias', (8,), 'float32')]

    Args:
        source: a path or an address of a file, or a built `keras.Model`.
        select: keys on the way to the part of the file that is wanted, as under `source:` in a recipe.
        format: the file's format, where its content does not show it.

    Returns:
        The weights in order; look one up by its name, or print it to see them all.

    Raises:
        FileError, UnsafeError: the file cannot be read, or holds code.
        RecipeError: two weights get one name, or it is neither a path nor a built model.
    """
    if isinstance(source, str | os.PathLike):
        return open_path(os.fspath(source), "source", format, select).catalog
    return live_model(source, "model").catalog


def plan(  # noqa: PLR0913 (a keyword is a key of a recipe)
    source: Origin | Mapping[str, Origin] | None,
    target: Origin,
    *,
    mapping: Rules | None = None,
    unmatched: Unmatched = "error",
    unused: Literal["report", "error"] = "report",
    ignore: str | Sequence[str] = (),
    edit: Edits | None = None,
    freeze: str | Sequence[str] = (),
    save: PathText | SaveKeys | Mapping[str, Any] | None = None,
    verify: VerifyKeys | Mapping[str, Any] | None = None,
    strict: bool = False,
    allow: str | Sequence[str] = (),
    quantize: QuantizeChoice | None = None,
    optimizer: OptimizerChoice = "auto",
    state: StateChoice = "take",
    reverse: bool = False,
    seed: int = 0,
    expect: str | None = None,
    name: str | None = None,
) -> Plan:
    r"""Return the plan without changing or writing anything; print it, or look at it in a notebook.

    >>> import numpy as np
    >>> import transferpipe as tp
    >>> np.savez("old.npz", **{"enc/kernel": np.ones((4, 2), "float32"), "enc/bias": np.ones(2, "float32")})
    >>> np.savez("new.npz", **{"trunk/enc/kernel": np.zeros((4, 2), "float32"), "head": np.zeros(3, "float32")})
    >>> rules = {"trunk": {"to": "trunk/(.*)", "from": r"\1"}, "head": {"to": "head", "from": None}}
    >>> tp.plan("old.npz", "new.npz", mapping=rules, ignore="enc/bias", save="out.npz")
    <Plan pf8d6433a36c: 1 assigned, 1 kept, 0 warnings>

    Args:
        source: where weights come from: a path, a built `keras.Model`, a mapping as under `source:` in a recipe, a
            mapping of names to those for several sources, or None.
        target: where they go: a path, a built `keras.Model`, or a mapping as under `target:`.
        mapping: the rules by name: `to` is a pattern over target names, `from` a template of source names, or None
            to keep what the target has; see `transferpipe help recipe`.
        unmatched: what becomes of target weights that no rule claims.
        unused: whether source weights that nothing takes are an error.
        ignore: patterns of source weights that are expected to stay unused.
        edit: changes of single elements, after the mapping.
        freeze: patterns of target layers to freeze; ``transferred`` is all whose weights came from a source as a whole.
        save: the file to write, or a mapping as under `save:`.
        verify: how strictly the result is verified: `reload`, `nonfinite`, `negative_variance`, `parity`.
        strict: whether warnings are errors.
        allow: codes of warnings that pass all the same.
        quantize: how Keras quantizes the finished model, such as ``int8``.
        optimizer: what becomes of an optimizer's state.
        state: whether what lookup layers learned comes along.
        reverse: whether the weights of the target go into the tensors of the source file, which is written anew.
        seed: fixes every fresh weight.
        expect: the checksum of the only plan that is accepted.
        name: what the plan is called.

    Returns:
        The fate of every weight on both sides.

    Raises:
        RecipeError: with all problems of the recipe or of the plan.
        FileError, UnsafeError: a file cannot be read, or asks for more than data may ask for.

    Warns:
        TransferWarning: for each kind of legal but probably wrong thing; see `transferpipe help python`.
    """
    recipe = dict(locals())  # first, so that it holds the arguments and nothing else
    planned = _prepare(*_write_recipe(source, target, recipe)).plan
    warn_caller()(planned.warnings)
    return planned


def transfer(  # noqa: PLR0913 (a keyword is a key of a recipe)
    source: Origin | Mapping[str, Origin] | None,
    target: Origin,
    *,
    folder: PathText | None = None,
    mapping: Rules | None = None,
    unmatched: Unmatched = "error",
    unused: Literal["report", "error"] = "report",
    ignore: str | Sequence[str] = (),
    edit: Edits | None = None,
    freeze: str | Sequence[str] = (),
    save: PathText | SaveKeys | Mapping[str, Any] | None = None,
    verify: VerifyKeys | Mapping[str, Any] | None = None,
    strict: bool = False,
    allow: str | Sequence[str] = (),
    quantize: QuantizeChoice | None = None,
    optimizer: OptimizerChoice = "auto",
    state: StateChoice = "take",
    reverse: bool = False,
    seed: int = 0,
    expect: str | None = None,
    name: str | None = None,
) -> Report:
    """Carry out a transfer and return the report.

    A live model as the target is changed only after every value has been computed and checked, and only as a whole: if
    anything fails, a warning that is an error included, it is what it was. With `save` (or with a target that is not a
    live model) the result is also written, and verified, in `folder`.

    >>> import numpy as np
    >>> import transferpipe as tp
    >>> np.savez("trained.npz", **{"enc/kernel": np.full((4, 2), 0.5, "float32")})
    >>> np.savez("fresh.npz", **{"enc/kernel": np.zeros((4, 2), "float32"), "head": np.zeros(3, "float32")})
    >>> rules = {"trunk": {"to": "enc"}, "head": {"to": "head", "from": None}}
    >>> report = tp.transfer("trained.npz", "fresh.npz", mapping=rules, save="result.npz", folder="run")
    >>> report.verdict.weights, len(report.plan.assignments), report.artifacts[0].name
    ('pass', 1, 'result.npz')
    >>> float(np.load("run/result.npz")["enc/kernel"].sum())
    4.0

    Args:
        source: as for `plan`.
        target: as for `plan`.
        folder: where `save` is relative to; the working directory if left out.
        mapping: as for `plan`, like all that follow.
        unmatched: what becomes of target weights that no rule claims.
        unused: whether source weights that nothing takes are an error.
        ignore: patterns of source weights that are expected to stay unused.
        edit: changes of single elements, after the mapping.
        freeze: patterns of target layers to freeze.
        save: the file to write, or a mapping as under `save:`; ``model.keras`` where it is left out and the target is
            not a live model.
        verify: how strictly the result is verified.
        strict: whether warnings are errors.
        allow: codes of warnings that pass all the same.
        quantize: how Keras quantizes the finished model.
        optimizer: what becomes of an optimizer's state.
        state: whether what lookup layers learned comes along.
        reverse: whether the weights of the target go into the tensors of the source file, which is written anew.
        seed: fixes every fresh weight.
        expect: the checksum of the only plan that is accepted.
        name: what the run is called.

    Returns:
        The plan, what was verified, what was written, and all warnings; print it to see them.

    Raises:
        RecipeError: with all problems of the recipe or of the plan.
        VerificationError: a value was refused, or the result is not what the plan says.
        FileError: something cannot be read or written.

    Warns:
        TransferWarning: as `plan` does, before anything is changed or published, and of what only values show.
    """
    recipe = dict(locals())
    live, give = not reverse and not isinstance(target, str | os.PathLike | Mapping), warn_caller()
    data, models = _write_recipe(source, target, recipe)
    prepared = _prepare(data, models)
    ahead = check_ahead(prepared) if live else ()  # what a strict recipe refuses, it refuses before anything is written
    give((*prepared.plan.warnings, *ahead))
    report = None
    if save is not None or not live:
        request = Request(None, recipe_text(data))
        report = execute(prepared, Path(folder) if folder is not None else Path(), None, request, give)
    if not live:
        assert report is not None
        return report
    return transfer_live(prepared, report, give)


def diff(
    a: Origin,
    b: Origin,
    mapping: Rules | None = None,
    *,
    unmatched: Unmatched = "same_name_or_keep",
    ignore: str | Sequence[str] = (),
) -> Diff:
    """Compare two sets of weights, weight by weight, and return how `b` differs from `a`; print it to see the table.

    Equal means the same bits. Values are read in small parts, one weight at a time.

    >>> import numpy as np
    >>> import transferpipe as tp
    >>> np.savez("before.npz", **{"head/kernel": np.zeros((2, 3), "float32"), "head/bias": np.ones(3, "float32")})
    >>> np.savez("after.npz", **{"head/kernel": np.eye(2, 3, dtype="float32"), "head/bias": np.ones(3, "float32")})
    >>> found = tp.diff("before.npz", "after.npz")
    >>> found
    <Diff before.npz, after.npz: 1 changed, 1 equal>
    >>> found.equal, [(row.name, row.status) for row in found.rows]
    (False, [('head/kernel', 'changed'), ('head/bias', 'equal')])
    >>> found.rows[0].values.largest, found.rows[0].values.index
    (1.0, (0, 0))

    Args:
        a: a path, a built `keras.Model`, or a mapping as under `source:` in a recipe (`path` with `layout`, `select`
            or `format`; or `_target_` with the arguments of a builder).
        b: the same.
        mapping: rules as in a recipe, that pair weights of `b` (`to`) with those of `a` (`from`) and transform them;
            left out, weights of one name belong together, also where one file has another framework's names and axes.
        unmatched: what becomes of weights of `b` that no rule claims: they are compared by name where `a` has the
            name, or with ``keep`` left out.
        ignore: patterns of weights of `a` that are left out if nothing takes them.

    Returns:
        A row for each weight of both, and the settings that differ; it is true where both are equal.

    Raises:
        RecipeError: the mapping is wrong, or a builder raises.
        FileError, UnsafeError: one of the two cannot be read, or asks for more than data may ask for.
    """
    models: dict[str, Any] = {}
    sides = _origin(a, "source", models), _origin(b, "target", models)
    data = {"mapping": _plain(mapping or {}), "unmatched": unmatched, "ignore": _plain(ignore)}
    return compare(read_comparison(*sides, data), live=models)


def inspect(  # noqa: PLR0913 (a keyword is a question)
    path: PathText,
    *,
    match: str | None = None,
    stats: bool = False,
    others: bool = False,
    select: str | None = None,
    format: str | None = None,
) -> Inspection:
    """Look into a file: its weights, layers and settings, what else it holds, what its numbers are like.

    >>> import numpy as np
    >>> import transferpipe as tp
    >>> np.savez("looked_at.npz", **{"fc/kernel": np.eye(4, 2, dtype="float32"), "fc/bias": np.ones(2, "float32")})
    >>> found = tp.inspect("looked_at.npz", match="fc/kernel", stats=True)
    >>> found
    <Inspection looked_at.npz (npz): 1 weight, 8 parameters>
    >>> found.stats["fc/kernel"].mean, found.stats["fc/kernel"].zeros
    (0.25, 0.75)

    Args:
        path: a path or an address of a file.
        match: a pattern of names of layers or weights, which chooses a part.
        stats: whether the values are read, once and in small parts, for their statistics.
        others: whether entries that are not weights are listed, too.
        select: keys on the way to the part of the file that is wanted, as under `source:` in a recipe.
        format: the file's format, where its content does not show it.

    Returns:
        What was found; print it to see the table, or its `tree()`.

    Raises:
        FileError, UnsafeError: the file cannot be read, or holds code.
        RecipeError: nothing is called as the pattern says.
    """
    if not isinstance(path, str | os.PathLike):
        what = f"is of the type {type(path).__name__}, and no path"
        raise RecipeError(Problem("path", what, "tp.catalog(model) lists the weights of a model"))
    return inspect_source(open_path(os.fspath(path), "inspect", format, select), match, stats, others)


def parity(  # noqa: PLR0913 (a keyword is a key of a recipe)
    original: PathText | KerasModel,
    model: PathText | KerasModel,
    *,
    mapping: Rules | None = None,
    inputs: PathText | Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]] | NDArray[Any] | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
) -> Parity:
    """Run two models on one input and return where they part, layer by layer; print it to see the table.

    >>> import keras
    >>> import transferpipe as tp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="fc")])
    >>> tp.parity(model, keras.models.clone_model(model)).verdict  # which has other weights
    'fail'
    >>> tp.parity(model, model).verdict
    'pass'

    Args:
        original: the one that is right: a path (`.keras`, legacy `.h5`, SavedModel, ONNX) or a built `keras.Model`.
        model: the one that is judged: the same.
        mapping: rules as in a recipe, that pair layers of `model` (`to`) with those of `original` (`from`); left out,
            layers of one name belong together.
        inputs: an npz file, or arrays by the inputs' names, an array or several in the order of the inputs, with the
            batch as their first axis; random ones if left out.
        atol: the largest difference allowed, in the units of the output; from the dtypes and the depth if left out.
        rtol: the same as a part of the expected value.
        seed: of random inputs.

    Returns:
        The verdict, the first layer that differs, and the likely cause.

    Raises:
        RecipeError: one of them holds weights without a model, the inputs are none of the model's, or the mapping is
            wrong.
        FileError, UnsafeError: a file cannot be read, or holds code.
    """
    given: str | Mapping[str, NDArray[Any]] | None
    if isinstance(inputs, str | os.PathLike):
        given = os.fspath(inputs)
    elif inputs is None or isinstance(inputs, Mapping):
        given = inputs
    else:  # as `numpy.savez` names what has no name
        arrays = inputs if isinstance(inputs, list | tuple) else [inputs]
        given = {f"arr_{k}": np.asarray(array) for k, array in enumerate(arrays)}
    rules = {"mapping": mapping, "unmatched": "keep"}
    pairs = _prepare(*_write_recipe(original, model, rules)).plan if mapping else None
    return compare_models(original, model, ParitySettings(given, atol, rtol, seed), pairs)


def suggest(source: Origin, target: Origin, *, hints: Mapping[str, str | None] | None = None) -> Suggestion:
    r"""Propose a mapping between two models or files; print it to see the rules as YAML, with their reasons.

    Nothing is applied. The rules are planned, and `suggestion.mapping` goes into `plan` or `transfer` as it is.

    >>> import numpy as np
    >>> import transferpipe as tp
    >>> shapes = {"kernel": (4, 4), "bias": (4,)}
    >>> np.savez("theirs.npz", **{f"enc/dense_{i}/{k}": np.ones(s) for i in range(3) for k, s in shapes.items()})
    >>> np.savez("ours.npz", **{f"trunk/fc{i}/{k}": np.zeros(s) for i in range(3) for k, s in shapes.items()})
    >>> suggestion = tp.suggest("theirs.npz", "ours.npz")
    >>> suggestion
    <Suggestion: 1 rule for 6 weights, 0 undecided>

    Args:
        source: where weights come from: a path, a built `keras.Model`, or a mapping as under `source:` in a recipe.
        target: where they go: the same.
        hints: pairs that are known: the name of a layer or weight of the target, or a pattern, and the source's name,
            or a template; None keeps what the target has.

    Returns:
        The rules with what speaks for and against them, and what is left to you.

    Raises:
        RecipeError: a hint names what is not there, or pairs what cannot be paired.
        FileError, UnsafeError: a file cannot be read, or holds code.
    """
    models: dict[str, Any] = {}
    origins = {"source": _origin(source, "source", models), "target": _origin(target, "target", models)}
    return propose(origins, hints or {}, live=models)


def verify(folder: PathText, *, outside: bool = False) -> RunProof:
    """Verify a finished run again, from what it left in its folder; Keras is not needed.

    >>> import numpy as np
    >>> import transferpipe as tp
    >>> np.savez("a.npz", **{"fc/kernel": np.ones((4, 2), "float32")})
    >>> np.savez("b.npz", **{"fc/kernel": np.zeros((4, 2), "float32")})
    >>> _ = tp.transfer("a.npz", "b.npz", mapping={"all": {"to": ".*"}}, save="c.npz", folder="finished")
    >>> tp.verify("finished").verdict.weights
    'pass'

    Args:
        folder: the run folder, with `manifest.json`.
        outside: whether to read artifacts too that the run saved outside of its folder.

    Returns:
        The verdict, what it rests on, and notes on what could not be verified: ``inconclusive`` where something that
        is needed is no longer there.

    Raises:
        FileError: the folder is not that of a run, or an artifact is missing.
        UnsafeError: an artifact lies outside of the folder, and `outside` does not say that it may.
        VerificationError: something differs from what the run left.
    """
    return verify_run(Path(folder), outside=outside)


def read_sweep(folder: PathText) -> DataFrame:
    """Return a sweep as a pandas DataFrame with a row a variant, also while it runs; `rank_sweep` needs no pandas.

    Its columns are those of ``sweep.csv``: what differs between the variants, seed, status, score, spread, epochs,
    trainable parameters, seconds, notes. What is written as a number is one.

    >>> import transferpipe as tp
    >>> try:
    ...     variants = tp.read_sweep(".")
    ... except tp.RecipeError as error:
    ...     print(error.problems[0].what)
    holds no sweep.json, so it is not the folder of a sweep

    Args:
        folder: the folder that `transferpipe sweep` printed.

    Returns:
        The variants in the order in which the sweep has them, and after them those that could not be planned.

    Raises:
        RecipeError: the folder is not that of a sweep.
        FileError: it does not exist, or its files are damaged.
        MissingPackageError: pandas is not installed.
    """
    return frame_of(read_results(Path(folder)).record)


def rank_sweep(folder: PathText) -> SweepResults:
    """Return the ranked rows of a sweep, also of one that runs; print them to see the table.

    >>> import transferpipe as tp
    >>> try:
    ...     sweep = tp.rank_sweep(".")
    ... except tp.RecipeError as error:
    ...     print(error.problems[0].what)
    holds no sweep.json, so it is not the folder of a sweep

    Args:
        folder: the folder that `transferpipe sweep` printed.

    Returns:
        The rows, the best first, and the variants that they are made of.

    Raises:
        RecipeError: the folder is not that of a sweep.
        FileError: it does not exist, or its files are damaged.
    """
    return read_results(Path(folder))


_NOT_OF_RECIPES = ("source", "target", "folder")


def _write_recipe(source: Any, target: Any, recipe: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the recipe as plain data, without what is as it is anyway, and the live models that it names."""
    models: dict[str, Any] = {}
    data = {k: _plain(v) for k, v in recipe.items() if v is not None and k not in _NOT_OF_RECIPES}
    data = {k: v for k, v in data.items() if v != SECTIONS[RECIPE][k].default}
    several = isinstance(source, Mapping) and "path" not in source and "_target_" not in source
    if several:
        data["sources"] = {str(k): _origin(v, str(k), models) for k, v in source.items()}
    elif source is not None:
        data["source"] = _origin(source, "source", models)
    data["target"] = _origin(target, "target", models)
    return data, models


def _prepare(data: Mapping[str, Any], models: Mapping[str, Any]) -> Prepared:
    parsed = read_recipe(data, absolute_save=True)
    saves = "target" not in models or "save" in data or parsed.reverse
    return prepare_opened(parsed, open_recipe(parsed, live=models), saves)


def _origin(value: Any, name: str, models: dict[str, Any]) -> Any:
    """Return what stands in the recipe for `value`; a live model goes into `models` under its name."""
    if isinstance(value, Mapping) and not isinstance(value.get("path", ""), str | os.PathLike):  # a live model
        models[name] = value["path"]
        return {**_plain({k: v for k, v in value.items() if k != "path"}), "path": f"{LIVE}{name}"}
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, str | os.PathLike):
        return {"path": os.fspath(value)}
    models[name] = value
    return {"path": f"{LIVE}{name}"}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
