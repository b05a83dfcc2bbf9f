"""Short forms written out, variants and SET merged in (JSON merge patch, RFC 7396), `like:` resolved; places stay."""

from __future__ import annotations

from typing import Any

from runner import schema, strict_yaml
from runner.problems import ALL, Invalid, Lost, Mark, Problem, Problems, suggest
from runner.strict_yaml import Map, Seq

SECTIONS = ("matrix", "models", "decoding", "prompts", "texts", "steps", "chat")


def written_out(doc: Map) -> Map:
    """The recipe with its short forms written out: a bare model name becomes {load: name}."""
    made = _copy(doc)
    if isinstance(made.get("models"), Map):
        made.put("models", _models(made["models"]), made.keys_at["models"], made.values_at["models"])
    return made


def _models(models: Map) -> Map:
    made = Map(models.mark)
    for name in models:
        made.take(name, models)
        if isinstance(models[name], str):
            at = models.values_at[name]
            made.put(name, _load(models[name], at), models.keys_at[name], at)
    return made


def _load(name: str, at: Mark) -> Map:
    entry = Map(at)
    entry.put("load", name, at, at)
    return entry


def _copy(value: Map) -> Map:
    made = Map(value.mark)
    for key in value:
        made.take(key, value)
    return made


def merge(base: Any, patch: Map) -> Map:
    """RFC 7396: mappings are merged, null removes, everything else replaces."""
    made = _copy(base) if isinstance(base, Map) else Map(patch.mark)
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, Map):
            kept_at = made.keys_at.get(key, patch.keys_at[key])
            made.put(key, merge(made.get(key), value), kept_at, patch.values_at[key])
        else:
            made.take(key, patch)
    return made


def with_variant(doc: Map, name: str, problems: Problems, lost: Lost) -> Map:
    """The written-out recipe with one of its variants merged in."""
    variants = doc.get("variants") or {}
    if name not in variants:
        hint = suggest(name, variants) or " The recipe has none."
        problems.add(Mark(doc.mark.file), f"no variant '{name}'.{hint}")
        return doc
    return patched(doc, variants[name], f"variants.{name}.", problems, lost)


def patched(doc: Map, patch: Map, where: str, problems: Problems, lost: Lost) -> Map:
    """A recipe with a patch merged in. A patch of a name that is not there is a problem; `where` leads its path."""
    made = _copy(doc)
    for section, changes in patch.items():
        if not isinstance(changes, Map):
            made.take(section, patch)
            continue
        held = doc.get(section)
        result = _copy(held) if isinstance(held, Map) else Map(changes.mark)
        for name in changes:
            if name in result:
                _patch_entry(section, name, result, changes)
            elif not {(section, name), (section, ALL)} & lost:
                hint = suggest(name, result) or f" The recipe has no {section}."
                problems.add(changes.keys_at[name], f"{where}{section}.{name}: patches what is not there.{hint}")
        key_at, at = doc.keys_at.get(section, patch.keys_at[section]), doc.values_at.get(section, result.mark)
        made.put(section, result, key_at, at)
    return made


def _patch_entry(section: str, name: str, result: Map, changes: Map) -> None:
    change, at = changes[name], changes.values_at[name]
    if change is None:
        del result[name]
    elif isinstance(change, str) and section == "models":
        result.put(name, _load(change, at), result.keys_at[name], at)
    elif isinstance(change, Map):
        base = None if _is_another(section, result[name], change) else result[name]
        result.put(name, merge(base, change), result.keys_at[name], result.values_at[name])
    else:
        result.take(name, changes)


def _is_another(section: str, held: Any, change: Map) -> bool:
    """Whether a patch makes an entry another thing, so that its other keys must not linger."""
    if not isinstance(held, Map):
        return True
    if section == "decoding":
        return change.get("mode", held.get("mode")) != held.get("mode")
    if section == "models":
        return ("load" in change and "endpoint" in held) or ("endpoint" in change and "load" in held)
    verb = schema.verb_of(change)
    return section == "steps" and verb is not None and change[verb] != held.get(verb)


def set_patch(setting: str) -> tuple[Map, str]:
    """`steps.voice.epochs=1` as a patch, and the name that its places carry. Raises Invalid where it is no setting."""
    path, equals, text = setting.partition("=")
    mark = Mark(f"SET {path.strip()}")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2 or keys[0] not in SECTIONS:
        message = f"'{setting}' sets nothing. Write a path and a value: steps.voice.epochs=1."
        raise Invalid([Problem(Mark("SET"), message)])
    value = _at(strict_yaml.parse(text, mark.file), mark)
    for key in reversed(keys):
        holder = Map(mark)
        holder.put(key, value, mark, mark)
        value = holder
    assert isinstance(value, Map)
    return value, mark.file


def _at(value: Any, mark: Mark) -> Any:
    """A value from the command line, all of it at one place."""
    if isinstance(value, Map):
        made = Map(mark)
        for key, item in value.items():
            made.put(key, _at(item, mark), mark, mark)
        return made
    if isinstance(value, Seq):
        items = Seq(mark)
        for item in value:
            items.put(_at(item, mark), mark)
        return items
    return value


def settings(text: str) -> list[str]:
    """SET="a=1 b=[x, y]" as a list: spaces part, but not inside quotes and brackets."""
    made, depth, quote, before = [""], 0, "", " "
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'" and not before.isalnum():
            quote = char
        elif char in "[{]}":
            depth += 1 if char in "[{" else -1
        elif char.isspace() and depth <= 0:
            made.append("")
            continue
        made[-1] += char
        before = char
    if quote:
        raise Invalid([Problem(Mark("SET"), f"{text}: a quote is never closed. Close it.")])
    return [one for one in made if one]


def with_likes(steps: Map, problems: Problems, lost: Lost) -> Map:
    """The steps with every `like:` replaced by the other step's keys and then its own; what cannot be is left out."""
    made = Map(steps.mark)
    done: dict[str, Map] = {}
    for name in steps:
        if _like(name, steps, done, problems, lost):
            made.put(name, done[name], steps.keys_at[name], steps.values_at[name])
    return made


def _like(name: str, steps: Map, done: dict[str, Map], problems: Problems, lost: Lost) -> bool:
    """Write one step out: up the chain of likes to one that is written out, and merged from there down."""
    chain = [name]
    while (current := chain[-1]) not in done:
        if "like" not in steps[current]:
            done[current] = steps[current]
            break
        other, at = steps[current]["like"], steps[current].values_at["like"]
        if ("steps", other) in lost:
            return False
        if other in chain or other not in steps:
            said = f"'{other}' comes back to itself. Write one of the steps out."
            said = said if other in chain else f"no step '{other}'.{suggest(other, steps)}"
            problems.add(at, f"steps.{current}.like: {said}")
            return False
        chain.append(other)
    for own, other in zip(chain[-2::-1], chain[:0:-1], strict=True):
        done[own] = _over(done[other], steps[own])
    return True


def _over(base: Map, own: Map) -> Map:
    """A step's own keys over those of the step that it is like; its own verb, if any, takes the other's place."""
    own, base = _copy(own), _copy(base)
    del own["like"]
    verb, held = schema.verb_of(own), schema.verb_of(base)
    if verb and held and verb != held:
        del base[held]
    return merge(base, own)
