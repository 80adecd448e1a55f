"""The JSON Schema of a policy file, for editors: completion, descriptions, and the faults that one file alone shows.

Whether layers exist, bounds cross or a policy loosens another, only `gate policy validate` sees.
"""

from __future__ import annotations

import json
from typing import Any

from gate.policy.merging import OF_THE_CHILD
from gate.policy.references import addresses
from gate.policy.schema import Policy

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAME = "urn:geometry-gate:policy:v1"

_IN_ANY_FILE = {"Rule": ["id"]}  # without it, nobody knows which rule of another policy is added to
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs")
_NULL = {"type": "null"}

Schema = dict[str, Any]


def policy_schema() -> Schema:
    """JSON Schema 2020-12 of a policy file.

    A file that extends others may leave out what these have, so what a block must hold is asked of the rest only.
    """
    schema = tidied(Policy.model_json_schema(by_alias=True))
    definitions: dict[str, Schema] = schema["$defs"]
    definitions["Rule"]["properties"]["metric"]["enum"] = addresses()
    shared = {key: each for key, each in schema["properties"].items() if key not in (*OF_THE_CHILD, "waivers")}
    whole = {key: demands for key, each in shared.items() if (demands := _demands(each, definitions))}
    for name in _reached(shared, definitions):
        definitions[name].pop("required", None)
        definitions[name].pop("anyOf", None)
        definitions[name] |= {"required": _IN_ANY_FILE[name]} if name in _IN_ANY_FILE else {}
    return {
        "$schema": DIALECT,
        "$id": NAME,
        **schema,
        "title": "Policy of geometry-gate",
        "if": {"required": ["extends"]},
        "else": {"properties": whole},
    }


def tidied(schema: Schema) -> Schema:
    """Without titles that repeat a key, defaults that are empty, null, which no file may say, and code marks."""
    result: Schema = {}
    for key, value in schema.items():
        if key in _NAMED_SCHEMAS:
            result[key] = {name: tidied(each) for name, each in value.items()}
        elif key == "anyOf":
            result |= _alternatives([tidied(each) for each in value if each != _NULL])
        elif key == "description":
            result[key] = value.replace("`", "").replace("\n", " ")
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            result[key] = tidied(value)
        elif key != "title" and not (key == "default" and (value is None or isinstance(value, dict | list))):
            result[key] = value
    return result | ({"additionalProperties": False} if "patternProperties" in result else {})


def _alternatives(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _demands(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Only what a value, and all within it, must hold."""
    schema = _resolved(schema, definitions)
    demands: Schema = {key: schema[key] for key in ("required", "anyOf") if _is_demand(key, schema.get(key))}
    for key in ("properties", "patternProperties"):
        inner = {name: _demands(each, definitions) for name, each in schema.get(key, {}).items()}
        if inner := {name: each for name, each in inner.items() if each}:
            demands[key] = inner
    if "items" in schema and (items := _demands(schema["items"], definitions)):
        demands["items"] = items
    return demands


def _is_demand(key: str, value: list[Any] | None) -> bool:
    return value is not None and (key == "required" or all(each.keys() == {"required"} for each in value))


def _reached(schema: object, definitions: dict[str, Schema]) -> set[str]:
    """The definitions that a schema refers to, and those that these refer to."""
    if isinstance(schema, list):
        return set().union(*(_reached(each, definitions) for each in schema))
    if not isinstance(schema, dict):
        return set()
    name = schema.get("$ref", "").rpartition("/")[2]
    below = set().union(*(_reached(each, definitions) for each in schema.values()))
    return below | ({name} | _reached(definitions[name], definitions) if name else set())


def _resolved(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    return definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def render() -> str:
    """The schema as text."""
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"
