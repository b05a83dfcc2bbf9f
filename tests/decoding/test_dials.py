"""What can be turned of a steered decoding while one talks."""

from __future__ import annotations

from typing import Any

import pytest

from runner import dials, schema
from runner.decoding import dexperts
from runner.errors import StepError
from runner.matrix import slug
from runner.step import Decoding


def steered(**keys: Any) -> Decoding:
    return Decoding("steered", "dexperts", schema.defaults(schema.mode("dexperts"), keys))


SEVERAL = {"openness": {"expert": "a", "alpha": 0.5}, "extraversion": {"expert": "b"}}


def test_each_expert_has_an_alpha_of_its_own_or_that_of_all() -> None:
    how = steered(experts=SEVERAL, alpha=0.2)
    assert dials.alphas(how) == {"openness": 0.5, "extraversion": 0.2}
    one = dials.with_alpha(how, "extraversion", 0.8)
    assert dials.alphas(one) == {"openness": 0.5, "extraversion": 0.8}
    assert dexperts.alphas(one) == {"experts.openness.": 0.5, "experts.extraversion.": 0.8}
    assert dials.alphas(dials.unsteered(one)) == {"openness": 0, "extraversion": 0}
    with pytest.raises(StepError, match=r"nothing here steers towards 'warmth'\. There is: openness, extraversion"):
        dials.with_alpha(how, "warmth", 1.0)


def test_one_expert_without_a_name_is_turned_without_one() -> None:
    how = steered(expert="a")
    assert dials.alphas(how) == {"": 1.0} and dials.alphas(dials.with_alpha(how, "", -0.5)) == {"": -0.5}
    with pytest.raises(StepError, match="5000"):
        dials.with_alpha(how, "", 5000.0)


def test_temperature_0_takes_the_likeliest_token_of_a_steered_model_too() -> None:
    how = dials.turned(steered(expert="a", temperature=0.7, top_p=0.9), temperature=0)
    assert how.mode == "dexperts" and not any(how.params.get(key) for key in dexperts.SAMPLED)


def test_negative_values_of_a_matrix_have_names_of_their_own() -> None:
    assert [slug(value) for value in (-1.0, -1, 0, 1.0)] == ["minus-1-0", "minus-1", "0", "1-0"]
