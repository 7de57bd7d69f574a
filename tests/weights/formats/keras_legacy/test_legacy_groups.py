"""The outermost layer of a weight, where the format does not tell it."""

from legacy_files import layer, model

from transferpipe.weights.formats.keras_legacy.ungrouped import UngroupedWeight, name_ungrouped, outermost_layers

CONFIG = model("root", model("one", layer("Dense", "a"), layer("Dense", "only")), model("two", layer("Dense", "a")))


def groups(*scopes, config=CONFIG):
    return [name for _, name in outermost_layers([tuple(s.split("/")) for s in scopes], config)]


def test_the_layer_that_the_scope_begins_with():
    assert groups("one", "two/a", "one/x/y") == ["one", "two", "one"]


def test_the_name_of_the_model_may_stand_before():
    assert groups("root/two/a") == ["two"]
    assert groups("other/two/a") == ["other"]


def test_the_only_layer_that_has_one_of_that_name_inside():
    assert groups("only", "a") == ["one", "a"]  # both have an `a`


def test_names_with_slashes():
    config = model("root", layer("Dense", "block/conv"), layer("Dense", "block"))
    assert groups("block/conv", "block", config=config) == ["block/conv", "block"]


def test_order_of_the_model_and_what_it_does_not_tell_of_at_the_end():
    stored = ["new/kernel", "two/a/kernel", "scale", "only/kernel", "new/bias"]
    named = name_ungrouped([UngroupedWeight(name, (2, 2)) for name in stored], CONFIG)
    assert [(k, name) for k, name, _ in named] == [
        *((2, "scale"), (3, "one/only/kernel"), (1, "two/a/kernel")),
        *((0, "new/kernel"), (4, "new/bias")),
    ]
