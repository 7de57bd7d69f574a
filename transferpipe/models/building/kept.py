"""What pure builders made before, used again without importing Keras: a structure, and what was asked of the model.

Building takes seconds, most of them to import Keras; and a run takes of its target a structure, a configuration, and
the few values that it keeps. Those are kept, as the model gave them. Whatever else is asked for (a model to load, to
run, to export) builds the model then, as ever: so nothing that is kept decides anything but how soon it is there.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.files.private_cache import PrivateCache
from transferpipe.models.building.records import from_plain, to_plain
from transferpipe.models.keras_private import layers_in
from transferpipe.models.target import ModelTarget, Target, is_worth_loading
from transferpipe.models.unrecorded import find_left_out
from transferpipe.models.walk import Walked
from transferpipe.planning.structure import TargetStructure
from transferpipe.weights.file_source import SavedGroup
from transferpipe.weights.spec import Catalog, numpy_dtype

# A structure has some hundred kB; heads some MB. What is larger than the values here, and so would be slower to read
# than to draw, is drawn again.
_CACHE = PrivateCache("built", 128, 128 << 20)
_MOST_VALUES = 16 << 20
_MOST_CONFIGS = 16
_STRUCTURE, _VALUES = "structure", "values"


@dataclass
class _Asked:
    """What a model said of itself.

    Attributes:
        structure: its structure.
        groups: the layout of its weights file.
        keras_version: the version of Keras that made it.
        configs: its configuration, by the layers that are switched off.
        values: its initial values, by the names of weights.
        fresh: which of these parts hold what was not kept before.
    """

    structure: TargetStructure
    groups: tuple[SavedGroup, ...]
    keras_version: str
    configs: dict[str, str]
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)


class KeptTarget(ModelTarget):
    """A model of a pure builder, which is built when something is asked of it that was not asked before."""

    def __init__(
        self, key: str, label: str, asked: _Asked, make: Callable[[], ModelTarget], made: ModelTarget | None = None
    ) -> None:
        self._key, self._asked, self._make = key, asked, make
        self._lock = threading.Lock()
        self._made = made
        self.is_handed_out = False
        self.label, self.keras_version = label, asked.keras_version
        self.baked, self.fetched, self.dtypes, self._written = (), (), {}, {}

    @property
    def _built(self) -> ModelTarget:
        with self._lock:  # values are compared on several threads
            # In a sweep, variants that need a model may have had it: what they drew or loaded is not what it was built
            # as.
            if self._made is None or (not self.is_handed_out and not self._made.is_light):
                self._made = self._make()
            return self._made

    @property
    def model(self) -> Any:
        """The model itself. Whoever has it may change it, so that from now on it is asked again, and nothing kept."""
        # Not known what its holder does with it; asking the model itself is right in any case.
        built, self.is_handed_out = self._built, True
        return built.model

    @model.setter
    def model(self, _: Any) -> None:
        raise AttributeError("the model is built when it is asked for")

    @cached_property
    def walked(self) -> Walked:
        """The model as Keras would save it."""
        built, self.is_handed_out = self._built, True
        return built.walked

    @property
    def groups(self) -> tuple[SavedGroup, ...]:
        """The layout that Keras would give the file."""
        return self._asked.groups

    @cached_property
    def catalog(self) -> Catalog:
        """Its weights, with what it tells of its layers."""
        return self._asked.structure.catalog

    @cached_property
    def structure(self) -> TargetStructure:
        """The model's weights and layers."""
        return self._asked.structure

    @property
    def optimizer(self) -> Any:
        """None: a model that is compiled is not kept."""
        return None

    @property
    def keeps_files(self) -> bool:
        """Whether a layer saves files beside its weights: no such model is kept."""
        return False

    @property
    def loads_otherwise(self) -> bool:
        """Whether a class has hooks of its own: no such model is kept."""
        return False

    @property
    def is_quantized(self) -> bool:
        """Whether Keras quantized a layer: no such model is kept, but whoever has it may have done so."""
        return self.is_handed_out and self._built.is_quantized

    @cached_property
    def shared_layers(self) -> tuple[str, ...]:
        """The names of layers that several of its models have: a model with one is not kept."""
        return ()

    @property
    def lookups(self) -> tuple[Any, ...]:
        """The layers that have a vocabulary: a model with one is not kept."""
        return ()

    def config(self, frozen: Collection[str]) -> str:
        """Return the configuration that the model has while the layers called `frozen` are switched off."""
        # One text for one set, whatever its order.
        key = json.dumps(sorted(frozen))
        if self.is_handed_out:
            return self._built.config(frozen)
        if key not in self._asked.configs:
            self._asked.configs[key] = self._built.config(frozen)
            self._asked.fresh.add(_STRUCTURE)
        return self._asked.configs[key]

    def forget_config(self) -> None:
        """Write the configuration anew the next time: the model was changed."""
        self.is_handed_out = True
        self._built.forget_config()

    def read(self, name: str) -> NDArray[Any]:
        """Return the variable's value."""
        if self.is_handed_out:
            return self._built.read(name)
        # Read at the first question, once: most runs ask for few values, many for none.
        if not self._asked.values:
            self._asked.values.update(_read_values(self._key))
        if name not in self._asked.values:
            value = self._built.read(name)
            # Beyond that, reading them back would take longer than drawing them.
            if value.nbytes + sum(v.nbytes for v in self._asked.values.values()) > _MOST_VALUES:
                return value
            self._asked.values[name] = value
            self._asked.fresh.add(_VALUES)
        # Whoever gets a value may change it, and the next one asks for it again.
        return self._asked.values[name].copy()

    def keep(self) -> None:
        """Keep what was asked for the first time."""
        asked = self._asked
        if _STRUCTURE in asked.fresh:
            # The latest: a sweep over frozen layers would else make the entry grow without end.
            configs = dict([*asked.configs.items()][-_MOST_CONFIGS:])
            parts = to_plain((asked.structure, asked.groups, asked.keras_version, configs))
            # Structure and values apart: most runs need no values at all.
            _CACHE.keep(f"{self._key}\n{_STRUCTURE}", json.dumps(parts).encode())
        if _VALUES in asked.fresh:
            _CACHE.keep(f"{self._key}\n{_VALUES}", _pack(asked.values))
        asked.fresh.clear()


@contextmanager
def warnings_noted() -> Iterator[list[str]]:
    """Yield a list to which whatever the body warns of is added; it is shown as ever."""
    noted: list[str] = []
    with warnings.catch_warnings():
        # In place of `showwarning`, not of `warn`: filters have their say first, and `-W error` raises as ever.
        show = warnings.showwarning

        def note_and_show(*args: Any, **kwargs: Any) -> None:
            noted.append(str(args[0] if args else kwargs.get("message")))
            show(*args, **kwargs)

        warnings.showwarning = note_and_show
        yield noted


def keep_asked(target: Target) -> None:
    """Keep what was asked of the model of a pure builder for the first time."""
    if isinstance(target, KeptTarget):
        target.keep()


def read_kept(key: str, label: str, make: Callable[[], ModelTarget]) -> KeptTarget | None:
    """Return the model that was made under `key` before; None if there was none.

    Args:
        key: all that decides it.
        label: what messages call it.
        make: builds it.
    """
    content = _CACHE.read(f"{key}\n{_STRUCTURE}")
    if content is None:
        return None
    try:
        asked = _Asked(*from_plain(json.loads(content)))
    except (ValueError, TypeError, LookupError):  # of another version, by accident
        return None
    return KeptTarget(key, label, asked, make)


def kept(key: str, made: ModelTarget, make: Callable[[], ModelTarget]) -> ModelTarget:
    """Return a model that was built just now as one of which will be kept what is asked of it, where that is safe.

    `make` builds it once more, should somebody else have changed it by then.

    It is where the model is all that the builder left, its fresh values are still to be drawn, each by itself, and
    nothing but variables and a configuration of Keras's own classes would be saved of it.
    """
    structure = made.structure
    if not made.is_light or made.baked or made.fetched or structure.fixed or structure.switched_off:
        return made
    # What hooks, vocabularies, quantizing or an optimizer decide is not in structure and values.
    if is_worth_loading(made) or made.lookups or made.optimizer is not None:
        return made
    # Which of its arguments a file would not have, only the class tells.
    if find_left_out(made.model):
        return made
    try:
        asked = _Asked(structure, made.groups, made.keras_version, {}, fresh={_STRUCTURE})
        # Tried now: whether all of it can be written down decides whether anything is kept.
        to_plain((asked.structure, asked.groups))
    except TypeError:  # an argument, or a setting, that is an object
        return made
    # Classes of a user's own may do anything when a configuration is asked for.
    if any(not type(layer).__module__.startswith(("keras.", "keras_hub.")) for layer in layers_in(made.model)):
        return made
    return KeptTarget(key, made.label, asked, make, made)


def _pack(values: dict[str, NDArray[Any]]) -> bytes:
    # Names, dtypes and shapes first, in a line of its own: JSON has no raw ends of lines.
    head = [[name, value.dtype.name, list(value.shape)] for name, value in values.items()]
    return b"\n".join([json.dumps(head).encode(), b"".join(np.ascontiguousarray(v).tobytes() for v in values.values())])


def _read_values(key: str) -> dict[str, NDArray[Any]]:
    content = _CACHE.read(f"{key}\n{_VALUES}")
    if content is None:
        return {}
    head, _, data = content.partition(b"\n")
    values, at = {}, 0
    try:
        for name, dtype_name, shape in json.loads(head):
            dtype = numpy_dtype(dtype_name)
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            # Not copied here: `read` hands out copies.
            values[name] = np.frombuffer(data[at : at + size], dtype).reshape(shape)
            at += size
    except (ValueError, TypeError, LookupError):  # of another version, by accident
        return {}
    return values
