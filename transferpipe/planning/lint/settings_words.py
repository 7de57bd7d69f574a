"""The warnings about layers that compute something else beside their weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from transferpipe.planning.lint.arrangement import Arrangement
from transferpipe.planning.lint.settings_paired import ComparedPair
from transferpipe.planning.model import PlanWarning, SettingDifference, place_of_rule
from transferpipe.text.listing import listed, listed_clauses
from transferpipe.weights.keras.setting_values import NONE_IN_KERAS, OF_THEANO, version_of
from transferpipe.weights.spec import Catalog

# Layers of one kind and one difference share a clause, so that five clauses say nearly everything of a real network.
_SOME = 5
_CODES = {"class": "class-differs", "between": "between-differs", "momentum": "momentum-differs"}
_FIXES = {
    "settings-differ": "weights do not carry settings: build the target with the source's",
    "class-differs": "it computes something else from the same weights: build the target with the source's class",
    "between-differs": "build the target with the same layers between them",
    "momentum-differs": "it affects further training only",
}
# Keras 3's is relu6(x + 3) / 6, whose slope is 1/6: keras/src/activations/activations.py, `hard_sigmoid`.
_OLD_HARD_SIGMOID = "hard_sigmoid (0.2x + 0.5)"
_HARD_SIGMOID_FIX = (
    "hard_sigmoid of Keras 1 and 2 is keras.ops.clip(0.2 * x + 0.5, 0, 1): register a function that returns it, called "
    "hard_sigmoid_keras_2, and build the layer with that"
)

_NONE_IN_KERAS_FIX = "Keras's layer cannot do that: build the target with a layer of your own that does"

_OF_THEANO_FIX = (
    "the Theano backend pads half a kernel on both sides, and resizes from other places: before a convolution, put a "
    "ZeroPadding layer of the source's numbers, and give it padding='valid'"
)


def warn_of_settings(found: Iterable[SettingDifference]) -> Iterator[PlanWarning]:
    """Yield a warning for each rule and each kind of difference."""
    groups: dict[tuple[str, str], dict[str, list[SettingDifference]]] = {}
    for d in found:
        group = groups.setdefault((_CODES.get(d.setting, "settings-differ"), d.rule), {})
        group.setdefault(d.target_layer, []).append(d)
    for (code, rule), layers in groups.items():
        where = place_of_rule(rule)
        alike: dict[str, list[str]] = {}
        for name, differences in layers.items():
            texts = [_difference(d) for d in sorted(differences, key=lambda d: d.setting)]
            alike.setdefault(", ".join(dict.fromkeys(texts)), []).append(name)
        parts = [f"{_layers(names)}: {text}" for text, names in alike.items()]
        old = any(d.source_value.startswith(_OLD_HARD_SIGMOID) for ds in layers.values() for d in ds)
        fix = f"{_FIXES[code]}; {_HARD_SIGMOID_FIX}" if old and code == "settings-differ" else _FIXES[code]
        if any(d.target_value == NONE_IN_KERAS for ds in layers.values() for d in ds):
            fix = _NONE_IN_KERAS_FIX
        if any(OF_THEANO in f"{d.setting} {d.source_value}" for ds in layers.values() for d in ds):
            fix = _OF_THEANO_FIX
        count = f"{len(layers)} layer{'s' * (len(layers) != 1)}"
        text = listed_clauses(parts, _SOME, "more like these")
        yield PlanWarning(code, where, f"{count} (source -> target): {text}; {fix}")


def _difference(d: SettingDifference) -> str:
    values = f"{d.source_value} -> {d.target_value}"
    called = f" ({d.source_layer} in the source)" if d.source_layer != d.target_layer and d.setting == "class" else ""
    return f"before it {values}" if d.setting == "between" else f"{d.setting} {values}{called}"


def _layers(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} layers ({listed(names, _SOME)})"


def warn_of_old_defaults(
    pairs: Iterable[ComparedPair], sources: Mapping[str, Catalog], target: Arrangement
) -> Iterator[PlanWarning]:
    """Warn of recurrent layers from files that tell the version of Keras and no settings.

    Before 2.3 Keras built them with ``hard_sigmoid``. A version that ends with ``-tf`` is TensorFlow's own Keras, of
    which the number does not tell that.
    """
    found: dict[tuple[str, str], list[ComparedPair]] = {}
    for pair in pairs:
        network = sources[pair.alias].network
        version = version_of(network.keras_version) if network and not network.nodes else None
        is_known = pair.target in target.network.by_name
        own = target.function(pair.target).settings.get("recurrent_activation") if is_known else None
        before = version is not None and version < (2, 3) and not str(network and network.keras_version).endswith("-tf")
        if before and own is not None and own != _OLD_HARD_SIGMOID:
            found.setdefault((pair.rule, pair.alias), []).append(pair)
    for (rule, alias), group in found.items():
        where = place_of_rule(rule)
        version_text = sources[alias].network.keras_version  # type: ignore[union-attr]
        own = target.function(group[0].target).settings["recurrent_activation"]
        text = (
            f"{_layers([p.target for p in group])}: recurrent_activation is {own}; the source stores no settings, and "
            f"Keras {version_text}, which wrote it, had {_OLD_HARD_SIGMOID} by default; {_HARD_SIGMOID_FIX}"
        )
        yield PlanWarning("settings-differ", where, text)
