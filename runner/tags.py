"""Text templates that a recipe declares: a tag before each turn, written out as the chat template that the trained
model's folder keeps, so that chat and evaluation render as training did."""

from __future__ import annotations

import json
from typing import Any

_ENDS = {
    "turns": "{{ eos_token }}",
    "answers": "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}",
    "last": "{% if loop.last and message['role'] == 'assistant' %}{{ eos_token }}{% endif %}",
}


def jinja(tags: dict[str, Any], begins: bool) -> str:
    """The chat template of tags {begin, system, user, assistant, after, end}, as `template:` of a training step has them.

    begin: before everything; left out, the tokenizer's begin token where it puts one itself (`begins`)
    end: where the end token stands: after all `turns`, after the `answers`, or after the `last` one alone
    A space that ends the assistant's tag goes to the answer: asked with it, a model would have to begin a word without.
    """
    begin = f"{{{{ {_text(tags['begin'])} }}}}" if "begin" in tags else "{{ bos_token }}" if begins else ""
    held = ", ".join(f"'{role}': {_text(tags.get(role, ''))}" for role in ("system", "user", "assistant"))
    after = f"{{{{ {_text(tags['after'])} }}}}" if tags.get("after") else ""
    asked = tags["assistant"].rstrip(" ")
    return (
        f"{begin}{{% set tags = {{{held}}} %}}"
        "{% for message in messages %}{{ tags[message['role']] + message['content'] }}"
        f"{_ENDS[tags['end']]}{after}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {_text(asked)} }}}}{{% endif %}}"
    )


def _text(value: str) -> str:
    """A text as Jinja reads it: JSON's quotes and escapes, and letters as they are."""
    return json.dumps(value, ensure_ascii=False)
