"""What an endpoint can be asked: found out by asking, and remembered once an answer has come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Parameters that can be done without. max_tokens has another name with some.
OPTIONAL = ("seed", "max_tokens", "continue_final_message", "add_generation_prompt")
FORMAT_WORDS = ("response_format", "json_schema", "json_object", "grammar", "structured output")
LOWER = {"json_schema": "json_object", "json_object": "none"}


@dataclass(frozen=True)
class Shape:
    """How a request is put: the parameters that are left out, and by what means the form of an answer is asked for."""

    without: frozenset[str] = frozenset()
    form: str = "json_schema"

    @classmethod
    def remembered(cls, known: Any) -> Shape:
        return cls(frozenset(known["without"]), known["form"]) if known else cls()

    def to_remember(self) -> dict[str, Any]:
        return {"without": sorted(self.without), "form": self.form}


def shaped(body: dict[str, Any], schema: dict[str, Any] | None, shape: Shape) -> dict[str, Any]:
    """The request as it is sent."""
    made = {key: value for key, value in body.items() if key not in shape.without}
    if "max_tokens" in shape.without:
        made["max_completion_tokens"] = body["max_tokens"]
    if schema and shape.form == "json_schema":
        held = {"name": "answer", "schema": schema, "strict": True}
        made["response_format"] = {"type": "json_schema", "json_schema": held}
    elif schema and shape.form == "json_object":
        made["response_format"] = {"type": "json_object"}
    return made


def simpler(sent: dict[str, Any], told: str, refused: bool, sure: bool, shape: Shape) -> Shape | None:
    """What to try after a request was turned down, None where that was not because of how it was put.

    told: what the server said; refused: it said that the request is wrong, not that it failed; sure: it has taken one
    that was put like this before.
    """
    unknown = [key for key in OPTIONAL if key in sent and key in told] if refused else []
    if unknown:
        return Shape(shape.without | set(unknown), shape.form)
    of_the_form = any(word in told for word in FORMAT_WORDS) or (refused and not sure)
    if "response_format" in sent and of_the_form:
        return Shape(shape.without, LOWER[shape.form])
    return None
