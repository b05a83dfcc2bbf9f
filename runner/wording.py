"""What the JSON Schema validator finds, in our own words and with places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from jsonschema.exceptions import ValidationError

from runner.problems import Mark, suggest
from runner.strict_yaml import Map, Seq

TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping (key: value)",
    "null": "null",
}
_BOUNDS = {
    "minimum": "too small: at least {}",
    "maximum": "too large: at most {}",
    "exclusiveMinimum": "too small: more than {}",
    "exclusiveMaximum": "too large: less than {}",
}
_VARIABLE = "^[A-Za-z_][A-Za-z0-9_]*$"
_FORMS = {
    "^https?://": "an address that begins with https:// or http://",
    r"^\d{4}-\d{2}-\d{2}$": "a day such as 2024-01-31",
    _VARIABLE: "the name of an environment variable",
    r"^[A-Za-z_]\w*$": "a name for prompts, of letters, digits and _",
    "^[A-Z]{2}$": "two capital letters",
    "^[A-Za-z0-9][A-Za-z0-9._-]*$": "a file's name of letters, digits, dots, dashes and underscores",
    "^.$": "one character",
    r"^\S+$": "a text without blanks",
    r"^-?\d{1,9}\.\.-?\d{1,9}$": "a range such as 0..5",
}
Path = tuple[Any, ...]


def key_mark(root: Map, path: Path) -> Mark:
    """Where the last key of a path stands."""
    place: Any = root
    mark = root.mark
    for key in path:
        if isinstance(place, Map) and key in place:
            mark, place = place.keys_at[key], place[key]
        elif isinstance(place, Seq) and isinstance(key, int) and key < len(place):
            mark, place = place.items_at[key], place[key]
        else:
            break
    return mark


def leaves(error: ValidationError) -> Iterator[ValidationError]:
    """An error, or where it is about alternatives, the errors of the one whose type fits."""
    several: Any = error.validator_value if error.validator == "anyOf" else ()
    keys = several and all("required" in one and "type" not in one for one in several)
    branch = _branch(error) if error.validator == "anyOf" and not keys else []
    if not branch:
        yield error
    for inner in branch:
        yield from leaves(inner)


def say(error: ValidationError, value: Map, path: Path) -> Iterator[tuple[Mark | None, str]]:
    """Our words for one jsonschema error about a mapping that stands at `path`: (place, message)."""
    inner = tuple(error.absolute_path)
    where = ".".join(map(str, path + inner))
    prefix = f"{where}: " if where else ""
    if error.validator == "additionalProperties":
        yield from _unknown_keys(error, prefix)
    elif error.validator == "required":
        yield from _missing_key(error, prefix, key_mark(value, inner) if inner else None)
    else:
        yield _value_mark(value, inner), f"{prefix}{_what(error)}{_about(error)}"


def _value_mark(value: Map, inner: Path) -> Mark | None:
    if not inner:
        return None
    place: Any = value
    for key in inner[:-1]:
        place = place[key]
    return place.values_at[inner[-1]] if isinstance(place, Map) else place.items_at[inner[-1]]


def _branch(error: ValidationError) -> list[ValidationError]:
    """The errors of the one alternative whose type fits; alternatives differ in type, so there is at most one."""
    failed_type = {sub.schema_path[0] for sub in error.context or () if sub.validator == "type" and not sub.path}
    return [sub for sub in error.context or () if sub.schema_path[0] not in failed_type]


def _wanted(schema: Any) -> list[str]:
    types: list[str] = []
    for alternative in schema.get("anyOf", [schema]):
        held = alternative.get("type", [])
        types += [held] if isinstance(held, str) else held
    return types


def _schema(error: ValidationError) -> dict[str, Any]:
    return cast(dict[str, Any], error.schema)


def _unknown_keys(error: ValidationError, prefix: str) -> Iterator[tuple[Mark | None, str]]:
    schema, held = _schema(error), cast(Map, error.instance)
    known = list(schema.get("properties", {}))
    missing = [key for key in schema.get("required", []) if key not in held]
    taken = schema.get("x-sets", {})
    for key in held:
        if key in known:
            continue
        if key in taken:
            own = f" Use '{taken[key]}'." if isinstance(taken, dict) and taken[key] else " Leave it out."
            yield held.keys_at[key], f"{prefix}'{key}' is set by the step's own keys.{own}"
        else:
            free = [name for name in known if name not in held]
            hints = [suggest(key, names) for names in (missing, free, known)]
            hint = next((hint for hint in hints if hint.startswith(" Did")), suggest(key, free))
            yield held.keys_at[key], f"{prefix}unknown key '{key}'.{hint}"


def _missing_key(error: ValidationError, prefix: str, mark: Mark | None) -> Iterator[tuple[Mark | None, str]]:
    schema, held = _schema(error), cast(Map, error.instance)
    key = next(name for name in schema["required"] if f"'{name}'" in error.message and name not in held)
    closed = schema.get("additionalProperties") is False
    strangers = [name for name in held if name not in schema.get("properties", {})] if closed else []
    if any(suggest(stranger, [key]).startswith(" Did") for stranger in strangers):
        return  # the misspelt key is reported, with this one as what was meant
    about = schema.get("properties", {}).get(key, {}).get("description", "")
    yield mark, f"{prefix}needs '{key}'. {about}".rstrip()


def _what(error: ValidationError) -> str:
    limit, held = cast(Any, error.validator_value), error.instance
    if error.validator == "type":
        return _not_a(held, [limit] if isinstance(limit, str) else list(limit))
    if error.validator == "enum":
        if all(not isinstance(choice, str) for choice in limit):
            return f"{show(held)} is not one of: {', '.join(map(str, limit))}."
        return f"{show(held)} is not one of its values.{suggest(str(held), limit, 'It is one of')}"
    if error.validator in _BOUNDS:
        return f"{show(held)} is {_BOUNDS[error.validator].format(limit)}."
    if error.validator == "pattern":
        shown = "this" if limit == _VARIABLE else show(held)  # a key may stand where its name belongs
        return f"{shown} is not {_FORMS.get(limit, f'of the form {limit}')}."
    if error.validator in ("minItems", "minProperties", "minLength"):
        return "empty." if limit == 1 else f"too short: at least {limit}."
    if error.validator in ("maxItems", "maxLength"):
        return f"too long: at most {limit}."
    if error.validator == "anyOf":
        keys = [key for one in limit for key in one.get("required", ()) if "type" not in one]
        return f"needs one of: {', '.join(keys)}." if keys else _not_a(held, _wanted(error.schema))
    return _together(error, limit)


def _together(error: ValidationError, limit: Any) -> str:
    """Which keys belong together, and which do not."""
    if error.validator == "uniqueItems":
        return "names the same twice."
    if error.validator == "not" and "required" in limit:
        return f"has {' and '.join(limit['required'])}. Keep one."
    if error.validator == "dependentRequired":
        held = cast(Map, error.instance)
        key, other = next((key, one) for key, ones in limit.items() if key in held for one in ones if one not in held)
        return f"has '{key}', which needs '{other}' beside it."
    return f"{error.message}."


def _not_a(held: Any, wanted: list[str]) -> str:
    names = " or ".join(dict.fromkeys(TYPES[name] for name in wanted))
    hint = ""
    if held is None:
        return f"nothing stands here; it is {names}."
    if isinstance(held, str) and "boolean" in wanted and held.lower() in ("yes", "no", "on", "off"):
        hint = f" Write {'true' if held.lower() in ('yes', 'on') else 'false'}."
    elif isinstance(held, str) and {"integer", "number"} & set(wanted) and held.replace(".", "", 1).isdigit():
        hint = " Remove the quotes."
    elif isinstance(held, bool | int | float) and "string" in wanted:
        hint = f' Write "{str(held).lower() if isinstance(held, bool) else held}".'
    return f"{show(held)} is not {names}.{hint}"


def show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…'"


def _about(error: ValidationError | None) -> str:
    """What the schema says of the key; where that is of an alternative, what it says of all of them."""
    while error is not None:
        if isinstance(error.schema, dict) and "description" in error.schema:
            return f" {error.schema['description']}"
        error = cast("ValidationError | None", error.parent)
    return ""
