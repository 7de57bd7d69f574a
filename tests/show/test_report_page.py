"""The page of a run: what it says, and how it behaves in a browser where one is installed."""

import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser

import pytest
from markupsafe import escape

from transferpipe.codes import WARNINGS
from transferpipe.planning.model import Assignment, Freezing, Kept, PlanWarning, SourceRef, SourceWeight
from transferpipe.planning.plan import Plan
from transferpipe.recipe.model import Edit
from transferpipe.show.folded_layers import MOST, fold_layers, layer_called
from transferpipe.show.network_picture import MOST_PICTURES, fates_of, network_picture
from transferpipe.show.report_page import report_page

DIGEST = "xxh3:0123456789abcdef0123456789abcdef"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def plan_of(names, kept=(), transformed=(), **keys):
    """Return a plan that takes every weight but those in `kept` from its namesake."""
    step = ({"transpose": [1, 0]},)
    assignments = tuple(
        Assignment(n, "all", (SourceRef("source", n, (4, 4), "float32"),), (4, 4), "float32", "float32",
                   transforms=step if n in transformed else ())
        for n in names if n not in kept
    )  # fmt: skip
    stay = tuple(Kept(n, "head", "from: null", (4, 4), "float32") for n in names if n in kept)
    weights = tuple(SourceWeight("source", n, "unused" if n in kept else "used") for n in names)
    return Plan("mine", "zoo:net", {"source": "weights.h5"}, assignments, stay, weights, **keys)


def manifest_of(plan, names, **keys):
    assigned = {a.target: a for a in plan.assignments}
    entry = {"rule": "all", "shape": [4, 4], "dtype": "float32", "digest": DIGEST}
    weights = [{"name": n, "status": "assigned" if n in assigned else "kept", **entry} for n in names]
    artifact = {"path": "a b/model.keras", "bytes": 1234, "sha256": "ab" * 32, "freezing": "layers"}
    verdict = {"weights": "pass", "function": "not checked"}
    return {"verdict": verdict, "weights": weights, "artifacts": [artifact], "versions": {"numpy": "2.0"}, **keys}


def layers_of(picture):
    """Return the labels of all boxes of single layers on the right, through all pictures."""
    own = [box.label for box in picture.targets if box.opens is None]
    return own + [label for part in picture.inner for label in layers_of(part)]


class _Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


RESNET = [
    f"conv{stage}_block{block}_{part}/{own}"
    for stage, blocks in ((2, 3), (3, 8), (4, 36), (5, 3))
    for block in range(1, blocks + 1)
    for part in (*(["0_conv"] if block == 1 else []), "1_conv", "2_conv", "3_conv")
    for own in ("kernel", "bias")
]


# What it says -------------------------------------------------------------------------------------------------------


def test_the_head_says_who_asked_for_what():
    plan = plan_of(["a/kernel"])
    asked = {"command": ["transferpipe", "run", "name=a b"], "time": "2026-11-27T10:00:00+00:00"}
    git = {"git": {"commit": "c0ffee", "dirty": True}, "recipe_text": "name: mine\nfreeze: [a]\n"}
    texts = _Page(report_page(plan, manifest_of(plan, ["a/kernel"], **asked, **git))).texts
    for text in ("weights.h5", "zoo:net", "transferpipe run 'name=a b'", asked["time"], plan.checksum):
        assert text in texts
    assert "c0ffee, with changes to tracked files" in texts
    assert "name: mine\nfreeze: [a]\n" in texts
    assert "weights: pass" in texts and "function: not checked" in texts


def test_records_of_earlier_versions_say_less():
    plan = plan_of(["a/kernel"])
    page = report_page(plan, manifest_of(plan, ["a/kernel"]))
    assert "started" not in _Page(page).texts and "id=recipe" not in page


def test_warnings_of_one_code_stand_together_with_what_to_do():
    later = PlanWarning("outlier-value", "mapping.all", "odd value")
    warnings = tuple(PlanWarning("unused", "unused", f"number {k}") for k in range(8))
    plan = plan_of(["a/kernel"], warnings=warnings)
    told = [w.to_data() for w in (*warnings, later)]
    page = report_page(plan, manifest_of(plan, ["a/kernel"], warnings=told))
    texts = _Page(page).texts
    assert "unused (8)" in texts and "outlier-value (1)" in texts
    assert "unused: number 7" in texts and "mapping.all: odd value" in texts
    for code in ("unused", "outlier-value"):
        assert f" {WARNINGS[code].fix.replace('`', '')}" in "".join(texts)
        assert all(f"<code>{escape(word)}</code>" in page for word in WARNINGS[code].fix.split("`")[1::2])


def test_files_are_linked():
    plan = plan_of(["a/kernel"])
    links = [a["href"] for tag, a in _Page(report_page(plan, manifest_of(plan, ["a/kernel"]))).tags if tag == "a"]
    assert {"a%20b/model.keras", "plan.json", "manifest.json"} <= set(links)


@pytest.mark.parametrize(
    "bad", ["<script>alert(1)</script>", "' onload='alert(1)", '"><img src=x>', "a\x1b[31m\u202eb"]
)
def test_names_are_text_wherever_they_stand(bad):
    names = [f"{bad}/kernel", f"{bad}{bad}/kernel"]
    edit = Edit(bad, names[0], (0, 0), "set", 1.0)
    plan = plan_of(names, names[1:], edits=(edit,), warnings=(PlanWarning("unused", bad, bad),))
    more = {"recipe_text": bad, "command": [bad], "time": bad}
    plain = _Page(report_page(plan_of(["a/kernel", "aa/kernel"], ["aa/kernel"], edits=(Edit("e", "a/kernel", (0, 0), "set", 1.0),),
                                      warnings=(PlanWarning("unused", "u", "u"),)),
                              manifest_of(plan_of(["a/kernel"]), ["a/kernel", "aa/kernel"], recipe_text="r", command=["c"], time="t")))  # fmt: skip
    text = report_page(plan, manifest_of(plan, names, **more))
    found = _Page(text)
    assert [(tag, sorted(a)) for tag, a in found.tags] == [(tag, sorted(a)) for tag, a in plain.tags]
    assert all(c.isprintable() or c == "\n" for c in text)


# The picture --------------------------------------------------------------------------------------------------------


def test_fates_are_those_of_the_plan():
    plan = plan_of(
        ["a/kernel", "b/kernel", "c/kernel"], ["c/kernel"], ["b/kernel"],
        edits=(Edit("e", "c/kernel", (0, 0), "set", 1.0),), freezing=Freezing(frozen_weights=("a/kernel",)),
    )  # fmt: skip
    assert fates_of(plan) == {
        "a/kernel": ("assigned", "frozen"), "b/kernel": ("assigned", "transformed"), "c/kernel": ("kept", "edited"),
    }  # fmt: skip
    picture = network_picture(plan)
    assert [box.kind for box in picture.targets] == ["assigned frozen", "assigned transformed", "kept edited"]
    assert [flow.kind for flow in picture.flows] == ["assigned", "transformed"]


def test_a_weight_that_is_only_cast_is_transformed():
    ref = SourceRef("source", "a/kernel", (2,), "float64")
    cast = Assignment("a/kernel", "all", (ref,), (2,), "float32", "float64")
    plan = Plan("r", "t", {"source": "s"}, (cast,), (), (SourceWeight("source", "a/kernel", "used"),))
    assert fates_of(plan)["a/kernel"] == ("assigned", "transformed")


def test_kept_weights_stand_where_the_network_has_them():
    names = ["a/kernel", "b/kernel", "c/kernel"]
    picture = network_picture(plan_of(names, ["b/kernel"]), names)
    assert [box.label for box in picture.targets] == ["a", "b", "c"]


def test_equal_blocks_are_folded_and_open():
    picture = network_picture(plan_of(RESNET), RESNET)
    folded = {box.label: box for box in picture.targets}
    assert [*folded] == [
        "conv2_block1", "conv2_block{2..3}", "conv3_block1", "conv3_block{2..8}", "conv4_block1",
        "conv4_block{2..36}", "conv5_block1", "conv5_block{2..3}",
    ]  # fmt: skip
    assert folded["conv4_block{2..36}"].text == "35 equal blocks, 105 layers, 210 weights: assigned"
    assert {part.number for part in picture.inner} == {box.opens for box in picture.targets}
    assert Counter(layers_of(picture)) == Counter(dict.fromkeys((n.rpartition("/")[0] for n in RESNET), 1))


@pytest.mark.parametrize(
    "names",
    [
        [f"dense_{k}" for k in range(900)],
        [f"x{k * 7919 % 1009}y" for k in range(500)],
        [f"encoder.layer.{k}.{part}" for k in range(48) for part in ("q", "k", "v")],
        ["/" * k for k in range(1, 200)],
        [chr(0x4E00 + k) for k in range(300)],
    ],
    ids=["numbers", "mixed", "torch", "slashes", "no common parts"],
)
def test_folding_loses_nothing_and_ends(names):
    def check(layers):
        groups = fold_layers(layers)
        assert [layer for group in groups for layer in group.layers] == layers
        assert len(groups) <= MOST and (len(groups) > 1 or len(layers) == 1)
        for group in groups:
            if len(group.layers) > 1:
                check([*group.layers])

    check([layer_called(name, [("assigned",)]) for name in names])


def test_blocks_that_differ_in_what_becomes_of_them_are_not_one():
    layers = [layer_called(f"b{k}/{p}", [("kept" if k == 20 else "assigned",)]) for k in range(40) for p in "xy"]
    assert [group.label for group in fold_layers(layers)] == ["b{0..19}", "b20", "b{21..39}"]


def test_of_many_layers_the_outermost_pictures_are_drawn_and_the_page_says_what_is_not():
    names = [f"blocks/{k // 10}/layer{k % 10}/kernel" for k in range(4000)]
    plan = plan_of(names)
    picture = network_picture(plan, names)

    def parts(one):
        return [one, *(p for part in one.inner for p in parts(part))]

    drawn = parts(picture)
    assert len(drawn) == MOST_PICTURES
    assert sorted(p.number for p in drawn) == [*range(MOST_PICTURES)]
    opened = [box.opens for p in drawn for box in p.targets if box.opens is not None]
    assert sorted(opened) == sorted(part.number for p in drawn for part in p.inner)
    assert all(box.opens is not None for box in (*picture.targets, *picture.sources))
    several = [b for p in drawn for b in (*p.sources, *p.targets) if " layers, " in b.text and b.opens is None]
    page = report_page(plan, manifest_of(plan, names))
    assert picture.closed == len(several) > 0
    assert f"{picture.closed} boxes without it hold several layers as well" in page
    assert all(f"<td>{name}</td>" in page for name in names)
    assert len(page) < 400 * len(names) + 1_500_000


# As people with a keyboard or a screen reader have it ----------------------------------------------------------------


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # WCAG 2.2, relative luminance


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture(scope="module")
def small_page():
    names = ["a/kernel", "b/kernel"]
    plan = plan_of(names, ["b/kernel"], warnings=(PlanWarning("unused", "unused", "b"),))
    return report_page(plan, manifest_of(plan, names, recipe_text="name: mine"))


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read(small_page, dark):
    colours = {}
    for before, block in re.findall(r"(@media[^{]*\{)?\s*:root \{([^}]*)\}", small_page):
        if dark or not before:
            colours |= dict(re.findall(r"--([\w-]+): (#\w+)", block))
    pairs = [(ink, back) for back in ("back", "box") for ink in ("ink", "muted", "link", "blue", "orange", "violet")]
    for ink, back in [*pairs, ("on-good", "good"), ("on-bad", "bad"), ("ink", "open"), ("ink", "ice")]:
        assert contrast(colours[ink], colours[back]) >= 4.5, (ink, back)


def test_parts_have_names(small_page):
    page = _Page(small_page)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        if tag == "section":
            assert attributes["aria-labelledby"] in ids
        if attributes.get("role") in ("region", "group") or tag in ("nav", "figure"):
            assert attributes["aria-label"]
        if "scroll" in (attributes.get("class") or "").split():
            assert attributes["tabindex"] == "0"
        if tag == "a" and attributes["href"].startswith("#"):
            assert attributes["href"][1:] in ids
    tags = Counter(tag for tag, _ in page.tags)
    assert (tags["main"], tags["header"], tags["nav"], tags["h1"]) == (1, 1, 1, 1)
    assert tags["label"] == tags["input"] + tags["select"] == 2
    assert ("html", {"lang": "en"}) in page.tags


# In a browser -------------------------------------------------------------------------------------------------------

MANY = [f"encoder/layer_{k}/{part}/{own}" for k in range(250) for part in "abcdefghij" for own in ("kernel", "bias")]
_HARNESS = """<!doctype html><pre id=out></pre><script>
const text = TEXT, found = {};
const look = (name, width, then) => {
  const frame = document.createElement('iframe');
  frame.width = width; frame.height = 800;
  const started = performance.now();
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    found[name] = {height: root.scrollHeight, over: root.scrollWidth - root.clientWidth,
      loaded: performance.now() - started,
      requests: frame.contentWindow.performance.getEntriesByType('resource').length, ...(then ? then(page) : {})};
    document.getElementById('out').textContent = JSON.stringify(found);
  };
  frame.srcdoc = text;
  document.body.append(frame);
};
look('narrow', 390);
look('wide', 1200, page => {
  const find = id => page.getElementById(id), rows = () => find('rows').rows.length;
  const change = (id, value) => {
    find(id).value = value;
    find(id).dispatchEvent(new Event('input'));
    return find('shown').textContent;
  };
  const answers = {first: find('shown').textContent, rows: rows()};
  const started = performance.now();
  answers.search = change('search', 'LAYER_17/ kernel');
  answers.took = performance.now() - started;
  answers.names = [...find('rows').rows].map(row => row.cells[0].textContent);
  answers.nothing = change('search', 'nowhere');
  change('search', '');
  answers.fates = Object.fromEntries([...find('fate').options].map(o => [o.textContent, change('fate', o.value)]));
  change('fate', '');
  find('next').click();
  answers.second = [find('shown').textContent, find('rows').rows[0].cells[0].textContent];
  const link = page.querySelector('.box a'), part = page.querySelector(link.getAttribute('href')).closest('details');
  const before = part.open, hidden = part.getClientRects().length === 0;
  link.focus();
  const focused = page.activeElement === link;
  link.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}));
  answers.opened = [focused, before, hidden, part.open, page.activeElement.id === link.getAttribute('href').slice(1)];
  return answers;
});
</script>"""


@pytest.fixture(scope="module")
def in_browser(tmp_path_factory):
    """Return what a browser finds of the page of 5,000 weights, and what it has to complain of."""
    if BROWSER is None:
        pytest.skip("no browser is installed")
    kept, frozen = set(MANY[-40:]), tuple(MANY[:1000])
    plan = plan_of(MANY, kept, MANY[100:300:2], freezing=Freezing(frozen_weights=frozen))
    text = report_page(plan, manifest_of(plan, MANY))
    folder = tmp_path_factory.mktemp("page")
    (folder / "harness.html").write_text(_HARNESS.replace("TEXT", json.dumps(text).replace("</", "<\\/")))
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={folder}/p",
         "--dump-dom", (folder / "harness.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    answers = re.search('<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert answers and answers[1], done.stderr
    return json.loads(answers[1].replace("&gt;", ">").replace("&amp;", "&")), done.stderr


def test_a_browser_has_nothing_to_complain_of(in_browser):
    found, said = in_browser
    assert "CONSOLE" not in said
    assert [found[name]["requests"] for name in ("narrow", "wide")] == [0, 0]


def test_the_page_of_many_weights_is_short_and_as_wide_as_a_phone(in_browser):
    found, _ = in_browser
    assert found["narrow"]["height"] < 6000 and found["wide"]["height"] < 4000
    assert found["narrow"]["over"] <= 0 and found["wide"]["over"] <= 0


def test_weights_are_found(in_browser):
    wide = in_browser[0]["wide"]
    assert (wide["first"], wide["rows"]) == ("1 to 100 of 5,000 weights", 100)
    assert wide["search"] == "1 to 10 of 10 weights, of 5,000 in all"
    assert wide["names"] == [n for n in MANY if "layer_17/" in n and "kernel" in n]
    assert wide["nothing"] == "0 weights, of 5,000 in all"
    assert wide["second"] == ["101 to 200 of 5,000 weights", MANY[100]]
    assert wide["took"] < 2000


def test_weights_are_filtered_by_fate(in_browser):
    assert in_browser[0]["wide"]["fates"] == {
        "all (5000)": "1 to 100 of 5,000 weights",
        "assigned (4960)": "1 to 100 of 4,960 weights, of 5,000 in all",
        "transformed (100)": "1 to 100 of 100 weights, of 5,000 in all",
        "kept (40)": "1 to 40 of 40 weights, of 5,000 in all",
        "frozen (1000)": "1 to 100 of 1,000 weights, of 5,000 in all",
    }


def test_what_is_folded_opens(in_browser):
    assert in_browser[0]["wide"]["opened"] == [True, False, True, True, True]
