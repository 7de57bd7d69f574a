"""Transfer all that Keras's tests configure: ``python -m tests.keras_suite.run [--only WORD] [--shard 1/2] [--write-table]``.

It takes some twenty minutes on two cores. The exit status is 1 if anything is wrong, refused, named otherwise in a file
than in the model, or warned of without need.
"""

import argparse
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
from .harvest import harvest_layers, harvest_models

TABLE = Path(__file__).parent / "TABLE.md"
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


def one_of_each_kind(layers):
    """Return the configuration with the most arguments of each kind."""
    kinds = {}
    for name, configuration in sorted(layers.items(), key=lambda item: (-len(item[1].arguments), item[0])):
        kinds.setdefault(configuration.kind, (name, configuration))
    return dict(kinds.values())


def table(rows, unsuitable, command):
    """Return TABLE.md: what the checks came to, by kind of check and by class."""
    statuses = ("right", "said", "numbered", *BAD)
    lines = [
        "# What Keras's own tests configure, transferred",
        "",
        f"`{command}`, Keras {keras.__version__}, {len({r.case for r in rows})} configurations, {len(rows)} checks.",
        "*said*: Keras itself loses a freezing on loading, and that is said; *numbered*: a `.weights.h5` file whose",
        "numbers may stand for several names. *names* differ between file and model; *warned*: of a right transfer.",
        f"Keras cannot build, save and load {len(unsuitable)} models itself.",
    ]
    for title, key in (("check", lambda r: (r.form, r.check)), ("class", lambda r: (r.kind,))):
        lines += ["", f"| {title} | " + " | ".join(statuses) + " |", "|---|" + "---:|" * len(statuses)]
        for group in sorted({key(r) for r in rows}):
            counted = Counter(r.status for r in rows if key(r) == group)
            lines.append(f"| {', '.join(group)} | " + " | ".join(str(counted[s]) for s in statuses) + " |")
    bad = [f"* {r.status}: {r.case}, {r.form}, {r.check} {r.what}" for r in rows if r.status in BAD]
    return "\n".join([*lines, *(["", "Not right:", "", *bad] if bad else [])]) + "\n"


def main(argv=None):
    """Run the checks, print what is not right, and write the table where asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.keras_suite.run", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("layers", "models", "all"), default="all")
    parser.add_argument("--only", default="")
    parser.add_argument("--each-kind", action="store_true", help="one configuration of each class and quantisation")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--no-freezing", action="store_true")
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--out", help="a file that takes one JSON object for each check")
    parser.add_argument("--write-table", action="store_true")
    args = parser.parse_args(argv)
    number, shards = map(int, args.shard.split("/"))
    rows: list[Found] = []
    unsuitable: list[Found] = []
    out = open(args.out, "w") if args.out else None  # noqa: SIM115 -- for the whole run, however it ends
    began = time.monotonic()

    def take(found):
        rows.extend(found)
        for row in found:
            if row.status in BAD:
                print(row.status, row.case, row.form, row.check, row.what, row.detail[:300], flush=True)
            if out:
                out.write(json.dumps(vars(row)) + "\n")
                out.flush()

    with tempfile.TemporaryDirectory() as folder:
        if args.what != "models":
            layers = harvest_layers().layers
            print(f"{len(layers)} configurations after {time.monotonic() - began:.0f} s", flush=True)
            if args.each_kind:
                layers = one_of_each_kind(layers)
            chosen = [c for n, c in sorted(layers.items()) if args.only in c.text or args.only in n]
            for form in args.forms.split(","):
                for configuration in chosen[number - 1 :: shards]:
                    try:
                        take(check_layer(configuration, form, folder, freezing=not args.no_freezing))
                    except UnsuitableError as error:
                        unsuitable.append(
                            Found(
                                configuration.name,
                                configuration.layer_class.__name__,
                                form,
                                "",
                                "",
                                "keras",
                                str(error),
                            )
                        )
        if args.what != "layers":

            def use(model, name):
                if args.only not in name:
                    return
                subject = Subject(model, None, {}, Path(folder) / "subject")
                try:
                    take(list(check_model(subject, name, "model", "saved", freezing=False)))
                except UnsuitableError as error:
                    unsuitable.append(Found(name, "model", "saved", "", "", "keras", str(error)))

            harvest_models(use)
    if out:
        for row in unsuitable:
            out.write(json.dumps(vars(row)) + "\n")
    print(f"{len(rows)} checks after {time.monotonic() - began:.0f} s:", dict(Counter(r.status for r in rows)))
    print(f"{len(unsuitable)} that Keras cannot save and load itself")
    if args.write_table:
        words = sys.argv[1:] if argv is None else argv
        TABLE.write_text(table(rows, unsuitable, "python -m tests.keras_suite.run " + " ".join(words)))
    return 1 if any(r.status in BAD for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
