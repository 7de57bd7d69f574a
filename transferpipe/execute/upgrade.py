"""A file as the target that must be a model: Keras 3 builds its architecture, with the values that the file holds.

The configuration of an older Keras is rewritten as data (`transferpipe.weights.keras.upgrade`), Keras makes layers of
it in safe mode, and the weights are paired, converted and given as in any transfer, from the file into its own
architecture. A file of today is built only where Keras is to change the model: else it is written as it stands.
"""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transferpipe.errors import Problem, RecipeError, UnsafeError
from transferpipe.models.building.build import import_keras
from transferpipe.models.deferred.attempt import DeclaredTooMuchError, check_declared
from transferpipe.models.settings import settings_kept
from transferpipe.models.target import ModelTarget
from transferpipe.planning.model import PlanWarning
from transferpipe.recipe.model import SINGLE, Recipe, Verify
from transferpipe.recipe.outputs import outputs_of
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.keras.setting_values import version_of

# Beside four times the bytes of the file, which may hold its weights in a narrower dtype than they are built in.
_LITTLE = 1 << 26
UPGRADED = "upgraded"
# How Keras says which layer it could not make (`from_config` of keras/src/ops/operation.py).
_OF_LAYER = re.compile(r"class '(\w+)' using config=\{'name': '([^']+)'")


@dataclass
class FileModelTarget(ModelTarget):
    """The model of a file, built by Keras 3, with the values of the file.

    Attributes:
        source: the file.
        notes: what it has otherwise than the old one, and computes as before.
        doubts: what may make it compute something else.
    """

    source: FileSource | None = None
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def origin(self) -> FileSource | None:
        """The file."""
        return self.source


def is_to_build(source: FileSource, recipe: Recipe) -> bool:
    """Tell whether a target must be built of its configuration, and is not written as it stands in its file.

    Where only named tensors are written, no model of an old file is needed. One of today is built for Keras to quantize
    it, but for what layers keep beside their weights, such as vocabularies: no configuration holds that.
    """
    if source.config is None or source.format not in ("h5", "saved_model", "keras"):
        return False
    if _is_of_today(source):
        return bool(recipe.quantize) and not source.assets
    return any(o.has_groups or o.is_model for o in outputs_of((recipe.save.path, *recipe.save.also)))


def _is_of_today(source: FileSource) -> bool:
    version = version_of(source.details.get("keras_version"))
    return source.format == "keras" and (version is None or version >= (3,))


def build_of_file(source: FileSource, label: str, seed: int) -> FileModelTarget:
    """Build the model of a file, which is not compiled, and give it the values that the file holds.

    Args:
        source: the file.
        label: what the recipe calls it.
        seed: of what is drawn on the way.

    Raises:
        RecipeError: it has layers that Keras 3 cannot compute, all of which are named, or weights without a place.
        UnsafeError: its configuration declares far more weights than the file holds.
    """
    if _is_of_today(source):
        config = {key: value for key, value in (source.config or {}).items() if key != "compile_config"}
        target = FileModelTarget(_build(config, source, seed), label, source=source)
    else:
        from transferpipe.weights.keras.upgrade.model import upgrade_model  # which targets of today do not need

        version = source.details.get("keras_version")
        upgraded = upgrade_model(source.config, source.label, version)
        made = f"{label}, {UPGRADED} from Keras {version or 1}"  # from 1.1 on files say which version wrote them
        model = _build(upgraded.config, source, seed)
        target = FileModelTarget(model, made, source=source, notes=upgraded.notes, doubts=upgraded.doubts)
    _fill(target, source)
    return target


def held_in_memory(target: ModelTarget, source: FileSource) -> FileSource:
    """Return a model that was built of a file as the file that it would be saved as."""
    config = json.loads(target.config(()))
    return FileSource(
        source.path,
        source.format,
        target.catalog,
        lambda spec: target.read(spec.name),
        config=config,
        groups=target.groups,
        parts=source.files,
        details={"keras_version": target.keras_version},
    )


def _build(config: Mapping[str, Any], source: FileSource, seed: int) -> Any:
    keras = import_keras()

    def make() -> Any:
        return keras.saving.deserialize_keras_object(copy.deepcopy(config), safe_mode=True)

    try:
        check_declared(keras, make, 4 * source.catalog.nbytes + _LITTLE)
    except DeclaredTooMuchError:
        what = f"its configuration declares far more weights than the {source.catalog.nbytes:,} bytes that lie in it"
        raise UnsafeError(Problem(source.label, what, "the file is damaged: download or save it again")) from None
    with settings_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.utils.set_random_seed(seed)
        try:
            model = make()
            why = "" if model.built else "it does not say the shapes of its inputs"
        except Exception as error:  # anything: the values of arguments are the file's
            reason = str(error).rpartition("Exception encountered: ")[2].partition("config={")[0].strip()
            layers = _OF_LAYER.findall(str(error))  # the last is the innermost
            of_layer = f"layer {layers[-1][1]!r}, a {layers[-1][0]}: " if layers else ""
            model, why = None, f"{of_layer}{type(error).__name__}: {reason}"
    if why:
        fix = "give the Python function that builds the model as the target: target: {_target_: my_module.build}"
        raise RecipeError(Problem(source.label, f"Keras cannot build what its configuration describes: {why}", fix))
    return model


def _fill(target: FileModelTarget, source: FileSource) -> None:
    """Give the model the values of the file, converted as in any transfer."""
    from transferpipe.planning.planner import make_plan
    from transferpipe.planning.reading.read_recipe import read_recipe
    from transferpipe.values.compute import Values

    origins = {"source": {"path": str(source.path)}, "target": {"path": str(source.path)}, "unmatched": "same_name"}
    recipe = read_recipe(origins)
    plan = make_plan(recipe, {SINGLE: source.catalog}, target.structure, {SINGLE: source.label, "target": target.label})
    values = Values(plan, {SINGLE: source}, target, Verify(nonfinite="allow", negative_variance="allow"))
    target.assign({a.target: values.value(a.target) for a in plan.assignments})


def upgrade_warnings(target: object) -> Iterator[PlanWarning]:
    """Yield what may make the model compute something else than the one of old."""
    if isinstance(target, FileModelTarget) and target.source is not None:
        for doubt in target.doubts:
            yield PlanWarning("upgraded", target.source.label, doubt)
