"""The shape of a recipe: the same verdict as the editor schema gives, in our own words and with places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema.exceptions import ValidationError

from runner.problems import Mark, Problems, suggest
from runner.schema import VERBS, document, kinds, modes, validator
from runner.strict_yaml import Map, Seq

_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping (key: value)",
    "null": "null",
}

def check_document(doc: Any, mark: Mark, problems: Problems) -> bool:
    """Check a whole recipe's shape. In steps and decoding `${…}` may stand for any value; it is checked again once filled in."""
    if not isinstance(doc, Map):
        problems.add(mark, "not a recipe. Begin with `recipe: 1` and `steps:`.")
        return False
    before = len(problems.errors)
    _check("document", doc, (), doc, problems, final=True)
    for section in document()["properties"]:
        if isinstance(doc.get(section), Map) and "x-names" in document()["properties"][section]:
            _names(doc, section, problems)
    for name, value in _entries(doc, "models"):
        if isinstance(value, Map):
            _check("entry:endpoint" if "endpoint" in value else "entry:load", value, ("models", name), doc, problems, final=True)
    for name, value in _entries(doc, "prompts"):
        turns = [(("prompts", name), value)] if isinstance(value, Map) else []
        turns += [(("prompts", name, place), turn) for place, turn in enumerate(value)] if isinstance(value, Seq) else []
        for path, turn in turns:
            if isinstance(turn, Map):
                _check("entry:prompt", turn, path, doc, problems, final=True)
    for name, value in _entries(doc, "decoding"):
        if isinstance(value, Map):
            check_decoding(value, ("decoding", name), doc, problems)
    for name, value in _entries(doc, "steps"):
        if isinstance(value, Map):
            check_step(value, name, doc, problems)
    return len(problems.errors) == before


def _entries(doc: Map, section: str) -> Iterator[tuple[str, Any]]:
    held = doc.get(section)
    yield from list(held.items()) if isinstance(held, Map) else []


def _names(doc: Map, section: str, problems: Problems) -> None:
    for name in doc[section]:
        if not _is_name(name):
            problems.add(doc[section].keys_at[name], f"{section}.{name}: not a name. Use letters, digits, - and _, a letter first.")


def _is_name(name: str) -> bool:
    return name[:1].isascii() and name[:1].isalpha() and all(c.isascii() and (c.isalnum() or c in "-_") for c in name)


def check_decoding(value: Map, path: tuple[Any, ...], doc: Map, problems: Problems, final: bool = False) -> bool:
    known = modes()
    if value.get("mode") in known:
        return _check(f"mode:{value['mode']}", value, path, doc, problems, final)
    where = ".".join(map(str, path))
    if "mode" not in value:
        problems.add(_key_mark(doc, path), f"{where}: needs 'mode'. One of: {', '.join(known)}.")
    else:
        problems.add(value.values_at["mode"], f"{where}.mode: {_show(value['mode'])} is no decoding mode.{suggest(str(value['mode']), known)}")
    return False


def check_step(value: Map, name: str, doc: Map, problems: Problems, final: bool = False) -> bool:
    """Check one step by the fragment of its kind. A step with `like:` is checked once it has the other step's keys."""
    path = ("steps", name)
    if "like" in value and not final:
        if not isinstance(value["like"], str):
            problems.add(value.values_at["like"], f"steps.{name}.like: {_show(value['like'])} is not {_TYPES['string']}. Name a step.")
            return False
        return True
    verbs = [verb for verb in VERBS if verb in value]
    if len(verbs) > 1:
        problems.add(value.keys_at[verbs[1]], f"steps.{name}: two verbs, {' and '.join(verbs)}. Make two steps of it.")
        return False
    if not verbs:
        near = [key for key in value if suggest(key, VERBS).startswith(" Did")]
        if near:
            problems.add(value.keys_at[near[0]], f"steps.{name}: unknown key '{near[0]}'.{suggest(near[0], VERBS)}")
        else:
            problems.add(_key_mark(doc, path), f"steps.{name}: no verb. Begin with one of: {', '.join(VERBS)}.")
        return False
    verb, kind = verbs[0], value[verbs[0]]
    if kind not in kinds(verb):
        what = f"'{kind}' is no kind of {verb}.{suggest(str(kind), kinds(verb))}" if kinds(verb) else f"no kind of {verb} exists yet."
        problems.add(value.values_at[verb], f"steps.{name}.{verb}: {what}")
        return False
    return _check(f"step:{verb}/{kind}", value, path, doc, problems, final)


def is_open(value: Any) -> bool:
    """Whether a text still has a ${…} to be filled in."""
    return isinstance(value, str) and "${" in value


def _check(name: str, value: Map, path: tuple[Any, ...], doc: Map, problems: Problems, final: bool = False) -> bool:
    fine = True
    for error in validator(name).iter_errors(value):
        if is_open(error.instance) and not final:
            continue
        fine = False
        for mark, message in _say(error, value, path):
            problems.add(mark or _key_mark(doc, path), message)
    return fine


def _key_mark(doc: Map, path: tuple[Any, ...]) -> Mark:
    """Where the last key of a path stands."""
    place: Any = doc
    mark = doc.mark
    for key in path:
        if isinstance(place, Map) and key in place:
            mark, place = place.keys_at[key], place[key]
        elif isinstance(place, Seq) and isinstance(key, int) and key < len(place):
            mark, place = place.items_at[key], place[key]
        else:
            break
    return mark


def _say(error: ValidationError, value: Map, path: tuple[Any, ...]) -> Iterator[tuple[Mark | None, str]]:
    """Our words for one jsonschema error: (place, message)."""
    inner = tuple(error.absolute_path)
    where = ".".join(map(str, path + inner))
    at = _value_mark(value, inner)
    if error.validator == "anyOf":
        branch = _branch(error)
        if branch:
            for sub in branch:
                yield from _say(sub, value, path)
        else:
            yield at, f"{where}: {_not_a(error.instance, _wanted(error.schema))}{_about(error)}"
    elif error.validator == "additionalProperties":
        yield from _unknown_keys(error, where)
    elif error.validator == "required":
        yield from _missing_key(error, where, None if not inner else _key_mark(value, inner))
    else:
        yield at, f"{where}: {_what(error)}{_about(error)}"


def _value_mark(value: Map, inner: tuple[Any, ...]) -> Mark | None:
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


def _unknown_keys(error: ValidationError, where: str) -> Iterator[tuple[Mark | None, str]]:
    schema, held = error.schema, error.instance
    known = list(schema.get("properties", {}))
    missing = [key for key in schema.get("required", []) if key not in held]
    prefix = f"{where}: " if where else ""
    for key in held:
        if key in known:
            continue
        taken = schema.get("x-sets", {})
        if key in taken:
            own = f" Use '{taken[key]}'." if isinstance(taken, dict) and taken[key] else " Leave it out."
            yield held.keys_at[key], f"{prefix}'{key}' is set by the step's own keys.{own}"
        else:
            free = [name for name in known if name not in held]
            hints = [suggest(key, names) for names in (missing, free, known)]
            hint = next((hint for hint in hints if hint.startswith(" Did")), suggest(key, free))
            yield held.keys_at[key], f"{prefix}unknown key '{key}'.{hint}"


def _missing_key(error: ValidationError, where: str, mark: Mark | None) -> Iterator[tuple[Mark | None, str]]:
    schema, held = error.schema, error.instance
    key = next(name for name in error.schema["required"] if f"'{name}'" in error.message and name not in held)
    closed = schema.get("additionalProperties") is False
    strangers = [name for name in held if name not in schema.get("properties", {})] if closed else []
    if any(suggest(stranger, [key]).startswith(" Did") for stranger in strangers):
        return  # the misspelt key is reported, with this one as what was meant
    about = schema.get("properties", {}).get(key, {}).get("description", "")
    yield mark, f"{where + ': ' if where else ''}needs '{key}'. {about}".rstrip()


def _what(error: ValidationError) -> str:
    limit, held = error.validator_value, error.instance
    if error.validator == "type":
        return _not_a(held, [limit] if isinstance(limit, str) else list(limit))
    if error.validator == "enum":
        if all(not isinstance(choice, str) for choice in limit):
            return f"{_show(held)} is not one of: {', '.join(map(str, limit))}."
        return f"{_show(held)} is not one of its values.{suggest(str(held), limit, 'It is one of')}"
    bounds = {
        "minimum": "less than the least, {}",
        "maximum": "more than the most, {}",
        "exclusiveMinimum": "not more than {}",
        "exclusiveMaximum": "not less than {}",
        "pattern": "not of the form {}",
    }
    if error.validator in bounds:
        return f"{_show(held)} is {bounds[error.validator].format(limit)}."
    if error.validator in ("minItems", "minProperties", "minLength"):
        return "empty." if limit == 1 else f"too short: at least {limit}."
    return f"{error.message}."


def _not_a(held: Any, wanted: list[str]) -> str:
    names = " or ".join(dict.fromkeys(_TYPES[name] for name in wanted))
    hint = ""
    if held is None:
        return f"nothing stands here; it is {names}."
    if isinstance(held, str) and "boolean" in wanted and held.lower() in ("yes", "no", "on", "off"):
        hint = f" Write {'true' if held.lower() in ('yes', 'on') else 'false'}."
    elif isinstance(held, str) and {"integer", "number"} & set(wanted) and held.replace(".", "", 1).isdigit():
        hint = " Remove the quotes."
    elif isinstance(held, bool | int | float) and "string" in wanted:
        hint = f' Write "{str(held).lower() if isinstance(held, bool) else held}".'
    return f"{_show(held)} is not {names}.{hint}"


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…'"


def _about(error: ValidationError) -> str:
    about = error.schema.get("description") if isinstance(error.schema, dict) else None
    return f" {about}" if about else ""
