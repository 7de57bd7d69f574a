"""Which part of a checkpoint holds the weights, and what they are called: by the keys on the way to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.errors import Problem, RecipeError, UnsafeError, did_you_mean
from transferpipe.text.listing import listed
from transferpipe.weights.formats.torch.limited import PickleError
from transferpipe.weights.formats.torch.tensors import TensorView
from transferpipe.weights.formats.torch.unpickle import Entries, Thing

Keys = tuple[str, ...]
_WRAPPERS = re.compile(
    r"((model|net|network|module|ema|ema_model|model_ema|teacher|student|backbone)_?)?"
    r"(state_dict|state|model|net|network|module|weights|params|params_ema|ema|ema_model|model_ema|shadow_params)"
    r"(_ema)?"
)
_STATE_DICT = re.compile(r"(.*_)?(state_dict|weights)")
_AVERAGE = re.compile(r"(.*_)?ema(_.*)?")
_TRAINING = re.compile(
    r"(.*_)?(optim|optimizers?|optimizer_states?|optimizer_state_dicts?|opt|.*scheduler.*|.*scaler.*|amp|callbacks|loops"
    r"|.*rng_?states?.*)",
    re.IGNORECASE,
)
# Dictionaries in dictionaries: a real checkpoint has a handful, and Python's recursion ends at about a thousand.
_MOST_DEPTH = 100
_MOST_KEY = 1000
_LISTED = 8


@dataclass(frozen=True)
class CheckpointPart:
    """What is read of a checkpoint, and what is not.

    Attributes:
        selected: the keys on the way to the part that holds the weights; none if the whole is it.
        weights: its tensors, by the keys from that part on.
        others: the tensors elsewhere, by the keys from the top on.
        beside: the keys at the top, and beside the weights, that lead to no tensor.
    """

    selected: Keys
    weights: tuple[tuple[Keys, TensorView], ...]
    others: tuple[tuple[Keys, TensorView], ...]
    beside: tuple[str, ...]


class Tree:
    """The containers of a checkpoint and which of them lead to tensors."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._holders, self._size = _holders(root)

    def holds(self, value: Any) -> bool:
        """Tell whether `value` is a tensor or a container that leads to one."""
        return isinstance(value, TensorView) or id(value) in self._holders

    def children(self, container: Any) -> dict[str, Any]:
        """Return what a container holds, by its keys as text.

        Raises:
            PickleError: a key that leads to tensors is not a text or number.
            UnsafeError: a key is there twice.
        """
        found: dict[str, Any] = {}
        for key, value in _pairs(container):
            text = _text(key)
            if text is None:
                if self.holds(value):
                    raise PickleError(
                        f"holds tensors under a key that is not short text but of type {type(key).__name__}"
                    )
                continue
            if text in found:
                raise UnsafeError(Problem("", f"has the key {text!r:.120} twice", "save the file again"))
            found[text] = value
        return found

    def tensors(self, top: Any) -> Iterator[tuple[Keys, TensorView]]:
        """Yield the tensors below `top` with the keys on the way, in file order.

        Raises:
            PickleError: containers hold each other, or one is reached in very many ways.
        """
        waiting: list[tuple[Keys, Any]] = [((), top)]
        # A container that is held often is walked as often; honest checkpoints share few, and none in a ring.
        most = 1000 + 4 * self._size
        while waiting:
            keys, value = waiting.pop()
            most -= 1 + _count(value)
            if most < 0 or len(keys) > _MOST_DEPTH:
                raise PickleError("holds one thing in very many places, or in itself")
            if isinstance(value, TensorView):
                yield keys, value
            else:
                below = [((*keys, k), v) for k, v in self.children(value).items() if self.holds(v)]
                waiting.extend(reversed(below))


def part_of(root: Any, select: str | None) -> CheckpointPart:
    """Return what is to be read of the checkpoint whose unpickled object is `root`.

    Args:
        root: what the pickle describes.
        select: keys on the way to the weights, joined by ``/`` or ``.``, and from there on down to a state dict that
            lies there beside other things. None finds them: the only entry at the top
            that holds tensors under a name such as ``state_dict`` or ``model``, or else all but the optimizer's state.

    Raises:
        PickleError: the containers make no sense.
        RecipeError: nothing is at `select`, or several entries could be meant.
        UnsafeError: a key is there twice.
    """
    tree = Tree(root)
    if isinstance(root, TensorView):
        return CheckpointPart((), ((("tensor",), root),), (), ())
    top = tree.children(root)
    selected = _resolve(tree, select) if select is not None else _wrapper(tree, top)
    chosen = root
    for key in selected:
        chosen = tree.children(chosen)[key]
    if isinstance(chosen, TensorView):
        return CheckpointPart(selected[:-1], ((selected[-1:], chosen),), _others(tree, selected), _beside(tree, top))
    weights = tree.tensors(chosen)
    beside = _beside(tree, top) + (_beside(tree, tree.children(chosen)) if selected else ())
    if not selected:
        weights = ((k, t) for k, t in weights if not _is_training(top, k[0]))
    return CheckpointPart(selected, tuple(weights), _others(tree, selected), beside)


def _others(tree: Tree, selected: Keys) -> tuple[tuple[Keys, TensorView], ...]:
    top = tree.children(tree.root)
    found = tree.tensors(tree.root)
    if selected:
        return tuple((k, t) for k, t in found if k[: len(selected)] != selected)
    return tuple((k, t) for k, t in found if _is_training(top, k[0]))


def _is_training(top: dict[str, Any], key: str) -> bool:
    """Tell whether an entry at the top is the state of a training run: a container, or a generator's state."""
    return bool(_TRAINING.fullmatch(key)) and (not isinstance(top[key], TensorView) or "rng" in key)


def _beside(tree: Tree, entries: dict[str, Any]) -> tuple[str, ...]:
    return tuple(key for key, value in entries.items() if not tree.holds(value))


def leads_to_tensors(root: Any) -> bool:
    """Tell whether an unpickled object is a tensor, or holds one somewhere."""
    return Tree(root).holds(root)


def _wrapper(tree: Tree, top: dict[str, Any]) -> Keys:
    if "batch_stats" in top:  # Flax's, which belong to its params
        return ()
    found = [k for k, v in top.items() if tree.holds(v) and not isinstance(v, TensorView) and _WRAPPERS.fullmatch(k)]
    if len(found) > 1:
        what = f"the checkpoint holds weights under {_list_entries(found)}"
        raise RecipeError(
            Problem(
                "select", what, f"choose one: select: {found[0]} under the source, or select={found[0]} for inspect"
            )
        )
    return _down(tree, (found[0],), top[found[0]]) if found else _down(tree, (), tree.root)


def _down(tree: Tree, keys: Keys, here: Any) -> Keys:
    """Return the keys on the way to the state dict below `here`, where there is one; else those that lead there."""
    while inner := _state_dict(tree, here) or _find_wrapped(tree, here):
        keys = (*keys, inner)
        here = tree.children(here)[inner]
        if len(keys) > _MOST_DEPTH:
            raise PickleError("holds one thing in very many places, or in itself")
    return keys


def _state_dict(tree: Tree, here: Any) -> str | None:
    """Return the key of the state dict in a mapping that holds it beside other things, and no tensor itself."""
    if isinstance(here, Thing) or not isinstance(here, Entries):
        return None
    holding = {key: value for key, value in tree.children(here).items() if tree.holds(value)}
    found = [k for k, v in holding.items() if _STATE_DICT.fullmatch(k) and not isinstance(v, TensorView)]
    return found[0] if len(found) == 1 and not any(isinstance(v, TensorView) for v in holding.values()) else None


def _find_wrapped(tree: Tree, here: Any) -> str | None:
    """Return the key of the only entry of a mapping that leads to weights, if a state dict lies somewhere below it."""
    keys = list[str]()
    while not isinstance(here, Thing) and isinstance(here, Entries) and len(keys) < _MOST_DEPTH:
        holding = {k: v for k, v in tree.children(here).items() if tree.holds(v) and not _TRAINING.fullmatch(k)}
        if len(holding) != 1:
            return None
        ((key, here),) = holding.items()
        keys.append(key)
        if _state_dict(tree, here):
            return keys[0]
    return None


def _resolve(tree: Tree, select: str) -> Keys:
    """Return the keys that `select` joins. Keys may hold dots themselves, so the longest that fits is taken first."""
    keys: list[str] = []
    here, rest = tree.root, _average(tree) if select == "ema" else select
    while rest:
        children = {} if isinstance(here, TensorView) else tree.children(here)
        fits = [k for k in children if k and (rest == k or rest.startswith((f"{k}/", f"{k}.")))]
        if not fits:
            raise RecipeError(Problem("select", _missing(keys, rest), _what_there_is(tree, children, rest)))
        key = max(fits, key=len)
        keys.append(key)
        here, rest = children[key], rest[len(key) + 1 :]
    if not tree.holds(here):
        what = f"there are no tensors under {select!r}"
        raise RecipeError(Problem("select", what, _what_there_is(tree, tree.children(tree.root), "")))
    return _down(tree, tuple(keys), here)


def _average(tree: Tree) -> str:
    """Return the entry at the top that holds moving averages of the weights, by what training scripts call it."""
    top = tree.children(tree.root)
    found = [k for k in top if _AVERAGE.fullmatch(k) and tree.holds(top[k])]
    if "ema" in found or len(found) == 1:
        return "ema" if "ema" in found else found[0]
    if found:
        raise RecipeError(Problem("select", f"averages are under {_list_entries(found)}", "name one of them"))
    what = "the checkpoint holds no moving averages, such as ema, model_ema or state_dict_ema"
    raise RecipeError(Problem("select", what, _what_there_is(tree, top, "")))


def _missing(keys: Sequence[str], rest: str) -> str:
    return f"there is no {rest!r}{' under ' + repr('/'.join(keys)) if keys else ' at the top of the checkpoint'}"


def _what_there_is(tree: Tree, children: dict[str, Any], word: str) -> str:
    holding = [k for k, v in children.items() if tree.holds(v)]
    near = did_you_mean(word, holding, most=1) if word else ""
    return " ".join(filter(None, (near, f"tensors are under {_list_entries(holding)}" if holding else "")))


def _list_entries(names: Sequence[str]) -> str:
    return listed([f"{n!r:.80}" for n in names], _LISTED)


def _pairs(container: Any) -> list[tuple[Any, Any]]:
    if isinstance(container, Thing):
        return container.pairs or _pairs_of_object(container)
    if isinstance(container, Entries):
        return container.pairs
    return list(enumerate(container)) if isinstance(container, list | tuple) else []


def _pairs_of_object(thing: Thing) -> list[tuple[Any, Any]]:
    """Return what an object holds; of a module of torch what its state dict would have, in that order.

    Parameters, then buffers, then modules (``_save_to_state_dict`` in torch/nn/modules/module.py). Whatever else is an
    attribute of a module is not a part of it, and may lead back to it.
    """
    found = {key: value for key, value in thing.state.pairs if isinstance(key, str)}
    if not ("_parameters" in found and "_modules" in found):
        return thing.state.pairs
    beside = found.get("_non_persistent_buffers_set")
    # Sets are read as lists: see EMPTY_SET in `unpickle`.
    left = {key for key in beside if isinstance(key, str)} if isinstance(beside, list) else set[str]()
    parts = [_pairs(found.get(name)) for name in ("_parameters", "_buffers", "_modules")]
    # The one attribute that a state dict has: `LinearPackedParams._save_to_state_dict`.
    packed = [(k, v) for k, v in found.items() if k == "_packed_params" and thing.name.endswith("PackedParams")]
    return [*parts[0], *((k, v) for k, v in parts[1] if not (isinstance(k, str) and k in left)), *parts[2], *packed]


def _count(container: Any) -> int:
    if isinstance(container, Thing):
        return len(_pairs(container))
    if isinstance(container, Entries):
        return len(container.pairs)
    return len(container) if isinstance(container, list | tuple) else 0


def _text(key: Any) -> str | None:
    """Return a key as text; None if it is nothing that a name could be made of."""
    if isinstance(key, str):
        return key if len(key) <= _MOST_KEY else None
    return str(key) if isinstance(key, bool | float) or (isinstance(key, int) and key.bit_length() <= 64) else None


def _holders(root: Any) -> tuple[set[int], int]:
    """Return the ids of the containers that lead to tensors, and how much all containers hold.

    Every container is looked at once, however often it is held.
    """
    # By identity, which holds as long as the root does: what a file gives may have no hash, or hashes made to collide.
    seen: set[int] = {id(root)}
    parents: dict[int, list[int]] = {}
    size = 1
    waiting: list[Any] = [root]
    found: list[int] = []
    while waiting:
        here = waiting.pop()
        if isinstance(here, TensorView):
            found.append(id(here))
            continue
        pairs = _pairs(here)
        size += len(pairs)
        for _, value in pairs:
            if isinstance(value, TensorView | Entries | list | tuple):
                parents.setdefault(id(value), []).append(id(here))
                if id(value) not in seen:
                    seen.add(id(value))
                    waiting.append(value)
    holders: set[int] = set()
    while found:
        for parent in parents.get(found.pop(), ()):
            if parent not in holders:
                holders.add(parent)
                found.append(parent)
    return holders, size
