"""Short forms written out, variants and SET merged in (JSON merge patch, RFC 7396), `like:` resolved; places are kept."""

from __future__ import annotations

import shlex
from typing import Any

from runner import schema, strict_yaml
from runner.problems import Invalid, Mark, Problem, Problems, suggest
from runner.strict_yaml import Map, Seq


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
            entry = Map(at)
            entry.put("load", models[name], at, at)
            made.put(name, entry, models.keys_at[name], at)
    return made


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


def with_variant(doc: Map, name: str, problems: Problems) -> Map:
    """The written-out recipe with one of its variants merged in."""
    variants = doc.get("variants") or {}
    if name not in variants:
        problems.add(Mark(doc.mark.file), f"no variant '{name}'.{suggest(name, variants) if variants else ' The recipe has none.'}")
        return doc
    return patched(doc, variants[name], f"variants.{name}.", problems)


def patched(doc: Map, patch: Map, where: str, problems: Problems) -> Map:
    """A recipe with a patch merged in. A patch of a name that is not there is a problem; `where` leads its path."""
    made = _copy(doc)
    for section, changes in patch.items():
        held = doc.get(section)
        if not isinstance(changes, Map):
            made.take(section, patch)
            continue
        result = _copy(held) if isinstance(held, Map) else Map(changes.mark)
        for name in changes:
            if not isinstance(held, Map) or name not in held:
                known = list(held) if isinstance(held, Map) else []
                hint = suggest(name, known) or f" The recipe has no {section}."
                problems.add(changes.keys_at[name], f"{where}{section}.{name}: patches what is not there.{hint}")
                continue
            _patch_entry(section, name, result, changes)
        made.put(section, result, doc.keys_at.get(section, patch.keys_at[section]), doc.values_at.get(section, result.mark))
    return made


def _patch_entry(section: str, name: str, result: Map, changes: Map) -> None:
    change, at = changes[name], changes.values_at[name]
    if change is None:
        del result[name]
    elif isinstance(change, str) and section == "models":
        entry = Map(at)
        entry.put("load", change, at, at)
        result.put(name, entry, result.keys_at[name], at)
    elif isinstance(change, Map) and not _is_another(section, result[name], change):
        result.put(name, merge(result[name], change), result.keys_at[name], result.values_at[name])
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
    if not equals or len(keys) < 2 or keys[0] not in ("matrix", "models", "decoding", "prompts", "texts", "steps", "chat"):
        raise Invalid([Problem(Mark("SET"), f"'{setting}' sets nothing. Write a path and a value: steps.voice.epochs=1.")])
    value = _at(strict_yaml.parse(text, mark.file), mark) if text.strip() else None
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
    """SET="a=1 b=[x, y]" as a list: words are split as a shell does, brackets and quotes hold together."""
    lexer = shlex.shlex(text, posix=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    made: list[str] = []
    depth = 0
    for word in lexer:
        if depth:
            made[-1] += f" {word}"
        else:
            made.append(word)
        depth += word.count("[") + word.count("{") - word.count("]") - word.count("}")
    return made


def with_likes(steps: Map, problems: Problems) -> Map:
    """The steps with every `like:` replaced by the other step's keys and then its own."""
    made = Map(steps.mark)
    for name in steps:
        step = _liked(name, steps, (), problems)
        if step is not None:
            made.put(name, step, steps.keys_at[name], steps.values_at[name])
    return made


def _liked(name: str, steps: Map, through: tuple[str, ...], problems: Problems) -> Map | None:
    step = steps[name]
    if not isinstance(step, Map) or "like" not in step:
        return step if isinstance(step, Map) else None
    other, at = step["like"], step.values_at["like"]
    if other in (*through, name):
        problems.add(at, f"steps.{name}.like: '{other}' comes back to itself. Write one of the steps out.")
        return None
    if other not in steps:
        problems.add(at, f"steps.{name}.like: no step '{other}'.{suggest(other, steps)}")
        return None
    base = _liked(other, steps, (*through, name), problems)
    if base is None:
        return None
    own = _copy(step)
    del own["like"]
    base = _copy(base)
    verb, held = schema.verb_of(own), schema.verb_of(base)
    if verb and held and verb != held:
        del base[held]
    return merge(base, own)
