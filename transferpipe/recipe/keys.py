"""The keys of a recipe, one row each, for the parser, its hints, completion, the JSON Schema and the reference page.

To add a key: 1. add a row to its section; 2. read it where the section is parsed: `Fields` refuses to read a key that
has no row. A key at the top of a recipe, or under `save`, `verify` or `sweep`, also stands in ``conf/config.yaml``, for
Hydra lets a command line change only what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from transferpipe.codes import WARNINGS
from transferpipe.recipe.layouts import AUTO, LAYOUTS, WRITTEN
from transferpipe.recipe.model import (
    NOTHING,
    OPTIMIZER,
    QUANTIZE,
    STATE,
    TRANSFERRED,
    UNITS,
    UNMATCHED,
    WITHIN,
    Recipe,
    Save,
    Verify,
)

Kind = Literal[
    "text",
    "texts",  # a list of texts; one alone counts as a list of one
    "words",  # the same of the words in the row, and no others
    "choice",  # one of the words in the row
    "layout",  # one of the words in the row, or a layout of an installed package
    "integer",
    "number",
    "tolerance",  # a number of at least 0, which may be written as a text: YAML reads 1e-5 as one
    "flag",
    "size",  # of a file: 2GB
    "integers",  # a list of integers and of slices such as '0:3', or one
    "share",  # an integer from 1 on, or a share between 0 and 1
    "numbers",  # a number, or a list of them
    "number or file",  # a number, a list of them, or the path of a file
    "index",  # of one element or of a range of them, an entry an axis
    "transforms",  # a list, or a list for each weight's own name
    "merge",
    "entries",  # a text, a mapping with the keys of the section, or a list of these
    "builder",  # a mapping with `_target_`, the dotted name of a callable, and its arguments
    "origin",  # a path, a mapping with the keys of the section, or a builder
    "file or section",  # a path, or a mapping with the keys of the section
    "parity",  # `source`, a source's name, or a mapping with the keys of the section
    "source",  # true, a source's name, or a builder
    "section",  # a mapping with the keys of the section
    "named",  # a mapping of names to what has the keys of the section; null switches one off
    "named origins",  # a mapping of names to origins
    "mapping",  # a mapping of the writer's own keys
    "mappings",  # a list of such
    "defaults",  # the list with which Hydra puts files together
]
"""What may stand behind a key."""


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    Attributes:
        name: as it is written.
        kind: what may stand there.
        about: what it says, in a line.
        example: a value that may stand there, as YAML has it.
        default: what holds where it is left out.
        words: the words that mean something there; of a ``choice`` and of ``words`` there are no others.
        section: the section whose keys a value has.
        required: whether null is refused.
        composed: whether it is for what puts a recipe together from files, so that none is left in the finished one.
        beside: whether no number of a result depends on it.
    """

    name: str
    kind: Kind
    about: str
    example: Any
    default: Any = None
    words: tuple[str, ...] = ()
    section: str = ""
    required: bool = False
    composed: bool = False
    beside: bool = False

    @property
    def is_named(self) -> bool:
        """Whether the value holds names of the writer's own, and the keys of the section stand below those."""
        return self.kind in ("named", "named origins")

    @property
    def takes_null(self) -> bool:
        """Whether null may stand there, which is then the default."""
        return not self.required and (self.kind not in ("choice", "layout") or self.default is None)


_RECIPE = (
    Key("defaults", "defaults", "other recipes to build on, and files of rules", ["digits", "_self_"], composed=True),
    Key("name", "text", "what runs of the recipe are called; its file name if left out", "my_run", beside=True),
    Key("source", "origin", "where weights come from", {"path": "a.keras"}, section="source"),
    Key("sources", "named origins", "several sources by name", {"teacher": {"path": "a.keras"}}, {}, section="source"),
    Key(
        "target",
        "origin",
        "where weights go: a builder, or a saved model",
        {"_target_": "transferpipe.zoo.digits_cnn", "classes": 5},
        section="target",
        required=True,
    ),
    Key(
        "mapping",
        "named",
        "the rules by name; null switches a rule off",
        {"trunk": {"to": "trunk"}},
        {},
        section="rule",
    ),
    Key("unmatched", "choice", "what becomes of target weights without a rule", "keep", Recipe.unmatched, UNMATCHED),
    Key(
        "unused",
        "choice",
        "whether source weights that nothing used are an error",
        "error",
        Recipe.unused,
        ("report", "error"),
        beside=True,
    ),
    Key("ignore", "texts", "patterns of source weights that are expected to stay unused", ["head/.*"], [], beside=True),
    Key(
        "edit",
        "named",
        "changes of elements after the mapping, by name",
        {"probe": {"at": "head/kernel", "index": [3, 2], "set": 99.0}},
        {},
        section="edit",
    ),
    Key(
        "freeze",
        "texts",
        f"patterns of target layers to freeze; `{TRANSFERRED}` is every layer all of whose weights came from a source",
        ["trunk"],
        [],
        (TRANSFERRED, NOTHING),
    ),
    Key("save", "file or section", "the files to write", {"path": "model.keras"}, section="save", beside=True),
    Key("verify", "section", "how strictly the result is checked", {"reload": True}, {}, section="verify", beside=True),
    Key("strict", "flag", "whether warnings are errors", True, Recipe.strict, beside=True),
    Key("allow", "words", "codes of warnings that may pass all the same", ["unused"], [], tuple(WARNINGS), beside=True),
    Key(
        "score",
        "builder",
        "a callable that gives the finished model a number",
        {"_target_": "transferpipe.score.parity"},
        beside=True,
    ),
    Key("reverse", "flag", "whether the recipe is run backwards, from its target to its source", True, Recipe.reverse),
    Key("quantize", "choice", "how Keras quantizes the finished model", "int8", Recipe.quantize, QUANTIZE),
    Key(
        "optimizer",
        "choice",
        "what becomes of an optimizer's state: of the target's (keep, drop, auto) or the source's (transfer)",
        "transfer",
        Recipe.optimizer,
        OPTIMIZER,
    ),
    Key(
        "state",
        "choice",
        "whether what layers learned (vocabularies, boundaries, statistics) comes along with paired layers",
        "keep",
        Recipe.state,
        STATE,
    ),
    Key("seed", "integer", "fixes every fresh weight", 7, Recipe.seed),
    Key("expect", "text", "refuses every plan but the one with this checksum", "p0123456789a", beside=True),
    Key(
        "vars", "mapping", "values of your own, which `${vars.NAME}` fills in elsewhere", {"cut": 1}, {}, composed=True
    ),
    Key(
        "sweep",
        "section",
        "what `transferpipe sweep` varies",
        {"axes": {"seed": [1, 2]}},
        section="sweep",
        composed=True,
    ),
)

_ORIGIN = (
    Key(
        "path",
        "text",
        "a file: on this computer, pkg://PACKAGE/PATH, https://, hf://, kaggle://, s3://, gs://",
        "weights.h5",
        required=True,
    ),
    Key("_target_", "text", "in place of `path`, a Python callable; other keys are its arguments", "my_models.build"),
    Key("format", "text", "the file's format, where its content does not show it", "legacy_h5"),
    Key("layout", "layout", "how names and axes are arranged", "torch", AUTO, (AUTO, *LAYOUTS)),
    Key("select", "text", "the keys on the way to the part of the file that is wanted", "model/state_dict"),
    Key("sha256", "text", "the digest that the file must have", "ab" * 32),
)

_SOURCE = (
    *_ORIGIN,
    Key(
        "requires",
        "mapping",
        "what the `config.json` beside the file must say where it says it, each a value or a list of those that may be",
        {"model_type": "llama", "hidden_act": ["silu", "swish"]},
        {},
    ),
)

_TARGET = (
    *_ORIGIN,
    Key("like", "text", "in place of `path`, a file whose layers the target has, as `repeat` says", "base.safetensors"),
    Key(
        "repeat",
        "mapping",
        "by a pattern with the number of a layer as its group, which layers of that file follow one another",
        {r"model/layers/(\d+)": "0-23, 8-31"},
        {},
    ),
)

_RULE = (
    Key("to", "text", "a pattern over target names", r"enc/(\d)", required=True),
    Key(
        "from",
        "entries",
        r"templates of source names, each alone or with its own steps; null keeps the target's values",
        r"enc/\1",
        r"\0",
        section="entry",
    ),
    Key("pair", "choice", "how weights find each other", "order", "name", ("name", "order")),
    Key("except", "texts", "patterns taken out of `to`", ["enc/9"], []),
    Key("transform", "transforms", "steps from a source's value to the target's", [{"transpose": [1, 0]}], []),
    Key("merge", "merge", "how several sources become one", {"linear": [0.5, 0.5]}),
    Key(
        "fold",
        "texts",
        "templates of source layers that are folded into what is taken: normalizations, LoRA",
        r"bn\1",
        [],
    ),
    Key("fold_with", "mapping", "what folding needs and no file tells: epsilon, alpha", {"epsilon": 0.001}, {}),
    Key(
        "units",
        "section",
        "how the units of layers are chosen that have another width, or another order, in all weights that have them",
        {"widen": "copies"},
        section="units",
    ),
    Key("on_mismatch", "choice", "what shapes that differ after the transforms do", "keep", "error", ("error", "keep")),
    Key("optional", "flag", "whether the rule may match nothing", True, False),
    Key(
        "layout",
        "layout",
        "how the axes of these sources are arranged, where not as in the rest",
        "torch",
        None,
        tuple(LAYOUTS),
    ),
)

_UNITS = (
    Key("widen", "choice", "make layers wider by copies of their units", "copies", None, ("copies",)),
    Key("keep", "choice", "make layers narrower: keep the units with the largest norms", "largest", None, ("largest",)),
    Key("norm", "choice", "with `keep`, the norm of a unit's kernel", "l2", "l1", ("l1", "l2")),
    Key("indices", "mapping", "make layers narrower: by layer, the units to keep", {"dense1": [0, 2, 3]}, {}),
    Key("align", "text", "put units into the order of another network: a template of its names", r"other:\0"),
)

_ENTRY = (
    Key("name", "text", "a template of source names", r"enc/\1", required=True),
    Key("transform", "transforms", "steps of this source alone, before the merge", [{"scale": 0.5}], []),
)

_EDIT = (
    Key("at", "text", "the name of a target weight, or a pattern over names", "head/kernel", required=True),
    Key(
        "index",
        "index",
        "an integer, a slice such as '0:3' or a list for each axis; '...' is all other axes",
        [3, "0:2"],
        required=True,
    ),
    Key("filters", "integers", "in its place, which filters (outputs of the layer): indices or slices", [0, 3]),
    Key("channels", "integers", "in its place, which input channels: the same", [0, 2]),
    Key("mask", "text", "in its place, a file of arrays that are not zero where an element is meant", "masks.npz"),
    Key("smallest", "share", "in its place, how many of the smallest magnitude, or which share of them", 0.5),
    Key("largest", "share", "the same of the largest", 10),
    Key(
        "of",
        "choice",
        "of what `smallest` and `largest` are; of filters and channels by L2 norm",
        "filters",
        UNITS[0],
        UNITS,
    ),
    Key(
        "within",
        "choice",
        "whether they are counted in each weight, each filter, or all together",
        "all",
        WITHIN[0],
        WITHIN,
    ),
    Key(
        "set",
        "number or file",
        "the new value, one for each of `filters` or `channels`, or a file of arrays with the new values",
        99.0,
    ),
    Key("add", "numbers", "what is added, or one number for each of `filters` or `channels`", 0.5),
    Key("multiply", "numbers", "what is multiplied with, or one number for each of `filters` or `channels`", 2.0),
    Key("noise", "number", "the standard deviation of normal noise that is added, drawn from the seed", 0.01),
)

_SAVE = (
    Key(
        "path",
        "text",
        "the file, in the run folder; its suffix chooses the format: that of a target of weights alone if left out",
        "out/model.keras",
        Save.path,
    ),
    Key("also", "texts", "further files", ["model.weights.h5"], []),
    Key("overwrite", "flag", "whether files that are there may be replaced", True, Save.overwrite),
    Key(
        "layout",
        "layout",
        "whose names and axes the files of named tensors have",
        "torch",
        Save.layout,
        WRITTEN,
    ),
    Key("shard", "size", "how many bytes of values a .safetensors file may hold before it is cut into several", "2GB"),
    Key(
        "names",
        "mapping",
        "of files of named tensors: by a pattern over names in them, with slashes, the template of the new name",
        {r"block(?P<i>\d)_(conv|bn)": r"blocks/{i-1}/\2"},
        {},
    ),
    Key(
        "like",
        "file or section",
        "a file of named tensors whose names, axes and dtypes those files take, and which they must fill",
        {"path": "reference.safetensors"},
        section="reference",
    ),
    Key("card", "flag", "whether README.md, a model card for a Hub, is written beside the main file", True, Save.card),
)

_ERROR_OR_ALLOW = ("error", "allow")
_VERIFY = (
    Key("reload", "flag", "whether Keras loads the finished file for a further comparison", True, Verify.reload),
    Key("nonfinite", "choice", "NaN or infinity in a source", "allow", Verify.nonfinite, _ERROR_OR_ALLOW),
    Key(
        "negative_variance",
        "choice",
        "a negative moving variance in a source",
        "allow",
        Verify.negative_variance,
        _ERROR_OR_ALLOW,
    ),
    Key("parity", "parity", "what the finished model's outputs are compared with", "source", section="parity"),
)

_PARITY = (
    Key("source", "source", "the source to run: true, its name, or `_target_:` of a callable to run instead", True),
    Key("inputs", "text", "an .npz file with one array an input; random ones if left out", "x.npz"),
    Key("expected", "text", "in place of `source`, an .npz file with the original's outputs", "y.npz"),
    Key("atol", "tolerance", "the largest difference allowed", 1.0e-4),
    Key("rtol", "tolerance", "the same as a part of the expected value", 1.0e-3),
)

_SWEEP = (
    Key("recipe", "text", "the recipe of a named sweep, unless the command line chooses one", "digits"),
    Key(
        "axes",
        "mapping",
        "by key, a list or text such as range(5); all combinations are variants",
        {"seed": "range(5)"},
        {},
    ),
    Key("variants", "mapping", "by name, values of keys", {"free": {"freeze": "none"}}, {}),
    Key("drop", "mappings", "combinations that make no sense", [{"freeze": "none", "seed": 1}], []),
    Key(
        "when",
        "mapping",
        "by an axis, the values of other keys at which it varies; elsewhere the recipe's own value stays",
        {"vars.cut": {"freeze": "transferred"}},
        {},
    ),
    Key(
        "controls",
        "words",
        "what results are compared with",
        ["random", "source"],
        [],
        ("random", "source", "selffer"),
    ),
    Key(
        "selffer",
        "origin",
        "for that control, a network trained on the target's own task",
        {"path": "own.keras"},
        section="origin",
    ),
    Key("against", "text", "a named variant that all others are compared with", "free"),
    Key(
        "failed",
        "choice",
        "what a seed that failed counts as: the worst value, or it is left out",
        "drop",
        "worst",
        ("worst", "drop"),
    ),
    Key("x", "text", "the key along the x axis of the curves", "vars.cut"),
    Key("limit", "integer", "the largest number of variants; only the command line can raise it above 200", 100, 200),
    Key("budget", "number", "seconds after which no further variant is begun", 3600),
    Key("fail_fast", "flag", "whether no further variant is begun once one has failed", True, False),
    Key("retries", "integer", "how often a variant that failed is tried again", 2, 0),
    Key(
        "halving",
        "mapping",
        "successive halving: over epochs or data, at which rungs the better settings go on, and which part of them",
        {"over": "epochs", "rungs": [5, 20, 80], "keep": 0.5},
        {},
    ),
    Key("title", "text", "the heading of the page", "What the layers are worth"),
    Key(
        "log",
        "texts",
        "where each finished variant, or a single run, is logged: mlflow, tensorboard, wandb",
        ["tensorboard"],
        [],
    ),
)

RECIPE = "recipe"
SECTIONS: Mapping[str, Mapping[str, Key]] = {
    section: {key.name: key for key in rows}
    for section, rows in {
        RECIPE: _RECIPE,
        "origin": _ORIGIN,
        "source": _SOURCE,
        "target": _TARGET,
        "rule": _RULE,
        "units": _UNITS,
        "entry": _ENTRY,
        "edit": _EDIT,
        "save": _SAVE,
        "reference": tuple(key for key in _ORIGIN if key.name != "_target_"),
        "verify": _VERIFY,
        "parity": _PARITY,
        "sweep": _SWEEP,
    }.items()
}
"""The keys by section and name."""
ANY = "*"
"""Stands in a path for a name of the writer's own, such as that of a rule."""


_SHORT_FOR: Mapping[Kind, str] = {
    "origin": "path",
    "named origins": "path",
    "file or section": "path",
    "parity": "source",
    "entries": "name",
}
"""The key that a text alone stands for, by what may stand in its place."""


def walk_keys(section: str = RECIPE, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Key]]:
    """Yield every key with its path from the top of a recipe; `ANY` is where a name of the writer's own stands."""
    for key in SECTIONS[section].values():
        path = (*where, key.name)
        yield path, key
        if key.section:
            yield from walk_keys(key.section, (*path, ANY) if key.is_named else path)


def find_keys(holder: tuple[str, ...]) -> Mapping[str, Key]:
    """Return the keys that may stand in what lies at the path `holder`; none where there are none of ours."""
    found = SECTIONS[RECIPE]
    names = list(holder)
    while names:
        key = found.get(names.pop(0))
        if key is None or not key.section or (key.is_named and not names):
            return {}
        if key.is_named:
            names.pop(0)
        found = SECTIONS[key.section]
    return found


def find_meant_key(path: tuple[str, ...]) -> str:
    """Return the key of a mapping that a text at `path` is short for; nothing where a text is not a mapping's."""
    key = find_keys(path[:-1]).get(path[-1])
    if key is None and len(path) > 1:  # a name of the writer's own
        key = find_keys(path[:-2]).get(path[-2])
        return _SHORT_FOR.get(key.kind, "") if key is not None and key.is_named else ""
    return _SHORT_FOR.get(key.kind, "") if key is not None and not key.is_named else ""
