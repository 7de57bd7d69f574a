"""The order of a walk, recovered from a file that lists its groups by name."""

from hypothesis import given
from hypothesis import strategies as st

from transferpipe.weights.formats.keras.order import walk_order


def order(*paths, listed=None, links=None):
    """Return the order of `paths`, written to the file one after the other."""
    return walk_order({p: k for k, p in enumerate(paths)}, listed, links)


def test_attributes_go_by_name_and_private_ones_last():
    assert order("_b", "z", "", "a", "Z") == ["", "Z", "a", "z", "_b"]


def test_a_layer_comes_before_its_parts():
    assert order("a/z", "a/b", "a", "a/b/c") == ["a", "a/b", "a/b/c", "a/z"]


def test_in_a_list_the_numbers_decide_within_a_class_and_the_place_between_classes():
    paths = [f"layers/{c}{n}" for n in ("", *(f"_{k}" for k in range(1, 12))) for c in ("conv2d", "dense")]
    assert order(*paths) == paths
    # Two of a class that HDF5 wrote in the wrong order keep to their numbers.
    assert order("l/a_1", "l/b", "l/a") == ["l/a", "l/b", "l/a_1"]


def test_the_configurations_list_decides_where_it_is_whole():
    paths = ("layers/a", "layers/b", "layers/b/x", "layers/c")
    assert order(*paths, listed={"layers": ["c", "a", "b"]}) == ["layers/c", "layers/a", "layers/b", "layers/b/x"]
    assert order(*paths, listed={"layers": ["c", "a", "b", "gone"]})[0] == "layers/c"
    assert order(*paths, listed={"layers": ["c", "a"]}) == list(paths)


def test_the_order_in_which_groups_were_made_decides_next():
    paths = ("layers/a", "layers/b", "before", "after")
    links = {"": ["vars", "layers", "after", "before"], "layers": ["b", "a"]}
    assert order(*paths, links=links) == ["layers/b", "layers/a", "after", "before"]
    assert order(*paths, links=links, listed={"layers": ["a", "b"]})[:2] == ["layers/a", "layers/b"]


def test_links_that_do_not_name_everything_or_name_it_twice_are_not_believed():
    assert order("b", "a", links={"": ["b"]}) == ["a", "b"]
    assert order("b", "a", links={"": ["b", "b"]}) == ["a", "b"]


def test_a_file_that_was_copied_name_by_name_is_noticed():
    numbers = ["d", "d_1", "d_2", "d_10"]
    assert order(*(f"layers/{n}" for n in numbers), links={"layers": sorted(numbers)}) == [
        f"layers/{n}" for n in numbers
    ]


def test_attributes_are_not_counted():
    """They go by letters; a model that keeps attributes beyond its graph saves the graph first."""
    made = ["layers", "d_1", "d_10", "d_2"]
    assert order("layers/a", "d_1", "d_2", "d_10", links={"": made}) == ["layers/a", "d_1", "d_10", "d_2"]


segments = st.sampled_from(["a", "b_1", "b_2", "b_10", "_p", "layers", "vars", "dense", "dense_1"])
paths = st.lists(segments, max_size=4).map("/".join)


@given(st.dictionaries(paths, st.integers(0, 50), max_size=20), st.data())
def test_an_order_is_a_permutation_with_parents_before_children(addresses, data):
    known = st.dictionaries(paths, st.lists(segments, max_size=6), max_size=5)
    found = walk_order(addresses, data.draw(known), data.draw(known))
    assert sorted(found) == sorted(addresses)
    places = {path: k for k, path in enumerate(found)}
    for path in found:
        parts = path.split("/") if path else []
        for i in range(len(parts)):
            assert places.get("/".join(parts[:i]), -1) < places[path]


@given(st.dictionaries(paths, st.integers(0, 50), max_size=20))
def test_whatever_lies_below_a_path_comes_in_one_piece(addresses):
    found = walk_order(addresses)
    for path in addresses:
        inside = [k for k, p in enumerate(found) if p == path or p.startswith(f"{path}/") or not path]
        assert inside == list(range(inside[0], inside[0] + len(inside)))
