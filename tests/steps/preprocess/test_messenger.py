from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from exported import failure, on_folder, reader, reasons, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.steps.preprocess._messenger_file import is_notice, repaired

REAL = Path(__file__).resolve().parents[4] / "shared/data/chats/messenger"
START = 1415147000000


@dataclass(frozen=True)
class Said:
    """One message to export, `more` over what a plain one has."""

    name: str = "Ann"
    text: str | None = "hello"
    second: int = 0
    more: tuple[tuple[str, Any], ...] = ()


def broken(text: str) -> str:
    """A text as the services write it: every byte of its UTF-8 a letter."""
    return text.encode().decode("latin-1")


def thread(messages: list[Said], path: str = "inbox/bob_1", title: str = "Bob") -> dict[str, Any]:
    """A file of a download: the newest message first."""
    return {
        "participants": [{"name": broken(name)} for name in dict.fromkeys(said.name for said in messages)],
        "messages": [
            {
                "sender_name": broken(said.name),
                "timestamp_ms": START + said.second * 1000,
                **({} if said.text is None else {"content": broken(said.text)}),
                **dict(said.more),
            }
            for said in reversed(messages)
        ],
        "title": broken(title),
        "is_still_participant": True,
        "thread_path": path,
        "magic_words": [],
    }


def encrypted(messages: list[Said], name: str = "Bob_15") -> dict[str, Any]:
    return {
        "participants": list(dict.fromkeys(said.name for said in messages)),
        "threadName": name,
        "messages": [
            {
                "isUnsent": False,
                "media": [],
                "reactions": [],
                "senderName": said.name,
                "text": said.text or "",
                "timestamp": START + said.second * 1000,
                "type": "text",
                **dict(said.more),
            }
            for said in messages
        ],
    }


read = reader("messenger")
run_folder = on_folder("messenger")


# Rows


def test_a_thread_gives_a_row_a_message_the_oldest_first(read):
    files = {
        "messages/inbox/bob_1/message_1.json": thread([Said(text=" it’s 👍\n"), Said("Zoë", second=1)], title="Zoë")
    }
    first, second = read(files, speaker="Zoë").rows()
    assert first | {"id": 0} == {
        "id": 0,
        "source": "messages/inbox/bob_1/message_1.json#1415147000000",
        "conversation": "inbox/bob_1",
        "channel": "Zoë",
        "speaker": "Ann",
        "author": "Ann",
        "time": "2014-11-05T00:23:20+00:00",
        "text": " it’s 👍\n",
        "reply_to": None,
        "edited": False,
        "role": "user",
    }
    assert (second["speaker"], second["role"]) == ("Zoë", "assistant")
    assert first["id"] != second["id"]


def test_the_files_of_a_thread_are_joined_the_oldest_first(read):
    parts = [[Said(text=f"{part}{n}", second=part * 10 + n) for n in range(3)] for part in range(3)]
    files = {f"inbox/bob_1/message_{3 - part}.json": thread(said) for part, said in enumerate(parts)}
    ran = read(files)
    assert texts(ran) == ["00", "01", "02", "10", "11", "12", "20", "21", "22"]
    assert ran.facts["metrics"] == {"files": 3, "threads": 1, "speakers": 1}


def test_an_id_stays_when_the_thread_grows(read):
    old = read({"message_1.json": thread([Said(text="a"), Said(text="a")])}).rows()
    new = read({"message_1.json": thread([Said(text="a"), Said(text="a"), Said(text="b", second=5)])}).rows()
    assert {row["id"] for row in old} < {row["id"] for row in new}
    assert len({row["id"] for row in new}) == 3


def test_an_encrypted_chat_is_read_as_it_is(read):
    lines = [
        Said(text="café Ã©"),
        Said("Bob", "https://x.org", 1, (("type", "link"),)),
        Said("Bob", "", 2, (("type", "media"), ("media", [{"uri": "./a.jpg"}]))),
        Said("Bob", "Bob unsent a message", 3, (("type", "placeholder"), ("isUnsent", True))),
        Said("Bob", "You missed a call", 4, (("type", "placeholder"),)),
    ]
    ran = read({"Bob_15.json": encrypted(lines)})
    assert [(row["text"], row["conversation"], row["channel"]) for row in ran.rows()] == [
        ("café Ã©", "Bob_15", "Bob"),
        ("https://x.org", "Bob_15", "Bob"),
    ]
    assert reasons(ran) == {"no text (media only)": 1, "deleted message": 1, "system message": 1}


def test_what_is_not_speech_is_dropped_with_its_reason(read):
    lines = [
        Said(text=None, more=(("photos", [{"uri": "a.jpg"}]),)),
        Said(text=None, more=(("is_unsent", True),)),
        Said(text="Ann called Bob.", more=(("call_duration", 12),)),
        Said(text="Ann added Bob to the group.", more=(("type", "Subscribe"),)),
        Said(text="Reacted 😂 to your message "),
        Said(text="Ann sent an attachment."),
        Said(text="You sent an attachment."),
        Said(text="Liked a message"),
        Said(text="see", more=(("share", {"link": "https://x.org"}),)),
    ]
    ran = read({"a.json": thread(lines)})
    assert texts(ran) == ["see"]
    assert reasons(ran) == {"no text (media only)": 1, "deleted message": 1, "system message": 6}


@pytest.mark.parametrize("text", ["Ann created a poll: Tea?", "Ann voted for “Yes” in the poll.", "You named the group Chess.",
    "Ann set the nickname for Bob to Bobby.", "Ann left the group.", "Ann liked a message", "Ann missed your call.",
    "Ann started a video chat.", "The video call ended.", "Ann changed the theme to Love.", "Ann pinned a message.",
    "Ann hat einen Anhang gesendet.", "You can now message and call each other and see info like Active Status."])  # fmt: skip
def test_boilerplate_is_told_from_speech(text):
    assert is_notice(text, "Ann")


@pytest.mark.parametrize("text", ["You sent an attachment. I cannot open it", "Bob left the group. Sad!", "I liked a message",
    "You called it. Nice", "Reacted badly", "Ann is late", "You left the door open", "You named it"])  # fmt: skip
def test_words_that_resemble_boilerplate_stay(text):
    assert not is_notice(text, "Ann")


@pytest.mark.parametrize("text", ["café", "naïve Ångström", "Привет", "犯人", "👍🏽", "plain", "£5 – “ok”", "ÿ", ""])
def test_good_text_is_never_harmed_and_broken_text_mended(text):
    assert repaired(text) == text
    assert repaired(broken(text)) == text
    assert repaired(repaired(broken(text))) == text


def test_an_archive_and_a_bom_are_no_obstacles(read):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        inside = "your_instagram_activity/messages/inbox/bob_1/message_1.json"
        archive.writestr(inside, b"\xef\xbb\xbf" + json.dumps(thread([Said()])).encode())
        archive.writestr("your_instagram_activity/messages/reactions.json", '{"reactions": []}')
        archive.writestr("your_instagram_activity/messages/inbox/bob_1/photos/a.jpg", b"x")
    ran = read({"download.zip": made.getvalue()})
    assert texts(ran) == ["hello"]
    assert ran.facts["notes"] == ["1 JSON files that hold no chat were not read."]


def test_since_and_until_are_days_in_utc(read):
    lines = [Said(text=f"day {5 + day}", second=day * 86400) for day in range(3)]
    ran = read({"a.json": thread(lines)}, since="2014-11-06", until="2014-11-06")
    assert texts(ran) == ["day 6"]
    assert reasons(ran) == {"before since": 1, "after until": 1}


# What is refused


def test_an_unknown_speaker_is_told_who_writes(read, tmp_path):
    assert failure(read, {"a.json": thread([Said(), Said("Zoë", None)])}, tmp_path, speaker="Eve") == [
        "FOLDER: no author has the name 'Eve'. Set speaker to one of: Ann (1 message), Zoë (0 messages)."
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.json": {"name": "x", "type": "personal_chat", "id": 1, "messages": []}}, "a.json:1: not a Messenger or Instagram chat: it looks like a Telegram export. Use preprocess: telegram, or move it out of the folder."),
        ({"x/message_1.json": {"a": 1}}, "x/message_1.json:1: not a Messenger or Instagram chat: it looks like an object with the keys a. Move it out of the folder."),
        ({"a.json": {"a": 1}}, "FOLDER: no Messenger or Instagram chat here (only a.json). Download your information (messages only) in the format JSON, not HTML, and put it in."),
        ({"message_1.html": "<html>"}, "FOLDER: no Messenger or Instagram chat here (only message_1.html). Download your information (messages only) in the format JSON, not HTML, and put it in."),
    ],
)  # fmt: skip
def test_what_is_no_chat_is_refused_saying_what_it_is(read, tmp_path, files, message):
    assert failure(read, files, tmp_path) == [message]


def test_the_same_file_twice_is_refused(read, tmp_path):
    said = thread([Said(), Said(second=5)])
    assert failure(read, {"a/message_1.json": said, "b/message_1.json": said}, tmp_path) == [
        "b/message_1.json:1: covers the same time of 'Bob' as a/message_1.json. "
        "Keep one: messages have no ids to tell them apart."
    ]


def test_a_torn_file_is_one_line(read, tmp_path):
    (line,) = failure(read, {"a.json": json.dumps(thread([Said()] * 3))[:-150]}, tmp_path)
    assert line.startswith("a.json:1: cut off or damaged: it stops being JSON after 2 messages (")
    assert line.endswith("Download it again.")


def test_damaged_messages_are_counted_and_too_many_refused(read, tmp_path):
    files = {"a.json": thread([Said(second=n) for n in range(19)] + [Said(more=(("sender_name", None),))])}
    assert len(read(files).rows()) == 19
    (line,) = failure(read, files, tmp_path, rejects=0.01)
    assert line.startswith("FOLDER: 1 of 20 rows cannot be read: a.json not as the service writes it (AttributeError: ")


# Any messages

WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
NAMES = st.sampled_from(["Ann", "Zoë", "Привет", "犯人"])
MESSAGES = st.lists(st.builds(Said, NAMES, WORDS, st.integers(0, 9)), min_size=1, max_size=12)


def in_time(messages: list[Said]) -> list[Said]:
    second, ordered = 0, []
    for said in messages:
        second += said.second
        ordered.append(Said(said.name, said.text, second))
    return ordered


@given(messages=MESSAGES, secure=st.booleans(), cut=st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_any_messages_come_back(run_kind, tmp_path_factory, messages, secure, cut):
    messages = in_time([*messages, Said(second=1)])
    folder = tmp_path_factory.mktemp("meta")
    if secure:
        (folder / "Bob_15.json").write_text(json.dumps(encrypted(messages), ensure_ascii=False), encoding="utf-8")
    else:
        for number, start in enumerate(reversed(range(0, len(messages), cut)), 1):
            said = messages[start : start + cut]
            (folder / f"message_{number}.json").write_text(json.dumps(thread(said)), encoding="utf-8")
    ran = run_folder(run_kind, folder)
    found = [(row["speaker"], row["text"], datetime.fromisoformat(row["time"]).timestamp()) for row in ran.rows()]
    expected = [
        (said.name, said.text, START / 1000 + said.second) for said in messages if said.text and said.text.strip()
    ]
    if secure or len({said.second for said in messages}) == len(messages):
        assert found == expected
    else:  # of one moment in two files nothing tells which came first
        assert Counter(found) == Counter(expected)


def test_memory_does_not_grow_with_a_thread(run_kind, tmp_path):
    peaks = []
    for count in (1000, 12000):
        folder = tmp_path / str(count)
        folder.mkdir()
        said = [Said(text="word " * 40, second=number) for number in range(count)]
        (folder / "message_1.json").write_text(json.dumps(thread(said)), encoding="utf-8")
        tracemalloc.start()
        ran = run_folder(run_kind, folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        times = [row["time"] for row in ran.rows()]
        assert times == sorted(times)
    size = (tmp_path / "12000/message_1.json").stat().st_size
    assert peaks[1] - peaks[0] < size / 3, f"{peaks} for {size} bytes"


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the published sample chats are not beside this checkout (../shared/data)"
)
def test_the_published_chat_gives_every_message(run_kind):
    ran = run_folder(run_kind, REAL, speaker="Alice")
    # 7 messages, newest first, under a BOM: a file, a recording, a sticker and a photo have no words.
    assert reasons(ran) == {"no text (media only)": 4}
    assert [(row["speaker"], row["role"], row["text"], row["time"]) for row in ran.rows()] == [
        ("Bob", "user", "you what", "2014-11-05T00:28:45.354000+00:00"),
        ("Bob", "user", "Whats up!", "2014-11-05T00:34:41.489000+00:00"),
        ("Alice", "assistant", "Hello", "2014-11-05T00:35:32.056000+00:00"),
    ]
