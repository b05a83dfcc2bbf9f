from __future__ import annotations

import re
import stat
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.errors import DataError, MachineError, StepError
from runner.step import Step
from runner.steps.preprocess._scrub_aliases import FAMILY, FIRST, Aliases, key_of
from runner.steps.preprocess._scrub_patterns import Span, patterns
from runner.steps.preprocess._scrub_text import ORDER, ResidueError, Scrubber

SALT = {"salt_env": "TEST_SALT"}
CHATS = Path(__file__).resolve().parents[4] / "shared/data/chats"


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SALT", "a long random text")


def said(*lines: tuple[str, str], **columns: Any) -> list[dict[str, Any]]:
    """(speaker, text) as rows."""
    return [
        {
            "id": f"m{number}",
            "source": f"a.json#{number}",
            "conversation": "room",
            "speaker": who,
            "author": f"{who}-id",
            "text": text,
            **columns,
        }
        for number, (who, text) in enumerate(lines)
    ]


def scrub(run_kind: Any, text: str, **params: Any) -> str:
    (row,) = run_kind("preprocess.scrub", {**SALT, **params}, [{"id": "m", "text": text}]).rows()
    return row["text"]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Write to anna.smith+x@mail.example.co.uk, or bob@x.de.", "Write to <EMAIL>, or <EMAIL>."),
        ("почта: анна@пример.рф!", "почта: <EMAIL>!"),
        ("See https://a.b/c?d=1. (http://x.y/z_(w)), www.foo.de/a", "See <URL>. (<URL>), <URL>"),
        ("Join discord.gg/aB3 or example.com!", "Join <URL> or <URL>!"),
        ("Run node.js and README.md; ok.so, e.g. 3.5", None),
        (
            "Card 4111 1111 1111 1111, 4111-1111-1111-1112 and id 123456789012345678",
            "Card <CARD>, 4111-1111-1111-1112 and id 123456789012345678",
        ),
        ("DE89 3704 0044 0532 0130 00 THEN GB82WEST12345698765432!", "<IBAN> THEN <IBAN>!"),
        ("DE88 3704 0044 0532 0130 00", None),
        (
            "At 10.0.0.1, 2001:db8::1; not v1.2.3.4, 300.1.1.1, 12:30:45 or std::vector",
            "At <IP>, <IP>; not v1.2.3.4, 300.1.1.1, 12:30:45 or std::vector",
        ),
        ("Call +49 30 901820 before 2024-01-31 15:07", "Call <PHONE> before 2024-01-31 15:07"),
        ("@bob hi @everyone <@123456>", "<HANDLE> hi @everyone <HANDLE>"),
        ("password: hunter2 and sk-abcdefghijklmnopqrstuv", "<SECRET> and <SECRET>"),
        ("My password is hunter2!", "My <SECRET>"),
        ("The password is wrong again", None),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghij-_", "token <SECRET>"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nok", "<SECRET>\nok"),
        ("https://x.com/?mail=a@b.com&key=1", "<URL>"),
        ("  two  spaces,\ttabs\r\nand 🕵️\u200d♂️ stay \u00a0", None),
        ("", None),
    ],
)
def test_what_tells_who_somebody_is_goes_and_all_else_stays(run_kind, text, clean):
    assert scrub(run_kind, text) == (text if clean is None else clean)


def test_numbers_without_a_country_code_need_a_region(run_kind):
    text = "030 901820 or (415) 555-2671"
    assert scrub(run_kind, text) == text
    assert scrub(run_kind, text, region="DE") == "<PHONE> or (415) 555-2671"
    assert scrub(run_kind, text, region=["DE", "US"]) == "<PHONE> or <PHONE>"


def test_each_category_has_an_action_of_its_own(run_kind):
    text = "a@b.com https://x.org/me +49 30 901820"
    assert scrub(run_kind, text, emails="keep", urls="remove", phones="mask") == "a@b.com  <PHONE>"


def test_what_is_kept_is_left_whole(run_kind):
    assert scrub(run_kind, "https://medium.com/@anna/10.0.0.1", urls="keep") == "https://medium.com/@anna/10.0.0.1"
    assert scrub(run_kind, "https://x.com/?m=a@b.com", urls="keep") == "https://x.com/?m=<EMAIL>", (
        "but for an address in it"
    )


def test_a_pseudonym_is_the_same_for_the_same_thing_and_tells_nothing(run_kind):
    actions = {category: "pseudonym" for category in ORDER if category != "speakers"}
    text = "a@b.com c@d.com a@b.com @zoe @zoe https://q.org/1 +49 30 901820 4111111111111111 10.0.0.1"
    words = scrub(run_kind, text, **actions).split(" ")
    assert words[0] == words[2] != words[1]
    assert words[0].endswith("@example.com") and words[5].startswith("https://example.com/")
    assert words[3] == words[4] and words[3].startswith("@")
    assert not set(words) & set(text.split())


def test_a_row_may_be_dropped_for_what_it_holds(run_kind):
    ran = run_kind(
        "preprocess.scrub", {**SALT, "secrets": "drop"}, [{"id": 1, "text": "hi"}, {"id": 2, "text": "password: x"}]
    )
    assert [row["id"] for row in ran.rows()] == [1]
    assert [(reason, row["id"]) for reason, row in ran.rejected] == [("holds secrets", 2)]
    assert ran.facts["metrics"]["found"]["secrets"] == 1


def test_a_person_has_one_alias_in_every_column_mention_and_text(run_kind):
    rows = said(
        ("Anna Smith", "I am Anna."),
        ("bob_77", "hey anna, ANNA SMITH! @Anna Smith <@Anna Smith-id> Annapolis"),
        ("Anna Smith", "bob_77's hat"),
    )
    rows[1]["nickname"] = "Bobby"
    rows[2]["channel"] = "Direct Messages - Bobby"
    first, second, third = run_kind("preprocess.scrub", SALT, rows).rows()
    anna, bob = first["speaker"], second["speaker"]
    short, family = anna.split()
    assert short in FIRST and family in FAMILY and anna != bob
    assert (first["author"], third["speaker"], third["author"]) == (anna, anna, anna)
    assert second["nickname"] == second["author"] == bob
    assert first["text"] == f"I am {short}."
    assert second["text"] == f"hey {short.lower()}, {anna.upper()}! @{anna} @{anna} Annapolis"
    assert third["text"] == f"{bob.split()[0].lower()}'s hat"
    assert third["channel"] == f"Direct Messages - {bob.split()[0]}"
    assert first["id"] == "m0" and first["source"] == "a.json#0"


def test_names_are_found_in_messages_and_nested_columns(run_kind):
    talk = [{"role": "user", "content": "Anna Smith: hi"}, {"role": "assistant", "content": "Hi Anna"}]
    rows = [{"id": 1, "messages": talk, "speakers": ["Anna Smith", "me"], "more": {"to": ["Anna Smith", 3, None]}}]
    (row,) = run_kind("preprocess.scrub", SALT, rows).rows()
    anna = row["speakers"][0]
    assert row["messages"] == [
        {"role": "user", "content": f"{anna}: hi"},
        {"role": "assistant", "content": f"Hi {anna.split()[0]}"},
    ]
    assert row["more"] == {"to": [anna, 3, None]}


def test_names_in_scripts_without_spaces_are_found(run_kind):
    rows = said(("田中花子", "はい"), ("김민수", "田中花子さんと民"), ("Ольга Крылова", "Ольга, 김민수님"))
    _, second, third = run_kind("preprocess.scrub", SALT, rows).rows()
    assert "田中" not in second["text"] and second["text"].endswith("さんと民")
    assert "Ольга" not in third["text"] and "김민수" not in third["text"]


def test_names_that_are_words_stay_words(run_kind):
    rows = said(("Will Young", "Will you come? I will. The young ones."), ("x", "Yes, Will! Will Young said so"))
    first, second = run_kind("preprocess.scrub", SALT, rows).rows()
    will = first["speaker"]
    assert first["text"] == "Will you come? I will. The young ones."
    assert second["text"] == f"Yes, {will.split()[0]}! {will} said so"


def test_who_agreed_keeps_the_name(run_kind):
    rows = said(("holmes", "I am Holmes"), ("watson", "Holmes! It is Watson"))
    first, second = run_kind("preprocess.scrub", {**SALT, "keep_speakers": ["holmes"]}, rows).rows()
    assert first["speaker"] == "holmes" and first["author"] == "holmes-id"
    assert (
        second["speaker"] != "watson" and second["text"].startswith("Holmes! It is ") and "Watson" not in second["text"]
    )


def test_with_names_kept_a_number_as_a_name_still_goes(run_kind):
    rows = said(("+49 30 901820", "hi"), ("Anna", "hello"))
    first, second = run_kind("preprocess.scrub", {**SALT, "speakers": "keep"}, rows).rows()
    assert "901820" not in str(first)
    assert second["speaker"] == "Anna"


def test_conversations_named_after_people_stay_apart(run_kind):
    rows = [
        *said(("Anna Smith", "a"), conversation="Chat with Anna Smith"),
        *said(("Bea Jones", "b"), conversation="Chat with Bea Jones"),
    ]
    rows += said(("Bea Jones", "c"), conversation="Chat with Bea Jones")
    named = [row["conversation"] for row in run_kind("preprocess.scrub", SALT, rows).rows()]
    assert named[0] != named[1] == named[2]
    assert all(name.startswith("conversation-") for name in named)


def test_aliases_hang_on_the_salt_alone(run_kind, monkeypatch):
    few, more = said(("Anna Smith", "hi")), said(("Bea Jones", "ho"), ("Anna Smith", "hi"), ("Carl", "Anna?"))
    first = run_kind("preprocess.scrub", SALT, few).rows()[0]["speaker"]
    assert run_kind("preprocess.scrub", SALT, more).rows()[1]["speaker"] == first
    monkeypatch.setenv("TEST_SALT", "another")
    assert run_kind("preprocess.scrub", SALT, few).rows()[0]["speaker"] != first


def test_without_a_variable_a_key_is_made_once_that_only_its_owner_reads(run_kind, tmp_path):
    rows = said(("Anna Smith", "hi"))
    made = [run_kind("preprocess.scrub", {}, rows, artifacts=tmp_path).rows() for _ in range(2)]
    assert made[0] == made[1]
    key = tmp_path / "keys" / "aliases.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [path.name for path in key.parent.iterdir()] == ["aliases.key"]
    assert key.read_text().strip() not in str(made)


def test_several_steps_at_once_get_one_key_where_the_file_system_has_no_hard_links_too(tmp_path, monkeypatch):
    def refuse(*paths: Path) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr("os.link", refuse)
    step = Step("scrub", "preprocess", "scrub", {}, tmp_path)
    with ThreadPoolExecutor(8) as threads:
        keys = list(threads.map(key_of, [step] * 8))
    assert len(set(keys)) == 1 and len(keys[0]) == 64


def test_two_people_never_share_an_alias(run_kind):
    rows = said(*((f"person number {number}", "hi") for number in range(400)))
    names = [row["speaker"] for row in run_kind("preprocess.scrub", SALT, rows).rows()]
    assert len(set(names)) == 400


def test_an_alias_is_nobodys_real_name():
    avoid = {name.lower() for name in (*FIRST[:-1], *FAMILY[:-1])}
    assert Aliases(b"x", avoid).names("Anna")[:2] == (FIRST[-1], FAMILY[-1])


LETTERS = st.text(string.ascii_letters + " .,!?éß🎩\n", max_size=30)
PIECES = st.sampled_from(
    [
        "a@b.com",
        "https://x.org/p?q=1",
        "@zoe",
        "+49 30 901820",
        "10.1.2.3",
        "4111 1111 1111 1111",
        "Anna Smith",
        "anna",
        "<@bob-id>",
        "password: 1",
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.lists(st.one_of(LETTERS, PIECES), max_size=8).map("".join), min_size=1, max_size=4),
    action=st.sampled_from(["mask", "remove"]),
)
@example(texts=["a@b.coma@b.com@zoe@zoe"], action="remove")  # what is removed joins what stood around it, five times
def test_nothing_that_has_a_shape_or_a_name_is_left(run_kind, texts, action):
    rows = said(*(("Anna Smith" if number % 2 else "bob", text) for number, text in enumerate([*texts, "hi", "hi"])))
    made = run_kind("preprocess.scrub", {**SALT, **dict.fromkeys(set(ORDER) - {"speakers"}, action)}, rows).rows()
    aliases = {word.lower() for row in made for word in row["speaker"].split()}
    for row in made:
        left = [row["text"][span.start : span.end] for span in patterns(row["text"])]
        assert all(text.startswith("@") and text.lstrip("@").lower() in aliases for text in left), (
            "only mentions by alias"
        )
        words = re.findall(r"\w+", row["text"].lower())
        assert not {"anna", "smith", "bob"} & set(words)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(LETTERS, PIECES), max_size=8).map("".join))
def test_a_scrubbed_text_scrubbed_again_stays_as_it_is(run_kind, text):
    once = scrub(run_kind, text)
    assert scrub(run_kind, once) == once


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_characters="@", categories=["L", "Zs", "Po", "So"]), max_size=60))
def test_a_text_with_nothing_in_it_is_not_touched(text):
    if not list(patterns(text)):
        scrubber = Scrubber([patterns], dict.fromkeys(ORDER, "mask"), lambda category, value: "")
        assert scrubber.clean(text) == text


def test_what_appears_by_removing_is_removed_too():
    scrubber = Scrubber([patterns], dict.fromkeys(ORDER, "remove"), lambda category, value: "")
    assert scrubber.clean("10.0.10.0.0.1.0.1") == "10.0.10.0.0.1.0.1", "eight numbers are no address"
    assert scrubber.clean("ht https://x.org/ tp") == "ht  tp"


def test_what_is_still_there_after_every_round_is_an_error():
    def first_letter(text: str) -> list[Span]:
        return [Span(0, 1, "secrets")] if text else []

    scrubber = Scrubber([first_letter], dict.fromkeys(ORDER, "remove"), lambda category, value: "")
    assert scrubber.clean("abc") == ""
    with pytest.raises(ResidueError, match="secrets"):
        scrubber.clean("abcdefgh" * 10)


def test_a_residue_fails_the_step_and_names_the_row(run_kind, monkeypatch):
    from runner.steps.preprocess import scrub as kind

    monkeypatch.setattr(kind, "patterns", lambda text: [Span(0, 1, "secrets")] if text else [])
    with pytest.raises(DataError) as caught:
        run_kind(
            "preprocess.scrub", {**SALT, "secrets": "remove"}, [{"id": 1, "source": "a.csv:1", "text": "abcdefgh" * 10}]
        )
    assert (
        str(caught.value)
        == "a.csv:1: secrets still match after scrubbing. Correct the row by hand, or set secrets: drop."
    )


def test_a_file_named_after_a_person_is_told(run_kind):
    rows = [
        {**row, "source": f"Chat with Anna Smith.txt:{number}"}
        for number, row in enumerate(said(("Anna Smith", "a"), ("Anna Smith", "b")))
    ]
    ran = run_kind("preprocess.scrub", SALT, rows)
    assert ran.facts["notes"] == [
        "source names 1 files by what was scrubbed from the rows; it is left as it is. Rename these files."
    ]


def test_the_facts_count_by_category_and_action(run_kind):
    ran = run_kind(
        "preprocess.scrub", {**SALT, "urls": "remove"}, said(("Anna", "a@b.com a@c.com www.x.org"), ("Bo", "Anna!"))
    )
    assert ran.facts["tables"][0]["rows"] == [
        ["emails", "mask", 2],
        ["urls", "remove", 1],
        ["speakers", "pseudonym", 1],
    ]
    assert ran.facts["metrics"]["people_renamed"] == 2


def test_parts_stay_parts_and_share_their_people(run_kind):
    ran = run_kind("preprocess.scrub", SALT, {"train": said(("Anna Smith", "hi")), "test": said(("Bo", "Anna Smith?"))})
    assert ran.rows("test")[0]["text"] == f"{ran.rows('train')[0]['speaker']}?"


def test_a_missing_variable_is_named(run_kind, monkeypatch):
    monkeypatch.delenv("TEST_SALT")
    with pytest.raises(
        MachineError, match=r"scrub\.salt_env: TEST_SALT is not set\. Put a long random text into \.env"
    ):
        run_kind("preprocess.scrub", SALT, said(("Anna", "hi")))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"region": "XX"}, "scrub.region: no region 'XX'. Give two capital letters, as DE, US or BR."),
        (
            {"keep_speakers": ["Zoe"]},
            "scrub.keep_speakers: nobody is called 'Zoe'. Use a name or an id as the rows have it.",
        ),
    ],
)
def test_what_is_unknown_is_said_in_one_line(run_kind, params, message):
    with pytest.raises(StepError) as caught:
        run_kind("preprocess.scrub", {**SALT, **params}, said(("Anna", "hi")))
    assert str(caught.value) == message


def test_rows_all_dropped_are_an_error(run_kind):
    with pytest.raises(DataError, match=r"scrub: no row is left\. Drop less\."):
        run_kind("preprocess.scrub", {**SALT, "emails": "drop"}, [{"id": 1, "text": "a@b.com"}])


@pytest.mark.skipif(not CHATS.is_dir(), reason=f"the published chats are not at {CHATS}")
def test_no_speaker_of_the_published_whatsapp_chats_is_left_in_any_text(run_kind):
    folder = CHATS / "whatsapp"
    read = run_kind(
        "preprocess.whatsapp",
        {"folder": str(folder), "date_order": "day-first"},
        folder=folder,
        files=tuple(sorted(folder.iterdir())),
    )
    names = {row["speaker"] for row in read.rows()}
    ran = run_kind("preprocess.scrub", SALT, read.rows())
    assert len({row["speaker"] for row in ran.rows()}) == len(names)
    for row in ran.rows():
        assert not any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", row["text"]) for name in names if len(name) > 2)
        assert row["speaker"] not in names
