"""Scripts are run many at a time, in any order of answers, and memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from runner.asking import Answer, Ask, Script, Speakers, Unanswered, drive
from runner.replies import Replies
from runner.spending import Spending


class Echo:
    """A speaker that answers with the question: at once, later from another thread, or in batches."""

    def __init__(self, how: str = "at once", batch: int = 3) -> None:
        self.how, self.batch, self.at_once = how, batch, 8
        self.waiting: list[tuple[Ask, Future[Answer]]] = []
        self.batches: list[int] = []

    def submit(self, ask: Ask) -> Future[Answer]:
        future: Future[Answer] = Future()
        if self.how == "batch":
            self.waiting.append((ask, future))
        elif self.how == "later":
            Timer(0.001 * (len(ask.messages[0]["content"]) % 3), self._answer, (ask, future)).start()
        else:
            self._answer(ask, future)
        return future

    def _answer(self, ask: Ask, future: Future[Answer]) -> None:
        said = ask.messages[-1]["content"]
        if said.startswith("fail"):
            future.set_exception(Unanswered("HTTP 500"))
        elif said.startswith("stop"):
            future.set_exception(RuntimeError("out of order"))
        else:
            future.set_result(Answer(said.upper()))

    def flush(self) -> None:
        taken, self.waiting = self.waiting[: self.batch], self.waiting[self.batch :]
        self.batches.append(len(taken))
        for ask, future in taken:
            self._answer(ask, future)

    def close(self, patience: float) -> None:
        assert not self.waiting


def ask(text: str, to: str = "model") -> Ask:
    return Ask(to, [{"role": "user", "content": text}])


def chain(word: str, turns: int) -> Script[str]:
    for _ in range(turns):
        answer: Answer = yield ask(word)
        word = answer.text + "a"
    return word


def numbered(*scripts: Script[Any]) -> Iterator[tuple[int, Script[Any]]]:
    return iter(enumerate(scripts))


@pytest.mark.parametrize("how", ["at once", "later", "batch"])
def test_every_script_ends_with_its_own_result_however_answers_come(how: str) -> None:
    scripts = numbered(*(chain(f"w{place}", 1 + place % 4) for place in range(40)))
    made = dict(drive(scripts, {"model": Echo(how)}, 8))
    assert made == {
        place: ("w" if turns > 0 else "W").replace("w", "W") + f"{place}" + "A" * (turns - 1) + "a"
        for place in range(40)
        for turns in [1 + place % 4]
    }


def test_questions_put_side_by_side_come_back_in_their_order() -> None:
    def both() -> Script[list[str]]:
        answers: list[Answer] = yield [ask("ab"), ask("c"), ask("def")]
        nothing: list[Answer] = yield []
        return [answer.text for answer in [*answers, *nothing]]

    for how in ("at once", "later", "batch"):
        assert list(drive(numbered(both()), {"model": Echo(how)}, 4)) == [(0, ["AB", "C", "DEF"])]


def test_a_question_without_an_answer_ends_its_script_alone() -> None:
    def careful() -> Script[str]:
        try:
            yield ask("fail")
        except Unanswered as error:
            return f"saw {error}"
        return "no"

    made = dict(drive(numbered(chain("fail", 1), chain("ok", 1), careful()), {"model": Echo("later")}, 4))
    assert isinstance(made[0], Unanswered)
    assert (made[1], made[2]) == ("OKa", "saw HTTP 500")


def test_any_other_error_ends_them_all_and_closes_what_is_open() -> None:
    closed = []

    def open_ended(name: str) -> Script[None]:
        try:
            yield ask(name)
            yield ask("stop")
        finally:
            closed.append(name)

    with pytest.raises(RuntimeError, match="out of order"):
        list(drive(numbered(open_ended("a"), open_ended("bb")), {"model": Echo("later")}, 4))
    assert sorted(closed) == ["a", "bb"]


def test_scripts_are_opened_only_as_there_is_room() -> None:
    opened = ended = most = 0

    def counted() -> Iterator[tuple[int, Script[str]]]:
        nonlocal opened
        for place in range(500):
            opened += 1
            yield place, chain("x", 2)

    for _ in drive(counted(), {"model": Echo("batch", 5)}, 7):
        ended += 1
        most = max(most, opened - ended)
    assert (ended, opened) == (500, 500) and most <= 7


def test_room_can_shrink_so_that_no_more_is_asked_than_needed() -> None:
    left, asked = [5], 0

    def endless() -> Iterator[tuple[int, Script[str]]]:
        nonlocal asked
        while True:
            asked += 1
            yield asked, chain("x", 1)

    for _ in drive(endless(), {"model": Echo("batch")}, lambda: left[0]):
        left[0] -= 1
    assert asked == 5


def test_speakers_are_told_apart_by_name_and_batches_wait_for_whoever_can_still_ask() -> None:
    def two() -> Script[str]:
        first: Answer = yield ask("hello", "seeker")
        second: Answer = yield ask(first.text + "!", "supporter")
        return second.text

    seeker, supporter = Echo("batch", 10), Echo("batch", 10)
    made = dict(drive(numbered(*(two() for _ in range(10))), {"seeker": seeker, "supporter": supporter}, 10))
    assert set(made.values()) == {"HELLO!"}
    assert [size for size in seeker.batches if size] == [10] and [size for size in supporter.batches if size] == [10]


def test_where_one_speaker_cannot_close_the_others_and_the_kept_answers_still_do(tmp_path: Path) -> None:
    closed: list[str] = []

    class Closing(Echo):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def close(self, patience: float) -> None:
            closed.append(self.name)
            if self.name != "sound":
                raise OSError(f"{self.name}: the connection is gone")

    replies = Replies(tmp_path / "replies.sqlite")
    assert replies.claim("a question") is True
    named = Speakers(Spending({}), replies)
    named |= {name: Closing(name) for name in ("broken", "sound", "torn")}
    with pytest.raises(OSError, match="the connection is gone"), named:
        pass
    assert sorted(closed) == ["broken", "sound", "torn"]
    with closing(Replies(tmp_path / "replies.sqlite")) as others:
        assert others.claim("a question") is True
