"""What each cleaning rule takes out of a reply, and what it leaves alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cleaning import RULES, clean, fragments

CASES = [
    ("after-last-blank-line", "Here is my reply:\n\nHello.\n\nBye.", "Hello.\n\nBye."),
    ("after-last-blank-line", "Hello.\n\nBye.", "Hello.\n\nBye."),
    ("first-line", "One\nTwo", "One"),
    ("first-paragraph", "One\ntwo\n\nThree", "One\ntwo"),
    ("one-line", "One\n  two", "One two"),
    ("whole-sentences", "It is late. We sho", "It is late."),
    ("whole-sentences", "We sho", "We sho"),
    ("quotes", '"Hello there."', "Hello there."),
    ("quotes", '"A" and "B"', '"A" and "B"'),
    ("quotes", '"half', "half"),
    ("asterisks", "*smiles* Hi **you**", "Hi you"),
    ("parentheses", "Hi (waves) you", "Hi you"),
    ("capital", "yes", "Yes"),
    ("no-name", "John Watson: I see.", "I see."),
    ("no-name", "**Holmes:** I see.", "I see."),
    ("no-name", "I see: it is so.", "I see: it is so."),
    ("no-brackets", "{a} [b]", "(a) (b)"),
    ("no-filler", "Oh, hey! I feel bad", "I feel bad"),
    ("no-filler", "So what?", "So what?"),
    ("no-filler", "Absolutely!", ""),
    ("no-thanks", "Thank you so much. I will go.", "I will go."),
    ("no-machine", "As an AI, I cannot feel. Go on.", "I cannot feel. Go on."),
    ("no-scraps", "Oh no. That is very sad, is it.", "That is very sad,"),
    ("no-emoji", "Hi 🙂 you 👍🏽", "Hi you"),
    ("no-thoughts", "<think>Hm.</think>Yes.", "Yes."),
]


@pytest.mark.parametrize(("rule", "before", "after"), CASES)
def test_a_rule_takes_out_what_it_says(rule: str, before: str, after: str) -> None:
    assert clean([rule], before) == after


def test_a_beginning_like_the_last_one_heard_goes() -> None:
    assert clean(["no-repeat"], "I feel sad. Yes it is.", heard="I feel sad! Ok.") == "Yes it is."
    assert clean(["no-repeat"], "I feel sad. Yes it is.", heard="Where are you?") == "I feel sad. Yes it is."


def test_names_that_do_not_look_like_names_are_known_by_who_speaks() -> None:
    assert clean(["no-name"], "seeker: hello", ["seeker", "supporter"]) == "hello"
    assert clean(["no-name"], "seeker: hello") == "seeker: hello"


def test_rules_work_in_the_order_given() -> None:
    assert clean(["one-line", "first-line"], "a\nb") == "a b" and clean(["first-line", "one-line"], "a\nb") == "a"


@given(st.text(max_size=200))
def test_no_rule_fails_on_any_text_and_nothing_is_lost_in_fragments(text: str) -> None:
    assert "".join(fragments(text)) == text
    for rule in RULES:
        assert clean([rule], text, ["a"], text).strip() == clean([rule], text, ["a"], text)
