"""A visit in the terminal, without the terminal: what is said, what the commands change, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner import chat, decoding, talk
from runner.chatting import Cast
from runner.errors import StepError
from tests import personas

SYSTEM = {"role": "system", "content": "You are Holmes."}


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Cast]:
    with personas.cast(tmp_path_factory.mktemp("many"), tiny_model) as made:
        yield made


def typed(*lines: str) -> Any:
    waiting = list(lines)

    def read() -> str:
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    return read


def held(cast: Cast, entry: str, *lines: str, **keys: Any) -> tuple[str, talk.Session]:
    said: list[str] = []
    session = talk.Session(cast, entry, typed(*lines), said.append, **keys)
    session.run()
    return "".join(said), session


def turns(session: talk.Session) -> list[str]:
    return [turn.content for turn in session.talk.turns] if session.talk else []


def test_a_conversation_is_remembered_turn_by_turn(cast: Cast) -> None:
    said, session = held(cast, "holmes", "Who was it?", "", "And then?")
    asked, answer, again, last = turns(session)
    assert (asked, again) == ("Who was it?", "And then?") and said.startswith(talk.shown(answer))
    loaded = cast.persona("holmes").voice.loaded(cast.persona("holmes").decoding)  # type: ignore[attr-defined]
    messages = [SYSTEM, *session.talk.messages[:3]] if session.talk else []
    assert last == decoding.answers(loaded, [messages], cast.persona("holmes").decoding, 0)[0]


def test_one_message_gets_one_answer_and_nothing_else(cast: Cast) -> None:
    said: list[str] = []
    session = talk.Session(cast, "holmes", typed(), said.append, 5)
    session.single("Who was it?")
    answer = session.talk.turns[-1].content if session.talk else ""
    assert "".join(said).strip() == talk.shown(answer).strip()


def test_reset_forgets_and_quit_leaves(cast: Cast) -> None:
    said, session = held(cast, "holmes", "Mud?", "/reset", "/quit", "never read")
    assert turns(session) == [] and said.endswith("(The conversation begins anew.)\n")


def test_help_names_every_command_and_a_misspelt_one_is_guessed(cast: Cast) -> None:
    said, session = held(cast, "holmes", "/help", "/temprature 1", "//really")
    for command in talk.commands.COMMANDS:
        assert command == "help" or f"/{command}" in said
    assert "No command /temprature. Did you mean 'temperature'?" in said
    assert turns(session)[0] == "/really"


def test_what_was_last_typed_is_put_into_the_prompts_user_turn(cast: Cast) -> None:
    _, session = held(cast, "filled", "Mud? {{ 7 * 7 }}", "And?")
    assert session.talk
    told = session.talk.tell("Last")
    assert [one["content"] for one in told.messages if one["role"] == "user"] == [
        "Mud? {{ 7 * 7 }}",
        "And?",
        "They say: Last",
    ]
    assert told.messages[0]["content"] == "You are Watson."


def test_old_turns_give_way_to_the_answer(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    inner = decoding.stream

    def watched(one: Any, messages: Any, *given: Any) -> Any:
        asked.append(messages)
        return inner(one, messages, *given)

    voice = cast.persona("holmes").voice
    monkeypatch.setattr(decoding, "stream", watched)
    monkeypatch.setattr(voice, "context", 120)
    _, session = held(cast, "holmes", *(["Has the letter come?"] * 6))
    assert len(turns(session)) == 12
    tokenizer = voice.loaded(cast.persona("holmes").decoding).tokenizer  # type: ignore[attr-defined]
    for turn in asked:
        assert turn[0] == SYSTEM and turn[1]["role"] == "user" and turn[-1]["content"] == "Has the letter come?"
        assert len(chat.prompt_ids(tokenizer, turn)) <= 120 - 12
    assert len(asked[-1]) < 12


def test_a_message_beyond_the_context_is_refused_and_the_session_goes_on(cast: Cast) -> None:
    said, session = held(cast, "holmes", "Mud. " * 400, "Mud?")
    assert "leaves no room in its context of 512 tokens. Shorten it." in said
    assert turns(session)[0] == "Mud?"


def test_an_interrupted_answer_is_kept_as_far_as_it_came(cast: Cast) -> None:
    said: list[str] = []

    def write(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            raise KeyboardInterrupt

    session = talk.Session(cast, "slow", typed("Who was it?", "/seed 3"), write)
    session.run()
    assert turns(session)[0] == "Who was it?" and len(turns(session)) == 2
    assert talk.shown(turns(session)[1]).strip() == "".join(said[:2]).strip()
    assert said[-1] == "(seed 3)\n"


def pressing(*keys: str) -> Any:
    """Lines as they are typed, Ctrl-C among them."""
    waiting = typed(*keys)

    def read() -> str:
        line: str = waiting()
        if line == "^C":
            raise KeyboardInterrupt
        return line

    return read


def test_ctrl_c_that_comes_after_the_answer_has_ended_keeps_the_session(cast: Cast) -> None:
    said: list[str] = []
    session = talk.Session(cast, "holmes", pressing("Who was it?", "^C", "And then?", "^C"), said.append)
    session.run()
    assert len(turns(session)) == 4 and said.count("\n(Ctrl-C once more leaves, as Ctrl-D does.)\n") == 2


def test_ctrl_c_twice_at_the_prompt_reaches_the_caller(cast: Cast) -> None:
    with pytest.raises(KeyboardInterrupt):
        talk.Session(cast, "holmes", pressing("^C", "^C", "never read"), lambda text: None).run()


def test_another_seed_gives_another_answer_and_again_takes_the_next(cast: Cast) -> None:
    _, first = held(cast, "holmes", "Who was it?")
    _, second = held(cast, "holmes", "/seed 1", "Who was it?")
    _, third = held(cast, "holmes", "Who was it?", "/again")
    assert turns(first) != turns(second) == turns(third)


def test_somebody_else_answers_and_what_was_said_stays(cast: Cast) -> None:
    said, session = held(cast, "holmes", "Who was it?", "/persona", "/persona filled", "And?", "/persona nobody")
    assert session.talk and session.talk.persona.name == "filled" and len(turns(session)) == 4
    assert "holmes answers. There are: holmes, slow, sure" in said and "no entry 'nobody' under chat:" in said


def test_weights_of_steering_models_are_set_by_name(cast: Cast) -> None:
    said, session = held(cast, "steer", "/alpha warm 2", "/alpha openness 1", "/alpha much", "Hello", "/alpha 0")
    assert "alpha warm 2, alpha cold 0.8" in said and "alpha warm 0, alpha cold 0" in said
    assert "nothing here steers towards 'openness'. There is: warm, cold." in said
    assert "'much' is no number. Such as: /alpha openness 0.8" in said
    assert session.talk and session.talk.records()[-1]["alpha"] == {"warm": 2.0, "cold": 0.8}


def test_steering_of_weight_nothing_is_the_base_alone(cast: Cast) -> None:
    _, steered = held(cast, "steer", "/alpha 0", "/temperature 0", "Hello")
    _, plain = held(cast, "holmes", "/temperature 0", "Hello")
    assert turns(steered) == turns(plain)


def test_what_a_decoding_does_not_have_cannot_be_set(cast: Cast) -> None:
    said, _ = held(cast, "sure", "/temperature 0.5", "/alpha 1", "/top_p 3", "/persona holmes", "/top_p 3", "/seed 1.5")
    assert "(temperature: decoding 'plain' (greedy) has none.)" in said
    assert "(alpha: decoding 'plain' (greedy) steers with no other model.)" in said
    assert "(top_p: 3 is greater than the maximum of 1.)" in said and "(top_p: decoding 'plain'" in said
    assert "'1.5' is no whole number" in said


def test_another_decoding_of_the_recipe_can_be_taken(cast: Cast) -> None:
    said, session = held(cast, "holmes", "/decoding plain", "Hello", "/decoding plian")
    _, sure = held(cast, "holmes", "/temperature 0", "Hello")
    assert turns(session) == turns(sure) and "no decoding 'plian'. Did you mean 'plain'?" in said


def test_the_scorer_finds_who_suits_the_first_words(cast: Cast) -> None:
    people = cast.persona("supporter").people
    assert people
    best = people.ranked("I am afraid of water.")
    assert [at for at, _ in best] != [0, 1, 2] or best[0][1] > best[1][1]
    said, session = held(cast, "supporter", "I am afraid of water.", "And you?")
    assert said.startswith(f"What troubles you?\n({people.called(best[0][0])} answers.)\n")
    assert session.talk and session.talk.person == best[0][0]


def test_a_person_is_chosen_by_number_id_or_name(cast: Cast) -> None:
    said, session = held(
        cast, "supporter", "/person", "/person 3", "Hello", "/person ada", "/person zed", "/match sailing"
    )
    assert "Your first words decide who answers. There are: 1 Ada <b>, 2 Bo, 3 Cy." in said
    assert "(Cy answers from now on.)" in said and "(Ada <b> answers from now on.)" in said
    assert "nobody is called 'zed'." in said and "Best: " in said
    assert session.talk and session.talk.records()[2]["person"] == "Cy"


def test_the_memory_is_shown_beside_the_answer_rests_and_is_no_part_of_what_is_said(cast: Cast) -> None:
    said, session = held(cast, "supporter", "/person bo", "Hello", "And?", "And?")
    assert session.talk
    used = [turn.memory.aspect for turn in session.talk.turns if turn.memory]
    assert len(used) == 3 and set(used) <= {"hobby", "work"} and used[0] != used[1] != used[2]
    assert f"(memory: {used[0]}: " in said and "[INFO" not in said
    told = session.talk.tell("What now?")
    assert told.messages[-1]["content"].startswith("[INFO-You ") and told.begun == ""


def test_a_persons_first_memory_and_what_stands_in_where_nothing_is_chosen(cast: Cast) -> None:
    _, session = held(cast, "seeker", "Hello", "And?")
    assert session.talk
    aspects = [turn.memory.aspect for turn in session.talk.turns if turn.memory]
    assert aspects[0] == "worry" and aspects[1] in ("hobby", "work", "worry")


def test_two_who_talk_take_turns_and_hear_each_other(cast: Cast) -> None:
    said, session = held(cast, "both", "", "2", "/more 1", "/persona")
    duet = session.duet
    assert duet and [at for at, _ in duet.turns] == [0, 1, 0, 1, 0]
    assert said.startswith("(seeker (bo) and supporter (") and "\nseeker (bo): Good morning.\nsupporter (" in said
    told = duet.tell()
    roles = [one["role"] for one in told.messages]
    assert roles[:6] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert told.messages[1]["content"] == "Good morning."


def test_one_prompt_for_two_who_talk_opens_all_their_turns(cast: Cast) -> None:
    said: list[str] = []
    session = talk.Session(cast, "both", typed(), said.append)
    session.single("It rains.")
    assert session.duet and len(session.duet.turns) == 4
    assert "".join(said).startswith("seeker (bo): It rains.\n")


@pytest.mark.parametrize("entry", ["direct", "other-way"])
def test_passages_are_found_anew_for_each_message(cast: Cast, entry: str) -> None:
    _, session = held(cast, entry, "Who keeps bees?")
    assert session.talk
    facts = session.talk.turns[-1].passages["facts"]
    assert facts.startswith("You are ") and 0 < len(facts.split()) <= 6
    told = session.talk.tell("And who sails?")
    assert told.messages[0]["content"] == f"You know: {told.passages['facts']}"
    assert [one["content"] for one in told.messages[1::2]] == ["Who keeps bees?", "Q: And who sails?"]


def test_the_same_without_the_persona_lacks_its_steering_or_else_its_prompt(cast: Cast) -> None:
    assert cast.persona("holmes").base().prompt is None
    base = cast.persona("steer").base()
    assert base.prompt and base.decoding.params["experts"]["warm"]["alpha"] == 0


def test_the_conversation_is_kept_after_every_turn_and_saved_where_asked(cast: Cast, tmp_path: Path) -> None:
    keep, other = tmp_path / "chats" / "one.jsonl", tmp_path / "talk.md"
    said, session = held(
        cast, "supporter", "/person bo", "Hello", f"/save {other}", "/save", "/save /dev/null/x", keep=keep
    )
    rows = [json.loads(line) for line in keep.read_text(encoding="utf-8").splitlines()]
    assert [row["role"] for row in rows] == ["assistant", "user", "assistant"]
    assert rows[2] == {
        "role": "assistant",
        "content": turns(session)[2],
        "persona": "supporter",
        "person": "Bo",
        "decoding": "talk",
        "temperature": 1.0,
        "seed": 0,
        "aspect": rows[2]["aspect"],
        "memory": rows[2]["memory"],
    }
    assert "**Bo**" in other.read_text(encoding="utf-8") and "memory: " in other.read_text(encoding="utf-8")
    assert f"({other}: written, 3 turns.)" in said and "say where to" in said and "Give another file." in said


def test_control_characters_of_a_model_do_not_reach_the_terminal() -> None:
    assert talk.shown("a\x1b[2Jb\x07\n\tc\x9bd é犯🔍") == "a[2Jb\n\tcd é犯🔍"


def test_a_pair_and_an_entry_that_is_not_there_are_errors_in_one_line(cast: Cast) -> None:
    with pytest.raises(StepError, match=r"no entry 'bot' under chat:\. Did you mean 'both'"):
        cast.find("bot")
    assert cast.find("") == "holmes"
