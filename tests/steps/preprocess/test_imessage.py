from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from exported import failure, on_folder, reader, reasons, texts
from hypothesis import given, settings
from hypothesis import strategies as st

START = datetime.fromisoformat("2022-05-17T09:05:42")
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@dataclass(frozen=True)
class Said:
    """One message, or without a name a notice. `under` are the lines that the program puts below the text."""

    name: str = "Ann"
    text: str = "hello"
    minute: int = 0
    read: str = ""
    under: str = ""


def when(minute: int) -> str:
    time = START + timedelta(minutes=minute)
    return f"{MONTHS[time.month - 1]} {time:%d}, {time.year} {time.hour % 12 or 12:>2}:{time:%M:%S} {'PM' if time.hour > 11 else 'AM'}"


def export(messages: list[Said]) -> str:
    return "".join(
        f"{when(said.minute)}{said.read}\n{said.name}\n{said.text}\n{said.under}\n"
        if said.name
        else f"{when(said.minute)} {said.text}\n\n"
        for said in messages
    )


read = reader("imessage")
run_folder = on_folder("imessage")


def test_a_chat_gives_a_row_a_message(read):
    text = export([Said(text="one\n\n three"), Said("Me", minute=400, read=" (Read by them after 1 hour, 49 seconds)")])
    first, second = read({"in/Ann, Bob.txt": text}, speaker="Me").rows()
    assert first | {"id": 0} == {
        "id": 0,
        "source": "in/Ann, Bob.txt:1",
        "conversation": "in/Ann, Bob",
        "channel": "Ann, Bob",
        "speaker": "Ann",
        "author": "Ann",
        "time": "2022-05-17T09:05:42",
        "text": "one\n\n three",
        "reply_to": None,
        "edited": False,
        "role": "user",
    }
    assert (second["time"], second["role"], second["source"]) == (
        "2022-05-17T15:45:42",
        "assistant",
        "in/Ann, Bob.txt:7",
    )
    assert first["id"] != second["id"]


def test_midnight_and_noon(read):
    rows = read({"a.txt": export([Said(minute=-9 * 60), Said(minute=3 * 60)])}).rows()
    assert [row["time"][11:16] for row in rows] == ["00:05", "12:05"]


@pytest.mark.parametrize("under", [
    "Tapbacks:\n    Loved by Ann\n    Laughed at by Bob\n", "Reactions:\n    Liked by Me\n",
    "This message responded to an earlier message.\n", "Sent with Confetti\n", "Sent with Invisible Ink\nTapbacks:\n    Loved by Ann\n",
    f"    {when(3)}\n    Ann\n    a reply\n\n    {when(4)} (Read by you after 3 seconds)\n    Me\n    another\n"])  # fmt: skip
def test_what_stands_under_a_message_is_not_its_text(read, under):
    ran = read({"a.txt": export([Said(under=under), Said("Me", "yes", 9)])})
    assert texts(ran) == ["hello", "yes"]


def test_a_reply_is_read_once(read):
    copy = f"    {when(3)}\n    Me\n    a reply\n\n"
    again = Said("Me", "a reply", 3, under="This message responded to an earlier message.\n")
    ran = read({"a.txt": export([Said(under=copy), Said(text="later", minute=2), again])})
    assert texts(ran) == ["hello", "later", "a reply"]


def test_lines_of_spaces_are_gaps_too_and_nothing_is_left_of_what_the_program_wrote(read):
    under = f"Tapbacks:\n    Loved by Me\n\n    {when(1)}\n    Bob\n    yes\n    "
    rows = read({"a.txt": export([Said(under=under), Said("Bob", "yes", 1)])}).rows()
    assert [(row["speaker"], row["text"]) for row in rows] == [("Ann", "hello"), ("Bob", "yes")]


def test_an_edited_message_says_what_it_says_last(read):
    ran = read(
        {
            "a.txt": export(
                [Said(text="tpyo\nEdited 3 seconds later: typo\nEdited 1 minute, 2 seconds later: fixed\nnow")]
            )
        }
    )
    assert [(row["text"], row["edited"]) for row in ran.rows()] == [("fixed\nnow", True)]


def test_what_is_not_speech_is_dropped_with_its_reason(read):
    lines = [
        Said(),
        Said("", "Ann renamed the conversation to Chess"),
        Said(text="This message was deleted from the conversation!"),
        Said(text="Ann unsent this message part 2 seconds after sending!"),
        Said(text="/Users/x/Library/Messages/Attachments/0a/IMG_1.heic"),
        Said(text="attachments/12/a b.jpg"),
        Said(text="Attachment missing!"),
        Said(text="SharePlay Message\nEnded"),
        Said(text=""),
    ]
    ran = read({"a.txt": export(lines)})
    assert texts(ran) == ["hello"]
    assert reasons(ran) == {"system message": 2, "deleted message": 2, "no text (media only)": 4}


def test_words_with_a_picture_are_kept(read):
    said = Said(text="~/Library/Messages/Attachments/0a/IMG_1.heic\nlook at this")
    assert texts(read({"a.txt": export([said])})) == ["look at this"]


@pytest.mark.parametrize("text", ["at\n\nMay 17, 2022\n\nwe met", f"{when(1)}\nis the time", f"see\n\n{when(1)}\n\nnothing",
    "    indented", "Tapbacks are nice", "Edited it later", "Sent with love", "Ended", "x attachments/a.jpg here"])  # fmt: skip
def test_words_that_only_resemble_marks_stay(read, text):
    assert texts(read({"a.txt": export([Said(text=text), Said("Me", "yes")])})) == [text, "yes"]


def test_a_windows_copy_with_a_bom_reads_the_same(read):
    raw = b"\xef\xbb\xbf" + export([Said(text="a\n\nb"), Said("Me")]).replace("\n", "\r\n").encode()
    assert texts(read({"a.txt": raw})) == ["a\n\nb", "hello"]


def test_since_and_until_are_days_of_the_exporter(read):
    lines = [Said(text=f"day {17 + day}", minute=day * 1440) for day in range(3)]
    assert texts(read({"a.txt": export(lines)}, since="2022-05-18", until="2022-05-18")) == ["day 18"]


def test_an_unknown_speaker_is_told_who_writes(read, tmp_path):
    lines = [Said(), Said("Me"), Said("Me", "x")]
    assert failure(read, {"a.txt": export(lines)}, tmp_path, speaker="Eve") == [
        "FOLDER: no author has the name 'Eve'. Set speaker to one of: Me (2 messages), Ann (1 message)."
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "[13/06/2021, 21:25:15] Ann: hi", "a.txt:1: not a chat of imessage-exporter: it looks like a WhatsApp chat. Use preprocess: whatsapp, or move it out of the folder."),
        ("a.txt", "hi", "a.txt:1: not a chat of imessage-exporter: it looks like other text. Move it out of the folder."),
        ("a.html", "<html>", "FOLDER: no chat of imessage-exporter here (only a.html). Export with imessage-exporter -f txt and put the .txt files in."),
    ],
)  # fmt: skip
def test_what_is_no_chat_is_refused_saying_what_it_is(read, tmp_path, name, content, message):
    assert failure(read, {name: content}, tmp_path) == [message]


def test_unreadable_messages_are_counted_and_too_many_refused(read, tmp_path):
    raw = export([Said(minute=n) for n in range(9)]).encode() + f"{when(9)}\nAnn\ncaf".encode() + b"\xe9\n\n"
    assert failure(read, {"a.txt": raw}, tmp_path) == [
        "FOLDER: 1 of 10 rows cannot be read: a.txt:37 not UTF-8. Mend them, or raise rejects: (now 0.05)."
    ]
    assert reasons(read({"a.txt": raw}, rejects=0.2)) == {"not UTF-8": 1}


LETTERS = st.characters(exclude_categories=("Cs", "Cc"))
WORDS = st.text(LETTERS | st.just("\n"), min_size=1, max_size=60).map(str.strip).filter(bool)
NAMES = st.text(LETTERS, min_size=1, max_size=12).map(str.strip).filter(bool)
UNDER = st.sampled_from(
    ["", "Tapbacks:\n    Loved by Ann\n", "Sent with Lasers\n", f"    {when(1)}\n    Ann\n    x\n\n"]
)
MESSAGES = st.lists(st.builds(Said, NAMES, WORDS, st.integers(0, 900), st.just(""), UNDER), max_size=12)


@given(messages=MESSAGES, windows=st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_messages_come_back(run_kind, tmp_path_factory, messages, windows):
    messages = [Said(), *messages]
    folder = tmp_path_factory.mktemp("chat")
    text = export([replace(said, read=" (Read by you after 3 seconds)" if windows else "") for said in messages])
    (folder / "a.txt").write_bytes((text.replace("\n", "\r\n") if windows else text).encode())
    ran = run_folder(run_kind, folder)
    assert [(row["speaker"], row["text"], row["time"]) for row in ran.rows()] == [
        (said.name, said.text, (START + timedelta(minutes=said.minute)).isoformat()) for said in messages
    ]
    assert not ran.rejected


def test_memory_does_not_grow_with_the_chat(run_kind, tmp_path):
    peaks = []
    for count in (1000, 12000):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "a.txt").write_text(export([Said(text="word " * 40, minute=number) for number in range(count)]))
        tracemalloc.start()
        run_folder(run_kind, folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    size = (tmp_path / "12000/a.txt").stat().st_size
    assert peaks[1] - peaks[0] < size / 3, f"{peaks} for {size} bytes"
