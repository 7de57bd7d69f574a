"""The types of a recipe's parts for those who write one in Python: what editors complete and type checkers check.

The keys and words are those of `keys.py`, which says what each means; a test compares them. Wherever a mapping with
these keys may stand, a plain one may, too: of rules that were put into a variable first, of which some have
`from: None`, type checkers only know that they are a mapping of objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Protocol, TypedDict

PathText = str | PathLike[str]
ErrorOrAllow = Literal["error", "allow"]


class KerasModel(Protocol):
    """A built `keras.Model`. Keras publishes no types, so this is what is looked for of one."""

    @property
    def weights(self) -> Any:
        """Its variables."""

    def get_config(self) -> Any:
        """Return what it is built from."""


class OriginKeys(TypedDict, total=False):
    """A source or target: a file, or a builder, whose arguments are further keys."""

    path: PathText | KerasModel
    _target_: str
    format: str | None
    layout: str
    select: str | None
    sha256: str | None


class SourceKeys(OriginKeys, total=False):
    """A source, and for which configurations a transfer from it is."""

    requires: Mapping[str, Any]


Origin = PathText | KerasModel | OriginKeys | SourceKeys | Mapping[str, Any]


class EntryKeys(TypedDict, total=False):
    """One source of a rule with steps of its own."""

    name: str
    transform: Sequence[Any] | Mapping[str, Sequence[Any]]


RuleKeys = TypedDict(
    "RuleKeys",
    {
        "to": str,
        "from": str | EntryKeys | Sequence[str | EntryKeys] | None,
        "pair": Literal["name", "order"],
        "except": str | Sequence[str],
        "transform": Sequence[Any] | Mapping[str, Sequence[Any]],
        "merge": str | Mapping[str, Any] | None,
        "fold": str | Sequence[str],
        "fold_with": Mapping[str, float],
        "units": Mapping[str, Any],
        "on_mismatch": Literal["error", "keep"],
        "optional": bool,
        "layout": str | None,
    },
    total=False,
)
"""A rule of a mapping."""

Rules = Mapping[str, RuleKeys | None] | Mapping[str, object]


class EditKeys(TypedDict, total=False):
    """A change of elements."""

    at: str
    index: int | str | Sequence[int | str | Sequence[int]]
    filters: int | Sequence[int]
    channels: int | Sequence[int]
    mask: PathText
    smallest: float
    largest: float
    of: Literal["elements", "filters", "channels"]
    within: Literal["weight", "filter", "all"]
    set: float | PathText
    add: float
    multiply: float
    noise: float


Edits = Mapping[str, EditKeys | None] | Mapping[str, object]


class SaveKeys(TypedDict, total=False):
    """The files to write."""

    path: PathText
    also: PathText | Sequence[PathText]
    overwrite: bool
    layout: str
    shard: str | int | None
    names: Mapping[str, str | None]
    card: bool
    like: PathText | Mapping[str, Any]


class ParityKeys(TypedDict, total=False):
    """What the finished model's outputs are compared with."""

    source: bool | str | OriginKeys | Mapping[str, Any]
    inputs: PathText | None
    expected: PathText | None
    atol: float | None
    rtol: float | None


class VerifyKeys(TypedDict, total=False):
    """How strict the proof is."""

    reload: bool
    nonfinite: ErrorOrAllow
    negative_variance: ErrorOrAllow
    parity: Literal["source"] | str | bool | ParityKeys | Mapping[str, Any] | None
