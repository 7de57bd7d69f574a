"""What is asked of transferpipe for one model of Keras's tests; the reference is what Keras itself loads.

Two sets of random values, A and B, are saved by Keras. Right is what `load_model` and `load_weights` make of A's files.
"""

import contextlib
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np
from keras.src import tree

import transferpipe as tp
from transferpipe.errors import TransferError


@dataclass(frozen=True)
class Found:
    """What one check came to.

    Attributes:
        case: the configuration or test.
        kind: the layer's class, or ``model``.
        form: how the model holds the layer.
        check: names, parameters, transfer, freezing.
        what: files and parts.
        status: right, wrong, refused, names (differ), warned (of a right transfer), crashed; said (a loss that is
            Keras's), own (a layer's own hook saves other numbers than its variables), numbered (a file that holds no configuration, and weights that several names may have).
        detail: what is wrong.
    """

    case: str
    kind: str
    form: str
    check: str
    what: str
    status: str
    detail: str = ""


class UnsuitableError(Exception):
    """Keras itself cannot save this model or load what it saved: nothing can be asked of anybody else."""


@dataclass
class Subject:
    """One model and its saved states.

    Attributes:
        model: the live model; checks leave any values in it.
        run: calls a model on the sample, None where that cannot be done.
        custom: what loading needs.
        folder: where its files are.
    """

    model: keras.Model
    run: Callable | None
    custom: dict
    folder: Path

    def file(self, name):
        return str(self.folder / name)

    def prepare(self):
        """Save A and B, and note what Keras makes of A."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            for seed, name in enumerate("ab"):
                fill(self.model, seed)
                self.model.save(self.file(f"{name}.keras"))
                self.model.save_weights(self.file(f"{name}.weights.h5"))
            self.model.load_weights(self.file("a.weights.h5"))
            self.expected, self.outputs = state(self.model), self._outputs(self.model)
            if self.outputs is not None and not same(self.outputs, self._outputs(self.model)):
                self.outputs = None  # dropout outside training, random augmentation
        except Exception as error:
            raise UnsuitableError(f"{type(error).__name__}: {str(error)[:200]}") from None
        try:
            loaded = self.load("a.keras")
            self.loaded, self.trained_when_loaded = state(loaded), below(loaded, "")[1]
        except Exception:  # a test's own classes without a configuration
            self.loaded = None

    def load(self, name):
        with keras.saving.custom_object_scope(self.custom), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return keras.saving.load_model(self.file(name), compile=False, safe_mode=False)

    def reset(self):
        fill(self.model, 1)

    def _outputs(self, model):
        if self.run is None:
            return None
        try:
            return [np.asarray(keras.ops.convert_to_numpy(t)) for t in tree.flatten(self.run(model))]
        except Exception:
            return None


def fill(model, seed):
    """Give every weight random values that it may have."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        dtype = keras.backend.standardize_dtype(weight.dtype)
        if dtype == "bool" or dtype == "string":
            continue
        if "int" in dtype:
            value = random.integers(0, 100, weight.shape)
        else:
            value = random.normal(size=weight.shape) * 0.5
            if re.search("var|std|scale|amax|zero|count|gamma", weight.name):
                value = np.abs(value) + 0.1
        weight.assign(keras.ops.convert_to_tensor(np.asarray(value), dtype=dtype))


def state(model):
    """Return the bits of every weight, in the model's order."""
    arrays = [np.asarray(keras.ops.convert_to_numpy(w)) for w in model.weights]
    return [(str(a.dtype), a.shape, a.tobytes()) for a in arrays]


def same(ours, theirs):
    """Tell whether two lists of outputs are equal but for the rounding of another order of summing."""
    if len(ours) != len(theirs):
        return False
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape or (a.dtype.kind != "f" and not np.array_equal(a, b)):
            return False
        if a.dtype.kind == "f" and not np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True):
            return False
    return True


TRANSFERS = (
    ("a.keras", "b.keras", "o.keras"),
    ("a.weights.h5", "b.weights.h5", "o.weights.h5"),
    ("a.keras", "b.weights.h5", "p.weights.h5"),
    ("a.weights.h5", "b.keras", "p.keras"),
    ("a.keras", None, ""),
    ("a.weights.h5", None, ""),
)


def check_model(subject, case, kind, form, *, freezing=True):
    """Yield what every check of one model came to.

    Raises:
        UnsuitableError: by Keras's own saving and loading.
    """
    subject.prepare()

    def found(check, what, do):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                status, detail = do()
        except TransferError as error:
            status, detail = "refused", f"{type(error).__name__}: {error}"
        except Exception as error:
            import traceback

            at = next(
                (f"{Path(f.filename).name}:{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__))), ""
            )
            status, detail = "crashed", f"{type(error).__name__}: {error} at {at}"
        return Found(case, kind, form, check, what, status, str(detail)[:900])

    for name in ("a.keras", "a.weights.h5"):
        yield found("names", name, lambda name=name: check_names(subject, name))
    yield found("parameters", "live", lambda: check_parameters(subject))
    if subject.model.weights:
        for source, target, out in TRANSFERS:
            what = f"{source[1:]} to {target[1:] if target else 'live'}"
            yield found("transfer", what, lambda way=(source, target, out): check_transfer(subject, *way))
        if freezing:
            for part in parts_of(subject.model):
                where = part or "root"
                if subject.loaded is not None:
                    yield found("freezing", f"{where} in .keras", lambda part=part: check_frozen_file(subject, part))
                yield found("freezing", f"{where} live", lambda part=part: check_frozen_live(subject, part))
    shutil.rmtree(subject.folder, ignore_errors=True)


def check_names(subject, name):
    """Names, shapes and dtypes of a file are those of the model, in one order."""
    ours = [(w.name, w.shape, w.dtype) for w in tp.catalog(subject.model)]
    theirs = [(w.name, w.shape, w.dtype) for w in tp.catalog(subject.file(name))]
    if ours == theirs:
        return "right", ""
    if [_numbered(w) for w in tp.catalog(subject.model)] == [_numbered(w) for w in tp.catalog(subject.file(name))]:
        numbered = [w for w in theirs if w[0].rpartition("/")[2].isdigit()]
        if all(t in numbered for o, t in zip(ours, theirs, strict=True) if o != t):
            return "numbered", f"{numbered}"
    missing, more = [w for w in ours if w not in theirs], [w for w in theirs if w not in ours]
    return (
        "names",
        f"only in the model {missing}, only in the file {more}" if missing or more else f"order {ours} {theirs}",
    )


def _numbered(weight):
    return weight.layer, weight.where, weight.shape, weight.dtype


def check_parameters(subject):
    """As many parameters as Keras counts; a layer whose own `save_own_variables` saves others is counted as it saves."""
    catalog = tp.catalog(subject.model)
    # What LoRA adds is saved merged into the weight that it changes: no file holds it.
    ours = sum(w.size for w in catalog)
    theirs = sum(int(np.prod(w.shape)) for w in subject.model.weights if not w.name.startswith("lora_"))
    if ours == theirs:
        return "right", ""
    with h5py.File(subject.file("a.weights.h5")) as file:
        saved = numbers_in(file)
    if ours == saved and hooked(subject.model):
        return "own", f"its layers' own hooks save {saved} numbers for the {theirs} that Keras counts"
    return "wrong", f"{ours} parameters for Keras's {theirs}"


def numbers_in(file):
    """Return how many numbers a `.weights.h5` file holds, the optimizer's left out."""
    sizes = []

    def note(name, node):
        if isinstance(node, h5py.Dataset) and not name.startswith("optimizer"):
            sizes.append(int(np.prod(node.shape)))

    file.visititems(note)
    return sum(sizes)


def hooked(model):
    """Tell whether layers of classes that are not Keras's save what they like."""
    layers = model._flatten_layers()
    return any("save_own_variables" in c.__dict__ for x in layers for c in type(x).__mro__ if _is_of_a_test(c))


def _is_of_a_test(layer_class):
    return layer_class.__module__.endswith("_test")


def check_transfer(subject, source, target, out):
    """The model holds and computes afterwards what Keras's own load of the source makes of it; nothing is warned of."""
    subject.reset()
    where = {"path": subject.file(target)} if target else subject.model
    save = {"save": {"path": out, "overwrite": True}, "folder": subject.folder} if target else {}
    with keras.saving.custom_object_scope(subject.custom):
        report = tp.transfer(subject.file(source), where, unmatched="same_name", **save)
    if target:
        subject.model.load_weights(subject.file(out))
    found = state(subject.model)
    if found != subject.expected:
        pairs = zip(subject.model.weights, found, subject.expected, strict=True)
        return "wrong", f"other values than by Keras's own load: {[w.path for w, x, y in pairs if x != y][:6]}"
    outputs = subject._outputs(subject.model)
    if subject.outputs is not None and (outputs is None or not same(outputs, subject.outputs)):
        return "wrong", "the weights are equal, the outputs are not"
    if out.endswith(".keras") and subject.loaded is not None and state(subject.load(out)) != subject.loaded:
        return "wrong", "load_model gives other values than for the source"
    # Keras's tests name few layers: that this is said is right.
    warned = [w for w in report.warnings if w.code != "auto-names"]
    if warned:
        return "warned", "; ".join(f"{w.code}: {w}" for w in warned)
    return "right", ""


def parts_of(model):
    """Return the layers of a model that have weights, by name, the root (empty) first."""
    names = {""}
    for weight in tp.catalog(model):
        parts = weight.name.split("/")[:-1]
        names |= {"/".join(parts[:i]) for i in range(1, len(parts) + 1)}
    return sorted(names)


def below(model, part):
    """Return the places (`Variable` objects' numbers in `model.weights`) of what a part holds, and which train."""
    from transferpipe.models.walk import walk

    walked = walk(model, "")
    train = {id(v) for v in model.trainable_variables}
    names = {id(v): n for n, v in walked.values.items()}
    named = walked.catalog.names_of  # a variable that is saved in two places belongs to both
    of_part = {n for n in walked.values if not part or any(a.startswith(part + "/") for a in named(n))}
    return of_part, {names[i] for i in train if i in names}, walked


def moving(walked, names):
    """Return those of the names that are moving statistics which training would still change."""
    norms = {n for n, layer in walked.layers.items() if isinstance(layer, keras.layers.BatchNormalization)}
    on = {n for n in norms if walked.layers[n].trainable}
    return {n for n in names if n.rpartition("/")[0] in on and "moving_" in n}


def check_frozen_file(subject, part):
    """After load_model is frozen what was named, and nothing else; or the report says what is not."""
    pattern = re.escape(part)
    with keras.saving.custom_object_scope(subject.custom):
        report = tp.transfer(
            subject.file("a.keras"),
            {"path": subject.file("b.keras")},
            unmatched="same_name",
            freeze=[pattern],
            save={"path": "f.keras", "overwrite": True},
            folder=subject.folder,
        )
    after = subject.load("f.keras")
    trainable = sum(int(np.prod(v.shape)) for v in after.trainable_variables)
    of_part, trained, walked = below(after, part)
    before = subject.trained_when_loaded
    lost = (of_part & trained) | moving(walked, of_part)
    said = any(w.code == "freeze-not-saved" for w in report.warnings)
    others = [w for w in report.warnings if w.code not in _expected(trainable)]
    if before - of_part - trained:
        return "wrong", f"frozen too: {sorted(before - of_part - trained)[:4]}"
    if lost and not said:
        return "wrong", f"frozen and trained again after loading: {sorted(lost)[:4]}"
    if said and not lost:
        return "warned", f"nothing is lost on loading: {[str(w) for w in report.warnings]}"
    if others:
        return "warned", "; ".join(f"{w.code}: {w}" for w in others)
    lora = any(w.name.startswith("lora_") for w in subject.model.weights)  # what LoRA trains is in no file
    if not said and not lora and trainable != report.plan.freezing.trainable_parameters:
        return "wrong", f"{report.plan.freezing.trainable_parameters} trainable parameters for Keras's {trainable}"
    if not said:
        return "right", ""
    with contextlib.suppress(TransferError), keras.saving.custom_object_scope(subject.custom):
        tp.plan(
            subject.file("a.keras"),
            {"path": subject.file("b.keras")},
            unmatched="same_name",
            freeze=[pattern],
            strict=True,
            save={"path": "s.keras"},
        )
        return "wrong", "strict lets a freezing pass that is lost on loading"
    return "said", str([str(w) for w in report.warnings])


def _expected(trainable):
    """Return the codes of warnings that a freezing may give.

    Keras's own loss, that SpectralNormalization divides what is frozen, and that nothing is left to train.
    """
    return {"freeze-not-saved", "frozen-divided"} | (set() if trainable else {"nothing-trainable"})


def check_frozen_live(subject, part):
    """A live model trains nothing of what was named."""
    subject.reset()
    on = {n: layer.trainable for n, layer in below(subject.model, part)[2].layers.items()}
    report = tp.transfer(subject.file("a.keras"), subject.model, unmatched="same_name", freeze=[re.escape(part)])
    of_part, trained, walked = below(subject.model, part)
    lost = (of_part & trained) | moving(walked, of_part)
    trainable = len(trained)
    for name, layer in sorted(walked.layers.items()):  # a part may have been switched on below one that was off
        if layer.trainable != on[name]:
            layer.trainable = on[name]
    if lost:
        return "wrong", f"still trained: {sorted(lost)[:4]}"
    others = [w for w in report.warnings if w.code not in _expected(trainable)]
    if others:
        return "warned", "; ".join(f"{w.code}: {w}" for w in others)
    return "right", ""
