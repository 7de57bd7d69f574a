"""The verb `schema`."""

import json

import jsonschema
import pytest

from transferpipe.show.schemas import SCHEMAS, read_schema


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_is_printed(cli, kind):
    answer = cli("schema", kind)
    assert (answer.status, answer.err) == (0, "")
    schema = json.loads(answer.out)
    assert schema == json.loads(json.dumps(read_schema(kind)))
    jsonschema.Draft7Validator.check_schema(schema)


def test_without_a_kind_it_is_that_of_a_recipe(cli):
    assert cli("schema").out == cli("schema", "recipe").out


@pytest.mark.follows("print_schema: did you mean …?")
def test_an_unknown_kind_is_answered_with_one_that_there_is(cli, refuses):
    answer = refuses(2, ("schema", "recipes"), "there is no schema 'recipes'", "did you mean 'recipe'?")
    assert cli("schema", answer.err.split("'")[-2]).status == 0
    answer = refuses(2, ("schema", "colour"), "there are recipe")
    assert cli("schema", answer.err.split("there are ")[1].split(",")[0].strip()).status == 0
    refuses(2, ("schema", "recipe", "plan"), "schema: takes one kind of file, not 2")
