"""The steps and merges that help topics write out can be written so."""

import re
from pathlib import Path

import pytest
import yaml

from transferpipe.planning.transforms import MERGES, TRANSFORMS, parse_merge, parse_transform

# What a topic writes of the same name that is no step: a rule's `units`, an argument of `linear`, a formula.
ELSEWHERE = ("units: ", "normalize: true", "slerp: b / (a + b)")
TOPICS = Path(__file__).parents[2] / "transferpipe" / "show" / "topics"


def written():
    """Yield what topics write of a transform with arguments; letters stand for sizes that a reader puts in."""
    for path in sorted(TOPICS.glob("*.md")):
        for text in re.findall(r"`([^`]+: [^`]+)`", path.read_text()):
            if text.startswith(ELSEWHERE):
                continue
            try:
                data = yaml.safe_load(re.sub(r"\s+", " ", text))
            except yaml.YAMLError:
                continue
            if (
                isinstance(data, dict)
                and len(data) == 1
                and not re.search(r"\[C, H, W\]|\.\.\.|\{k\}|\\\\1|\{25", text)
            ):
                (name,) = data
                if name in TRANSFORMS or name in MERGES:
                    yield pytest.param(name, data, id=f"{path.stem}: {text}")


@pytest.mark.parametrize(("name", "data"), list(written()))
def test_a_step_that_a_topic_writes_is_one(name, data):
    if name in TRANSFORMS and name in MERGES:
        assert any(_parses(parse, data) for parse in (parse_transform, parse_merge))
    elif name in TRANSFORMS:
        parse_transform(data)
    else:
        parse_merge(data)


def _parses(parse, data):
    try:
        return bool(parse(data))
    except ValueError:
        return False
