# validate.py SCHEMAS DOCUMENTS [NAME...]: checks the schemas themselves, and each DOCUMENTS/NAME~WHAT.json against SCHEMAS/NAME.schema.json.
# Prints what is wrong; and, for each NAME, the fields of its schema that no document has with a value other than null.
import json, pathlib, sys

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match

schemas, documents = map(pathlib.Path, sys.argv[1:3])
wrong, seen, known = [], set(), {}


def resolved(root, schema, at):
    while "$ref" in schema:
        at = schema["$ref"].removeprefix("#")
        schema = root
        for part in at.split("/")[1:]:
            schema = schema[part]
    return schema, at


def fields(root, schema, at, done):
    """The places of all fields below `schema`."""
    schema, at = resolved(root, schema, at)
    if at in done:
        return
    done.add(at)
    for name, below in schema.get("properties", {}).items():
        yield f"{at}/{name}", below
        yield from fields(root, below, f"{at}/{name}", done)
    for key in ["items", "additionalProperties"]:
        if isinstance(schema.get(key), dict):
            yield from fields(root, schema[key], f"{at}/{key}", done)
    for key in ["anyOf", "oneOf"]:
        for number, below in enumerate(schema.get(key, [])):
            yield from fields(root, below, f"{at}/{key}{number}", done)


def mark(root, schema, value, at):
    """Notes which fields of `schema` are in `value`."""
    schema, at = resolved(root, schema, at)
    if isinstance(value, dict):
        for name, below in schema.get("properties", {}).items():
            if value.get(name) is not None:
                seen.add(f"{at}/{name}")
                mark(root, below, value[name], f"{at}/{name}")
        if isinstance(schema.get("additionalProperties"), dict):
            for below in value.values():
                mark(root, schema["additionalProperties"], below, f"{at}/additionalProperties")
    if isinstance(value, list) and "items" in schema:
        for below in value:
            mark(root, schema["items"], below, f"{at}/items")
    for key in ["anyOf", "oneOf"]:
        for number, below in enumerate(schema.get(key, [])):
            if Draft202012Validator({**below, "$defs": root.get("$defs", {})}).is_valid(value):
                mark(root, below, value, f"{at}/{key}{number}")


for path in sorted(schemas.glob("*.schema.json")):
    schema = json.loads(path.read_text())
    name = path.name.removesuffix(".schema.json")
    known[name] = schema
    Draft202012Validator.check_schema(schema)
    for at, field in fields(schema, schema, "", set()):
        if "description" not in field:
            wrong.append(f"{path.name}: {at} has no description")

count = 0
for path in sorted(documents.iterdir()):
    name = path.name.split("~")[0]
    document = json.loads(path.read_text())
    count += 1
    errors = Draft202012Validator(known[name], format_checker=FormatChecker()).iter_errors(document)
    error = best_match(errors)
    if error:
        wrong.append(f"{path.name}: {error.json_path}: {error.message}")
    mark(known[name], known[name], document, "")
for name in sys.argv[3:]:
    wrong += [f"{name}: no document has {at}" for at, _ in fields(known[name], known[name], "", set()) if at not in seen]
print("\n".join(wrong))
print(f"{len(known)} schemas, {count} documents", file=sys.stderr)
sys.exit(bool(wrong))
