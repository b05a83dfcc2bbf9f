"""recipes/persllm-data.yaml at an endpoint that answers well: questions of three kinds, answers from memory, lessons and preferences."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from runner.files import Row
from tests.recipe_runs import ROOT, facts, rows, run, store
from tests.server import Body, Server

RECIPE = "persllm-data"
WHO, STAGE, PATTERN = ("clara", "tomas"), ("early", "late"), ("ordinary", "error", "thought")
WHEN = {"early": "<TIME-I>", "late": "<TIME-II>"}
PERSONS = ROOT / "datasets/persons"
WORDS = """river bread clock letter garden winter harbour brother debt music wedding storm horse lantern school bridge neighbour salt
fever market roof promise grandmother wolf silence coat apple war ferry gold dream dog candle mill soldier snow debtor bell orchard tooth
tax painting knife ghost mountain church island fish wheel iron wine doctor thief mirror shoe sister stove spring hammer road""".split()
REPEATED = "What do you think of the weather these days?"


def reply(body: Body) -> str:
    """What a good model would say to each of the recipe's prompts; the same to the same request."""
    asked, chance = body["messages"][-1]["content"], random.Random(json.dumps([body["messages"], body.get("seed")]))
    words = ", ".join(chance.sample(WORDS, 4))
    if "asks a question" in asked or "asks Clara" in asked or "asks Tomas" in asked:
        question = REPEATED if chance.random() < 0.1 else f"Did the {words} change what you believe?"
        return f'<think>\nA question, then.\n</think>\n"{question}"'
    if "an opinion" in asked:
        return f"People say that the {words}\nmatter more than anything."
    said = "Refused." if chance.random() < 0.1 else f"By the {words}, I have always held to that."
    if "response_format" in body:
        return "Here you are: " + json.dumps({"analysis": f"It fits my {chance.choice(WORDS)}.", "response": said})
    return said
