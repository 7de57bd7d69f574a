"""Transfer all that Keras's tests configure: ``python -m tests.keras_suite.run [--only WORD] [--shard 1/2] [--write-table]``.

It takes about an hour on two cores; `--shard`, `--forms` and `--and-of` divide it. The exit status is 1 if anything is wrong, refused, named otherwise in a file
than in the model, or warned of without need.
"""

import argparse
import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from .checks import Found, Subject, UnsuitableError, check_model
from .forms import FORMS, build, sample
from .harvest import harvest_layers, harvest_models, model_modules

TABLE = Path(__file__).parent / "TABLE.md"
KERAS = "keras"  # it cannot do this itself, so nobody is asked to
BAD = ("wrong", "refused", "names", "warned", "crashed")


def check_layer(configuration, form, folder, *, freezing=True):
    """Return what the checks of one configuration in one form came to; `UnsuitableError` where Keras cannot do it itself."""
    try:
        model, custom = build(configuration, form)
        inputs = sample(configuration, 1)
    except Exception as error:
        raise UnsuitableError(f"{type(error).__name__}: {str(error)[:200]}") from None
    subject = Subject(model, lambda m: m(inputs), custom, Path(folder) / "subject")
    return list(check_model(subject, configuration.name, configuration.layer_class.__name__, form, freezing=freezing))


def classes_of_the_test(model):
    """Return the classes of a model that are local to a test: no import finds them, so that loading needs them given."""
    parts = (model, *model._flatten_layers(include_self=False))
    return {type(p).__name__: type(p) for p in parts if "<locals>" in type(p).__qualname__}


def one_of_each_kind(layers):
    """Return the configuration with the most arguments of each kind."""
    kinds = {}
    for name, configuration in sorted(layers.items(), key=lambda item: (-len(item[1].arguments), item[0])):
        kinds.setdefault(configuration.kind, (name, configuration))
    return dict(kinds.values())


def table(rows, command):
    """Return TABLE.md: what the checks came to, by kind of check and by class."""
    checks = [r for r in rows if r.status != KERAS]
    statuses = ("right", "said", "own", "numbered", *BAD)
    lines = [
        "# What Keras's own tests configure, transferred",
        "",
        f"`{command}`",
        "",
        f"Keras {keras.__version__}; {len({r.case for r in checks})} configurations and saved models; {len(checks)} checks.",
        f"Keras itself cannot build, save and load {len(rows) - len(checks)} more.",
        "",
        "*own*: the layer's own `save_own_variables` saves other numbers than its variables, so that Keras's count of parameters",
        "is not that of its own file, which is ours. *said*: Keras loses a freezing on loading, and that is said; *numbered*: a `.weights.h5` file whose numbers may",
        "stand for several names; *names*: file and model name a weight differently; *warned*: of a right transfer.",
    ]
    for title, key in (("form, check", lambda r: (r.form, r.check)), ("class", lambda r: (r.kind,))):
        lines += ["", f"| {title} | " + " | ".join(statuses) + " |", "|---|" + "---:|" * len(statuses)]
        for group in sorted({key(r) for r in checks}):
            counted = Counter(r.status for r in checks if key(r) == group)
            lines.append(f"| {', '.join(group)} | " + " | ".join(str(counted[s]) for s in statuses) + " |")
    bad = [f"* {r.status}: {r.case}, {r.form}, {r.check} {r.what}" for r in checks if r.status in BAD]
    return "\n".join([*lines, *(["", "Not right:", "", *bad] if bad else [])]) + "\n"


def all_rows(args, folder):
    """Yield what every check that `args` ask for came to."""
    number, shards = map(int, args.shard.split("/"))
    if args.what in ("layers", "all"):
        layers = harvest_layers().layers
        layers = one_of_each_kind(layers) if args.each_kind else layers
        chosen = [c for n, c in sorted(layers.items()) if args.only in c.text or args.only in n]
        for form, configuration in itertools.product(args.forms.split(","), chosen[number - 1 :: shards]):
            try:
                yield from check_layer(configuration, form, folder, freezing=not args.no_freezing)
            except UnsuitableError as error:
                kind = configuration.layer_class.__name__
                yield Found(configuration.name, kind, form, "", "", KERAS, str(error))
    if args.what in ("models", "all"):
        rows = []

        def use(model, name):
            if args.only in name:
                try:
                    subject = Subject(model, None, classes_of_the_test(model), Path(folder) / "subject")
                    rows.extend(check_model(subject, name, "model", "saved", freezing=False))
                except UnsuitableError as error:
                    rows.append(Found(name, "model", "saved", "", "", KERAS, str(error)))

        for module in model_modules():
            harvest_models(use, [module])
            yield from rows
            rows.clear()


def main(argv=None):
    """Run the checks, print what is not right, and write the table where asked."""
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m tests.keras_suite.run", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("layers", "models", "all", "none"), default="all")
    parser.add_argument("--only", default="")
    parser.add_argument("--each-kind", action="store_true", help="one configuration of each class and quantisation")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--no-freezing", action="store_true")
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--out", help="a file that takes one JSON object for each check")
    parser.add_argument("--and-of", nargs="*", default=[], help="files of earlier runs, whose checks count, too")
    parser.add_argument("--command", help="what the table calls its command, for several runs")
    parser.add_argument("--write-table", action="store_true")
    args = parser.parse_args(words)
    rows = [Found(**json.loads(line)) for file in args.and_of for line in Path(file).read_text().splitlines()]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        out = stack.enter_context(open(args.out, "w")) if args.out else None
        for row in all_rows(args, folder):
            rows.append(row)
            if row.status in BAD:
                print(row.status, row.case, row.form, row.check, row.what, row.detail[:300], flush=True)
            if out:
                print(json.dumps(vars(row)), file=out, flush=True)
    print(f"{len(rows)} after {time.monotonic() - began:.0f} s:", dict(Counter(r.status for r in rows)))
    if args.write_table:
        TABLE.write_text(table(rows, args.command or " ".join(["python -m tests.keras_suite.run", *words])))
    return 1 if any(r.status in BAD for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
