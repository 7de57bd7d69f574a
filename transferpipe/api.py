"""The same as the command line does, from Python, on files, builders and live models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transferpipe.differences.compare import compare
from transferpipe.differences.result import Diff
from transferpipe.execute.live import check_ahead, transfer_live
from transferpipe.execute.open_recipe import open_recipe
from transferpipe.execute.prepare import prepare_opened
from transferpipe.execute.propose import propose
from transferpipe.execute.run import Report, execute
from transferpipe.fetch.open_path import open_path
from transferpipe.models.opened import Prepared
from transferpipe.models.source import live_model
from transferpipe.planning.model import Plan
from transferpipe.planning.read_recipe import read_comparison, read_recipe
from transferpipe.planning.suggest.suggestion import Suggestion
from transferpipe.prove.parity.result import Parity
from transferpipe.prove.parity.two import Settings, compare_models
from transferpipe.prove.provenance import Request, recipe_text
from transferpipe.recipe.model import LIVE
from transferpipe.weights.spec import Catalog


def catalog(source: Any, select: str | None = None) -> Catalog:
    """Return the names, shapes and dtypes of a file's or model's weights.

    Args:
        source: a path, or a built `keras.Model`.
        select: keys on the way to the part of the file that is wanted, as under `source:` in a recipe.

    Raises:
        FileError: the file cannot be read.
        RecipeError: two weights get one name.
    """
    if isinstance(source, str | Path):
        return open_path(str(source), "source", select=select).catalog
    return live_model(source, "model").catalog


def plan(source: Any, target: Any, **recipe: Any) -> Plan:
    """Return the plan without changing or writing anything; print it, or look at it in a notebook.

    Args:
        source: where weights come from: a path, a built `keras.Model`, a mapping as under `source:` in a recipe, a
            mapping of names to those for several sources, or None.
        target: where they go: a path, a built `keras.Model`, or a mapping as under `target:`.
        **recipe: the other keys of a recipe: mapping, unmatched, unused, ignore, edit, freeze, verify, seed, expect.

    Raises:
        RecipeError: with all problems of the recipe or of the plan.
    """
    return _prepare(*_written(source, target, recipe)).plan


def diff(
    a: Any,
    b: Any,
    mapping: Mapping[str, Any] | None = None,
    *,
    unmatched: str = "same_name_or_keep",
    ignore: Sequence[str] = (),
) -> Diff:
    """Compare two sets of weights, weight by weight, and return how `b` differs from `a`; print it to see the table.

    Equal means the same bits. Values are read in small parts, one weight at a time.

    >>> import numpy as np
    >>> import transferpipe as tp
    >>> np.savez("before.npz", **{"head/kernel": np.zeros((2, 3), "float32"), "head/bias": np.ones(3, "float32")})
    >>> np.savez("after.npz", **{"head/kernel": np.eye(2, 3, dtype="float32"), "head/bias": np.ones(3, "float32")})
    >>> found = tp.diff("before.npz", "after.npz")
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

    Raises:
        RecipeError: the mapping is wrong, or a builder raises.
        FileError, UnsafeError: one of the two cannot be read, or asks for more than data may ask for.
    """
    models: dict[str, Any] = {}
    sides = _origin(a, "source", models), _origin(b, "target", models)
    data = {"mapping": _plain(mapping or {}), "unmatched": unmatched, "ignore": list(ignore)}
    return compare(read_comparison(*sides, data), live=models)


def parity(original: Any, model: Any, *, mapping: Mapping[str, Any] | None = None, **settings: Any) -> Parity:
    """Run two models on one input and return where they part, layer by layer; print it to see the table.

    Args:
        original: the one that is right: a path (`.keras`, legacy `.h5`, SavedModel, ONNX) or a built `keras.Model`.
        model: the one that is judged: the same.
        mapping: rules as in a recipe, that pair layers of `model` (`to`) with those of `original` (`from`); left out,
            layers of one name belong together.
        **settings: `inputs` (an npz file, or arrays by the inputs' names; random ones if left out), `atol`, `rtol` and
            `seed`.

    Raises:
        RecipeError: one of them holds weights without a model, the inputs are none of the model's, or the mapping is
            wrong.
        FileError, UnsafeError: a file cannot be read, or holds code.
    """
    plain: dict[str, Any] = {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()}
    chosen = Settings(**plain)
    given = {"mapping": mapping, "unmatched": "keep"}
    pairs = _prepare(*_written(original, model, given)).plan if mapping else None
    return compare_models(original, model, chosen, pairs)


def suggest(source: Any, target: Any, *, hints: Mapping[str, str | None] | None = None) -> Suggestion:
    """Propose a mapping between two models or files; print it to see the rules as YAML, with their reasons.

    Nothing is applied. The rules are planned, and `suggestion.mapping` goes into `plan` or `transfer` as it is.

    Args:
        source: where weights come from: a path, a built `keras.Model`, or a mapping as under `source:` in a recipe.
        target: where they go: the same.
        hints: pairs that are known: the name of a layer or weight of the target, or a pattern, and the source's name,
            or a template; None keeps what the target has.

    Raises:
        RecipeError: a hint names what is not there, or pairs what cannot be paired.
        FileError, UnsafeError: a file cannot be read, or holds code.
    """
    models: dict[str, Any] = {}
    origins = {"source": _origin(source, "source", models), "target": _origin(target, "target", models)}
    return propose(origins, hints or {}, live=models)


def transfer(source: Any, target: Any, *, folder: str | Path | None = None, **recipe: Any) -> Report:
    """Carry out a transfer and return the report.

    A live model as the target is changed only after every value has been computed and checked, and only as a whole: if
    anything fails it is what it was. With `save` (or with a target that is not a live model) the result is also
    written, and proved, in `folder` (the working directory if left out).

    Args:
        source: as for `plan`.
        target: as for `plan`.
        folder: where `save` is relative to.
        **recipe: as for `plan`, and `save`.

    Raises:
        RecipeError: with all problems of the recipe or of the plan.
        VerificationError: a value was refused, or the result is not what the plan says.
        FileError: something cannot be read or written.
    """
    live = not isinstance(target, str | Path | Mapping)
    data, models = _written(source, target, recipe)
    prepared = _prepare(data, models)
    report = None
    if live:
        check_ahead(prepared)  # what a strict recipe refuses, it refuses before anything is written
    if recipe.get("save") is not None or not live:
        request = Request(None, recipe_text(data))
        report = execute(prepared, Path(folder) if folder is not None else Path(), None, request)
    if not live:
        assert report is not None
        return report
    return transfer_live(prepared, report)


def _written(source: Any, target: Any, recipe: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the recipe as plain data, and the live models that it names."""
    models: dict[str, Any] = {}
    data: dict[str, Any] = {k: _plain(v) for k, v in recipe.items()}
    several = isinstance(source, Mapping) and "path" not in source and "_target_" not in source
    if several:
        data["sources"] = {str(k): _origin(v, str(k), models) for k, v in source.items()}
    elif source is not None:
        data["source"] = _origin(source, "source", models)
    data["target"] = _origin(target, "target", models)
    return data, models


def _prepare(data: Mapping[str, Any], models: Mapping[str, Any]) -> Prepared:
    parsed = read_recipe(data, absolute_save=True)
    saves = "target" not in models or data.get("save") is not None
    return prepare_opened(parsed, open_recipe(parsed, live=models), saves)


def _origin(value: Any, name: str, models: dict[str, Any]) -> Any:
    """Return what stands in the recipe for `value`; a live model goes into `models` under its name."""
    if isinstance(value, Mapping) and not isinstance(value.get("path", ""), str | Path):  # a live model
        models[name] = value["path"]
        return {**_plain({k: v for k, v in value.items() if k != "path"}), "path": f"{LIVE}{name}"}
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, str | Path):
        return {"path": str(value)}
    models[name] = value
    return {"path": f"{LIVE}{name}"}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
