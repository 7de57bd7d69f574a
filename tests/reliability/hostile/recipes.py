"""Recipes that want more than data may want."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from .case import COMMAND, HERE, INVALID, UNREADABLE, UNSAFE, Case, Pair, RecipeText, recipe_case, write_recipe

SECRET = "TRANSFERPIPE_CANARY"
ANY = (INVALID, UNREADABLE, UNSAFE)
# Where a text can stand in a recipe: the line, what else the place needs, and a harmless text for it.
PLACES = {
    "source.path": ("source: {path: %s}", "a.keras"),
    "source.sha256": ("source: {path: a.keras, sha256: %s}", None),
    "target.path": ("target: {path: %s}", "t.keras"),
    "save.path": ("save: {path: %s}", "model.keras"),
    "save.also": ("save: {path: model.keras, also: [%s]}", "more.npz"),
    "save.like": ("save: {path: model.npz, like: {path: %s}}", "like.npz"),
    "save.names": ('save: {path: model.npz, names: {".*": %s}}', None),
    "name": ("name: %s", "a_name"),
    "mapping.to": ("mapping: {all: {to: %s}}", ".*"),
    "mapping.from": ('mapping: {all: {to: "(?P<n>.*)", from: %s}}', r"'\1'"),
    "ignore": ("ignore: [%s]", '"d0/.*"'),
    "freeze": ("freeze: [%s]", "d0"),
    "allow": ("allow: [%s]", "unused"),
    "vars": ("vars: {v: %s}", "text"),
    "sweep.title": ("sweep: {title: %s}", "text"),
    "builder": ("target: {_target_: my_models.build, note: %s}", "text"),
    "builder, nested": ("target: {_target_: my_models.build, note: {a: [1, %s]}}", "text"),
    "score": ("score: {_target_: my_models.score, note: %s}", "text"),
}  # fmt: skip
_BASE = RecipeText()
_OF_KERAS = ("builder", "builder, nested", "score")


def pair(name: str, hostile: str, twin: str, statuses: tuple[int, ...] = (UNSAFE,), **more: object) -> Pair:
    """Return a recipe with hostile lines, and its twin."""
    return Pair(
        recipe_case(name, _BASE.with_lines(hostile), statuses, **more),  # type: ignore[arg-type]
        recipe_case(f"twin of {name}", _BASE.with_lines(twin), (0,), **more),  # type: ignore[arg-type]
    )


def at_place(kind: str, place: str, value: str, statuses: tuple[int, ...]) -> Pair | None:
    """Return a recipe with a hostile value in one place."""
    line, harmless = PLACES[place]
    if harmless is None:
        return None
    # The archives made by hand are no models that Keras loads, which a score is given.
    words = ("plan" if place == "score" else "run", "recipe=k")
    return pair(f"{kind} in {place}", (line % value) + HERE, line % harmless, statuses, words=words, needs_keras=place in _OF_KERAS)  # fmt: skip


def hydra_keys() -> Iterator[Pair]:
    """Hydra's own part, in all the ways in which a file could reach it."""
    contents = {
        "callback": "callbacks: {c: {_target_: os.system, command: '%s'}}" % COMMAND,
        "launcher": "launcher: {_target_: os.system}",
        "sweeper": "sweeper: {_target_: subprocess.Popen, args: [touch, ../ran]}",
        "searchpath": "searchpath: ['file:///tmp', 'pkg://os']",
        "run dir": "run: {dir: ../outside/run}",
        "absolute run dir": "run: {dir: /tmp/x}",
        "sweep dir": "sweep: {dir: ../outside, subdir: x}",
        "job logging": "job_logging: {version: 1, handlers: {h: {'()': os.system, command: '%s'}}}" % COMMAND,
        "hydra logging": "hydra_logging: {version: 1, handlers: {h: {class: logging.FileHandler, filename: ../ran}}}",
        "environment set": "job: {env_set: {PATH: /evil}}",
        "environment copied": "job: {env_copy: [%s]}" % SECRET,
        "chdir": "job: {chdir: true}",
        "output folder": "output_subdir: ../outside",
        "mode": "mode: MULTIRUN",
        "help": "help: {template: '${oc.env:%s}'}" % SECRET,
    }
    twin = "vars: {callbacks: 1, run: {dir: x}}"
    for name, content in contents.items():
        yield pair(f"hydra: {name}", f"hydra: {{{content}}}{HERE}", twin)
        yield pair(f"quoted hydra: {name}", f'"hydra": {{{content}}}{HERE}', twin)
        header = f"# @package hydra\n{content}{HERE}\n"
        base = "defaults: [%s, _self_]"
        plain = write_recipe("vars: {v: 1}\n", "recipe/base.yaml")
        files = (write_recipe(header, "recipe/base.yaml"),)
        yield Pair(
            recipe_case(
                f"package of what it builds on: {name}", _BASE.with_lines(base % "base", first=True),
                files=files, where="recipes/recipe/base.yaml"),
            recipe_case("twin", _BASE.with_lines(base % "base", first=True), (0,), files=(plain,)),
        )  # fmt: skip
    for name in ("callback", "run dir", "environment set", "searchpath"):
        inner = contents[name]
        moved = f"# @package _global_.hydra\n{inner}\n"
        ways = {
            "package below the top": (moved, "base"),
            "package chosen by who builds on it": (f"{inner}\n", "base@hydra"),
            "package chosen from the top": (f"{inner}\n", "base@_global_.hydra"),
            "a key of what it builds on": (f"hydra: {{{inner}}}\n", "base"),
        }
        for way, (text, chosen) in ways.items():
            yield Pair(
                recipe_case(
                    f"{way}: {name}", _BASE.with_lines(f'defaults: ["{chosen}", _self_]', first=True),
                    files=(write_recipe(text, "recipe/base.yaml"),), where="recipes/"),
                recipe_case("twin", _BASE.with_lines(base % "base@vars", first=True), (0,),
                            files=(write_recipe("v: 1\n", "recipe/base.yaml"),)),
            )  # fmt: skip
        yield pair(f"alias: {name}", f"vars: &h {{{inner}}}\nhydra: *h{HERE}", "vars: &h {a: 1}\nname: x")
        yield pair(f"merge: {name}", f"vars: &h {{hydra: {{{inner}}}}}{HERE}\n<<: *h", "vars: &h {a: 1}\nname: x")
        yield pair(f"tagged key: {name}", f"!!str hydra: {{{inner}}}{HERE}", "!!str name: x")
        yield pair(f"escaped key: {name}", f'"\\x68ydra": {{{inner}}}{HERE}', '"\\x6eame": x')
    for group in ("launcher", "sweeper", "job_logging", "hydra_logging", "help", "output", "env"):
        for way in (f"override hydra/{group}: evil", f"hydra/{group}: evil", f"override /hydra/{group}: disabled"):
            evil = write_recipe("_target_: os.system\n", f"hydra/{group}/evil.yaml")
            yield Pair(
                recipe_case(f"defaults, {way}", _BASE.with_lines(f"defaults: [{way}, _self_]{HERE}", first=True),
                            (UNSAFE, INVALID), files=(evil,), where="recipes/"),
                recipe_case("twin", _BASE.with_lines("defaults: [_self_]", first=True), (0,)),
            )  # fmt: skip


def sweep_axes() -> Iterator[Pair]:
    """What a sweep in a recipe could vary, and how often."""
    words = ("sweep", "recipe=k")
    keys = ("hydra.run.dir", "hydra.launcher", "hydra/launcher", "+hydra.callbacks.c._target_", "hydra.job.env_set.A",
            "hydra.searchpath", "++hydra.sweep.dir", "hydra@x")  # fmt: skip
    for key in keys:
        for form, twin in (
            ("sweep: {axes: {'%s': [a, b]}}", "seed: [1, 2]"),
            ("sweep: {variants: {one: {'%s': a}}}", None),
            ("sweep: {axes: {seed: [1, 2]}, when: {seed: {'%s': a}}}", None),
        ):
            if twin is None and form.count("when") and "hydra." not in key:
                continue
            harmless = {"axes": "sweep: {axes: {seed: [1, 2]}}", "variants": "sweep: {variants: {one: {seed: 1}}}"}
            good = harmless["variants" if "variants" in form else "axes"]
            yield pair(f"sweep over {key}, {form[8:20]}", form % key + HERE, good, (UNSAFE, INVALID), words=words)
    bombs = {
        "one long axis": "sweep: {axes: {seed: 'range(1000000000)'}}",
        "a product": "sweep: {axes: {%s}}" % ", ".join(f"vars.v{i}: 'range(1000)'" for i in range(9)),
        "just too many": "sweep: {axes: {seed: 'range(201)'}}",
        "a limit of its own": "sweep: {limit: 1000000000, axes: {seed: 'range(300)'}}",
        "an infinite limit": "sweep: {limit: .inf, axes: {seed: 'range(300)'}}",
        "a negative step": "sweep: {axes: {seed: 'range(0,1e18,1e-9)'}}",
        "many variants": "sweep: {variants: {%s}}" % ", ".join(f"v{i}: {{seed: {i}}}" for i in range(300)),
    }
    for name, line in bombs.items():
        text = ("vars: {%s}\n" % ", ".join(f"v{i}: 1" for i in range(9))) + line + HERE
        yield pair(
            f"cap on variants: {name}", text, "sweep: {axes: {seed: 'range(2)'}}", (UNSAFE, INVALID), words=words
        )


def environment() -> Iterator[Pair]:
    """The environment, read into a recipe."""
    forms = {
        "oc.env": "'${oc.env:%s}'" % SECRET,
        "oc.env with a default": "'${oc.env:%s,x}'" % SECRET,
        "oc.env in a text": "'a${oc.env:%s}b'" % SECRET,
        "oc.decode": "'${oc.decode:${oc.env:%s}}'" % SECRET,
        "a name made of parts": "'${oc.${vars.e}:%s}'" % SECRET,
        "env": "'${env:%s}'" % SECRET,
    }
    for kind, place in itertools.product(forms, PLACES):
        if kind in ("oc.env", "oc.decode") or place in ("name", "save.path", "builder", "vars"):
            statuses = (UNSAFE,) if kind.startswith("oc.") else ANY
            line, harmless = PLACES[place]
            if harmless is not None:
                more = "vars: {e: env}\n" if place != "vars" and "parts" in kind else ""
                text = more + (line % forms[kind]) + HERE
                words = ("plan" if place == "score" else "run", "recipe=k")
                yield pair(f"{kind} in {place}", text, line % harmless, statuses, words=words, needs_keras=place in _OF_KERAS)  # fmt: skip


def yaml_objects() -> Iterator[Pair]:
    """Tags that make objects."""
    tags = {
        "apply": f"!!python/object/apply:os.system ['{COMMAND}']",
        "new": "!!python/object/new:subprocess.Popen [[touch, ../ran]]",
        "name": "!!python/name:os.system",
        "module": "!!python/module:os",
        "verbatim": f"!<tag:yaml.org,2002:python/object/apply:os.system> ['{COMMAND}']",
        "own": "!Evil {a: 1}",
        "binary": "!!binary aGFsbG8=",
        "set": "!!set {a, b}",
    }
    for kind, tag in tags.items():
        for place in ("source.path", "vars", "mapping.to", "builder"):
            if found := at_place(f"tag, {kind}", place, tag, (INVALID, UNSAFE)):
                yield found
        yield pair(f"tag, {kind}, as a key's value at the top", f"name: {tag}{HERE}", "name: x", (INVALID, UNSAFE))
    directive = "%TAG !e! tag:yaml.org,2002:python/object/apply:\n---\nvars: !e!os.system ['x']" + HERE
    text = _BASE.with_lines(directive, first=True)
    twin = _BASE.with_lines("---\nvars: {a: 1}", first=True)
    yield Pair(recipe_case("tag, by a directive", text, (INVALID, UNSAFE)), recipe_case("twin", twin, (0,)))


def unreadable_values() -> Iterator[Pair]:
    """Values and keys at which YAML's constructors or OmegaConf's grammar stop."""
    for tag in ("!!float os", "!!int 0x", "!!int ''", "!!bool 7", "!!map x", "!!seq x", "!!str {a: 1}", "!!int [1]"):
        yield pair(f"tag of another type, {tag}", f"vars: {{v: {tag}}}{HERE}", "vars: {v: !!int 3}", (INVALID,))
    yield pair("an integer without digits", f"seed: 0x_{HERE}", "seed: 0x1", (INVALID,))
    for key in ("null", "~", "!!float os", "!!null ''"):
        yield pair(f"key, {key}", f"vars: {{{key}: 1}}{HERE}", "vars: {!!str a: 1}", (INVALID,))
    for key in (
        "1.5",
        "7",
        "1e5",
        "0x10",
        "yes",
        "2026-11-28",
        "2026-11-28T10:00:00",
        ".inf",
        "''",
        "'a, b'",
        "[a]",
        "{a: b}",
    ):
        yield pair(f"key, {key}", f"{key}: 1{HERE}", "name: x", (INVALID,))
    for text in ("${", "${}", "${vars.[}", "${vars.a", "${:x}", "$${", "${a b}", "${x:[}"):
        for place in ("vars", "source.path", "mapping.to", "freeze", "builder", "score"):
            if found := at_place(f"interpolation, {text}", place, f"'{text}'", (INVALID,)):
                yield found


def bombs() -> Iterator[Pair]:
    """A few bytes that stand for very many, or very deep ones."""
    tens = "\n".join(f"  b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 10)}]" for i in range(1, 9))
    maps = "\n".join(f"  b{i}: &b{i} {{{', '.join(f'k{j}: *b{i - 1}' for j in range(10))}}}" for i in range(1, 9))
    merges = "\n".join(f"  b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * 10)}], k{i}: 1}}" for i in range(1, 9))
    texts = "\n".join(f"  b{i}: '{f'${{vars.b{i - 1}}}' * 10}'" for i in range(1, 10))
    lists = "\n".join(f"  b{i}: [{', '.join([f'${{vars.b{i - 1}}}'] * 10)}]" for i in range(1, 10))
    small = "vars: {a: &x [1, 2], b: *x, c: '${vars.a}'}"
    for name, text in {
        "aliases of lists": f"vars:\n  b0: &b0 [x]\n{tens}",
        "aliases of mappings": f"vars:\n  b0: &b0 {{x: 1}}\n{maps}",
        "merged mappings": f"vars:\n  b0: &b0 {{x: 1}}\n{merges}",
        "interpolated texts": f"vars:\n  b0: xxxxxxxxxx\n{texts}",
        "interpolated lists": f"vars:\n  b0: [x]\n{lists}",
        "an alias inside of itself": "vars: &a {b: *a}",
        "an alias of a list in itself": "vars: {b: &a [1, *a]}",
        "deep lists": "vars: {a: %s1%s}" % ("[" * 5000, "]" * 5000),
        "deep mappings": "vars: %s1%s" % ("{a: " * 5000, "}" * 5000),
        "deep blocks": "vars:\n" + "\n".join(f"{' ' * i}a:" for i in range(1, 300)) + " 1",
        "33 levels": "vars: {a: %s1%s}" % ("[" * 33, "]" * 33),
        "very many keys": "vars: {%s}" % ", ".join(f"k{i}: 1" for i in range(25_000)),
        "very many rules": "mapping: {%s}" % ", ".join(f"k{i}: {{to: x}}" for i in range(25_000)),
        "a large file": "vars: {a: '%s'}" % ("x" * 2_000_000),
        "a large comment": "#" * 2_000_000 + "\nvars: {a: 1}",
        "interpolations in a ring": "vars: {a: '${vars.b}', b: '${vars.a}'}",
    }.items():
        yield pair(f"bomb: {name}", text, small, (UNSAFE, INVALID))


def odd_texts() -> Iterator[Pair]:
    """Characters and lengths that no name has."""
    texts = {
        "NUL": r'"a\0b"',
        "escape": r'"a\e[31mb"',
        "title": r'"\e]0;evil\a"',
        "newline": r'"a\nmodel written: yes"',
        "carriage return": r'"a\rok"',
        "bidi": r'"a\u202Egpj.keras"',
        "isolate": r'"\u2066a\u2069"',
        "surrogate": r'"a\uD800b"',
        "delete": r'"a\x7F\x9b31m"',
        "long": '"%s"' % ("x" * 5000),
        "very long": '"%s"' % ("ab/" * 50_000),
    }
    for kind, place in itertools.product(texts, ("source.path", "target.path", "save.path", "save.also", "name")):
        if found := at_place(f"text, {kind}", place, texts[kind], ANY):
            yield found
    for kind in ("NUL", "surrogate", "escape", "bidi"):
        for place in ("mapping.to", "mapping.from", "freeze", "builder"):
            kept = place != "builder" or kind in ("NUL", "surrogate")
            if kept and (found := at_place(f"text, {kind}", place, texts[kind], ANY)):
                yield found


def big_numbers() -> Iterator[Pair]:
    """Numbers that Python would take for ever with, or that no machine has room for."""
    numbers = {
        "400 digits": "9" * 401,
        "5,000 digits": "9" * 5000,
        "hexadecimal": "0x" + "f" * 5000,
        "float of 5,000 digits": "1." + "1" * 5000,
        "sexagesimal": "1" + ":59" * 3000,
        "30 digits": "9" * 30,
        "huge exponent": "1.0e+400",
        "infinity": ".inf",
        "not a number": ".nan",
    }
    lines = {
        "seed": ("seed: %s", "seed: 3"),
        "an index": ("edit: {e: {at: d0/bias, index: [%s], set: 1}}", "edit: {e: {at: d0/bias, index: [1], set: 1}}"),
        "shards": ("save: {path: m.safetensors, shard: %s}", "save: {path: m.safetensors, shard: 1000000}"),
    }
    for kind, (line, twin) in itertools.product(numbers, lines.values()):
        words = ("sweep", "recipe=k") if "limit" in line else ("run", "recipe=k")
        yield pair(f"number, {kind}: {line[:20]}", line % numbers[kind] + HERE, twin, (UNSAFE, INVALID), words=words)
    for kind in ("400 digits", "5,000 digits", "hexadecimal"):
        yield pair(f"number, {kind}, for a builder", f"target: {{_target_: my_models.build, units: {numbers[kind]}}}{HERE}",
                   "target: {_target_: my_models.build, units: 3}", (UNSAFE, INVALID), needs_keras=True)  # fmt: skip


def paths() -> Iterator[Pair]:
    """Places outside of where a recipe may write, and what must not be read."""
    outside = {
        "up": "../outside/x%s", "up and in": "a/../../outside/x%s", "absolute": "/tmp/x%s", "home": "~/x%s", "a link": "link/x%s",
        "proc": "/proc/self/x%s", "device": "/dev/shm/x%s", "double slash": "//tmp/x%s", "drive": "'C:\\x%s'",
        "backslashes": "'..\\outside\\x%s'", "server": "'\\\\server\\x%s'", "address": "file:///tmp/x%s", "dots": "a/.../../..%s",
    }  # fmt: skip
    for kind, path in outside.items():
        for line, twin in (
            ("save: {path: %s}", "save: {path: model.keras}"),
            ("save: {path: model.keras, also: [%s]}", "save: {path: model.keras, also: [more.keras]}"),
        ):
            # `link` is a link out of the folder in which recipes lie; what a run writes lies in a folder of its own.
            statuses = (UNSAFE,) if kind != "a link" else (0,)
            if kind != "a link":
                yield pair(f"written, {kind}: {line[:12]}", line % (path % ".keras") + HERE, twin, statuses)
        if kind != "a link":
            yield pair(f"name of the run, {kind}", f"name: {path % ''}{HERE}", "name: x", (UNSAFE, INVALID))
    read = {
        "environment of the process": "/proc/self/environ",
        "memory of the process": "/proc/self/mem",
        "zeros without an end": "/dev/zero",
        "random numbers": "/dev/urandom",
        "terminal": "/dev/tty",
        "standard input": "/dev/stdin",
        "descriptor": "/proc/self/fd/0",
        "folder": "/proc",
        "secret": "../outside/secret.txt",
        "link to a secret": "link/secret.txt",
        "passwords": "/etc/passwd",
    }
    for kind, path in read.items():
        for line, harmless in (
            ("source: {path: %s}", "a.keras"),
            ("target: {path: %s}", "t.keras"),
            ("save: {path: model.npz, like: {path: %s}}", "like.npz"),
        ):
            yield pair(f"read, {kind}: {line[:12]}", line % path + HERE, line % harmless, ANY)


def addresses() -> Iterator[Pair]:
    """This machine and private networks."""
    hosts = (
        "127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost", "localhost.", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]",
        "0.0.0.0", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "[fe80::1]", "[fd00::1]", "100.64.0.1",
        "user@127.0.0.1", "example.com@127.0.0.1", "127.0.0.1:22", "metadata.google.internal", "printer.local", "[::]",
    )  # fmt: skip
    for host in hosts:
        yield pair(f"address, {host}", f"source: {{path: 'http://{host}/a.keras'}}{HERE}", "source: {path: a.keras}",
                   (UNSAFE, INVALID))  # fmt: skip
    for scheme in ("ftp://example.com/", "gopher://example.com/", "file:///etc/", "data:text/plain,", "javascript:", "ssh://h/",
                   "http://example.com/", "https://localhost/", "s3://../"):  # fmt: skip
        yield pair(f"scheme, {scheme}", f"source: {{path: '{scheme}a.keras'}}{HERE}", "source: {path: a.keras}", ANY)
    for text in (
        "s3://bucket/../a.keras",
        "s3://bucket/a/./b.keras",
        "gs://../a.keras",
        "s3://bucket",
        "gs://bucket:9/a.keras",
    ):
        yield pair(f"object, {text}", f"source: {{path: '{text}'}}{HERE}", "source: {path: a.keras}", ANY)
    for place in ("target", "save: {path: m.npz, like"):
        text = f"{place}: {{path: 'http://169.254.169.254/a.keras'}}"
        text += "}" if "save" in place else ""
        good = f"{place}: {{path: like.npz}}}}" if "save" in place else f"{place}: {{path: t.keras}}"
        yield pair(f"address in {place[:6]}", text + HERE, good, (UNSAFE, INVALID))


def builder_arguments() -> Iterator[Pair]:
    """What a builder that a recipe may name could be made to do by its arguments."""
    net = "keras.applications.MobileNetV2"
    small = "input_shape: [32, 32, 3], alpha: 0.35, classes: 2"
    weights = {
        "a path outside": "../outside/secret.txt",
        "an absolute path": "/etc/passwd",
        "the environment": "/proc/self/environ",
        "a device": "/dev/zero",
        "an address": "http://169.254.169.254/x.h5",
        "a pickle": "evil.pkl",
        "a link": "link/secret.txt",
        "a mapping": "{class_name: Lambda, config: {}}",
        "a list": "[1, 2]",
        "a number": "7",
        "a zero byte": r'"a\0b.h5"',
    }
    good = f"target: {{_target_: {net}, weights: null, {small}}}\nmapping: {{none: null}}\nunmatched: keep"

    def pickled(folder: Path) -> None:
        (folder / "evil.pkl").write_bytes(f"cposix\nsystem\n(S'{COMMAND}'\ntR.".encode())

    for kind, value in weights.items():
        text = f"target: {{_target_: {net}, weights: {value}, {small}}}{HERE}\nmapping: {{none: null}}\nunmatched: keep"
        yield pair(f"weights, {kind}", text, good, ANY, needs_keras=True, files=(pickled,))
    arguments = {
        "classes": "classes: 1000000000",
        "a shape": "input_shape: [100000000, 100000000, 3]",
        "a factor": "alpha: 1.0e+30",
        "an infinite factor": "alpha: .inf",
        "a mapping that Keras makes an object of": "input_tensor: {class_name: Lambda, module: keras.layers, config: {}}",
        "a mapping with a module": "classifier_activation: {module: os, class_name: function, config: system}",
        "a lambda": "classifier_activation: {class_name: __lambda__, config: {code: eA==}}",
    }
    for kind, argument in arguments.items():
        text = f"target: {{_target_: {net}, weights: null, {argument}}}{HERE}\nmapping: {{none: null}}\nunmatched: keep"
        yield pair(f"argument, {kind}", text, good, ANY, needs_keras=True)
    hub = "keras_hub.models.Backbone.from_preset"
    for kind, value in {"an address of this machine": "http://127.0.0.1/x", "a file": "file:///etc/passwd", "a path": "/etc/passwd",
                        "a scheme": "ftp://x/y", "a secret": "../outside/secret.txt", "huge": "9" * 5000}.items():  # fmt: skip
        text = f"target: {{_target_: {hub}, preset: '{value}'}}{HERE}\nmapping: {{none: null}}"
        yield pair(f"preset, {kind}", text, good, ANY, needs_keras=True)
    own = {
        "a configuration of code": "note: {class_name: Lambda, module: keras.layers, config: {}}",
        "a configuration of another's": "note: {class_name: Popen, module: subprocess, config: {}}",
        "code deep inside": "note: [[{a: {class_name: TFSMLayer, module: keras.layers, config: {}}}]]",
    }
    for kind, argument in own.items():
        yield pair(f"own builder, {kind}", f"target: {{_target_: my_models.build, {argument}}}{HERE}",
                   "target: {_target_: my_models.build, note: {class: a}}", needs_keras=True)  # fmt: skip


def hostile_recipes() -> Iterator[Pair]:
    """Yield all of them."""
    for kind in (hydra_keys, sweep_axes, environment, yaml_objects, unreadable_values, bombs, odd_texts, big_numbers, paths, addresses,
                 builder_arguments):  # fmt: skip
        yield from kind()


__all__ = ["Case", "hostile_recipes"]
