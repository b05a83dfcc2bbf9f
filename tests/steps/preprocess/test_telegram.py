from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from exported import failure, on_folder, reader, reasons, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.steps.preprocess._json_stream import OPEN, walk
from runner.steps.preprocess._telegram_export import mend

REAL = Path(__file__).resolve().parents[4] / "shared/data/chats/telegram"
START = datetime(2022, 5, 9, 22, 23, 53, tzinfo=UTC)


@dataclass(frozen=True)
class Said:
    """One message to export, `more` over what a plain one has."""

    name: str | None = "Ann"
    text: Any = "hello"
    minute: int = 0
    more: tuple[tuple[str, Any], ...] = ()


def message(said: Said, number: int) -> dict[str, Any]:
    time = START + timedelta(minutes=said.minute)
    whole = {
        "id": number,
        "type": "message",
        "date": (time + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S"),
        "date_unixtime": str(int(time.timestamp())),
        "from": said.name,
        "from_id": f"user-{said.name}",
        "text": said.text,
        **dict(said.more),
    }
    return {key: value for key, value in whole.items() if value is not ...}


def chat(
    messages: list[Said], number: int = 7, kind: str = "personal_chat", name: str | None = "Bob"
) -> dict[str, Any]:
    named = {} if name is None else {"name": name}
    return {**named, "type": kind, "id": number, "messages": [message(said, 10 + n) for n, said in enumerate(messages)]}


def whole(*chats: dict[str, Any], left: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {
        "about": "Here is the data you requested.",
        "personal_information": {"user_id": 1, "first_name": "Ann"},
        "contacts": {"about": "…", "list": [{"first_name": "Bob"}]},
        "chats": {"about": "This page lists all chats", "list": list(chats)},
        "left_chats": {"about": "…", "list": list(left)},
    }


read = reader("telegram")
run_folder = on_folder("telegram")


# Rows


def test_a_chat_gives_a_row_a_message(read):
    said = Said(text=" keep  me\n", more=(("reply_to_message_id", 4), ("edited", "2022-05-10T00:00:00")))
    first, second = read({"in/result.json": chat([said, Said("Bob")])}, speaker="Ann").rows()
    assert first == {
        "id": "7-10",
        "source": "in/result.json#7-10",
        "conversation": "7",
        "channel": "Bob",
        "speaker": "Ann",
        "author": "user-Ann",
        "time": "2022-05-10T00:23:53+02:00",
        "text": " keep  me\n",
        "reply_to": "7-4",
        "edited": True,
        "role": "assistant",
    }
    assert (second["role"], second["edited"], second["reply_to"]) == ("user", False, None)


def test_parts_of_a_text_are_joined_with_nothing_between(read):
    parts = ["see ", {"type": "link", "text": "https://x.org"}, ", ", {"type": "bold", "text": "B"}, "!"]
    entities = [{"type": "plain", "text": "one"}, {"type": "text_link", "text": "two", "href": "https://x.org"}]
    lines = [
        Said(text=parts),
        Said(text="other", more=(("text_entities", entities),)),
        Said(text="", more=(("text_entities", entities[:1]),)),
    ]
    assert texts(read({"a.json": chat(lines)})) == ["see https://x.org, B!", "onetwo", "one"]


def test_all_chats_of_an_account_are_read(read):
    files = {
        "result.json": whole(
            chat([Said(text="a")]),
            chat([Said(text="b")], 8, "saved_messages", name=None),
            chat([], 9),
            chat([Said(text="c")], 11, "private_group", "Chess"),
            left=(chat([Said(text="d")], 12, "public_supergroup", "Gone"),),
        )
    }
    ran = read(files)
    assert [(row["text"], row["channel"], row["id"]) for row in ran.rows()] == [
        ("a", "Bob", "7-10"),
        ("b", "Saved Messages", "8-10"),
        ("c", "Chess", "11-10"),
        ("d", "Gone", "12-10"),
    ]
    assert ran.facts["metrics"] == {"files": 1, "chats": 4, "speakers": 1}


def test_what_is_not_speech_is_dropped_with_its_reason(read):
    lines = [
        Said(),
        Said(more=(("type", "service"), ("actor", "Ann"), ("action", "phone_call"), ("from", ...), ("from_id", ...))),
        Said(more=(("forwarded_from", "Eve"),)),
        Said(more=(("forwarded_from", None),)),
        Said(text="", more=(("photo", "photos/a.jpg"),)),
        Said(text="", more=(("media_type", "sticker"), ("sticker_emoji", "👍"))),
        Said(text=" "),
        Said(text="x", more=(("via_bot", "@gif"),)),
    ]
    export = chat(lines)
    export["messages"].append({"id": 99, "type": "unsupported"})
    ran = read({"a.json": export})
    assert texts(ran) == ["hello"]
    assert reasons(ran) == {
        "system message": 1,
        "forwarded": 2,
        "no text (media only)": 2,
        "no text": 1,
        "written by a bot": 1,
        "unsupported message": 1,
    }


def test_a_bot_is_dropped_unless_kept(read):
    files = {"a.json": chat([Said(text="/start"), Said("Bot", "hi", more=(("from_id", "user7"),))], kind="bot_chat")}
    ran = read(files)
    assert texts(ran) == ["/start"]
    assert reasons(ran) == {"written by a bot": 1}
    assert texts(read(files, bots="keep")) == ["/start", "hi"]


def test_control_characters_as_telegram_escapes_them(read):
    raw = json.dumps(chat([Said(text="@@"), Said()])).replace("@@", r"a\x1Fb \\x41 \\\x0Bc")
    assert texts(read({"a.json": raw})) == ["a\x1fb \\x41 \\\x0bc", "hello"]


@pytest.mark.parametrize("gap", range(40))
def test_escapes_are_mended_wherever_a_block_ends(gap, monkeypatch):
    monkeypatch.setattr("runner.steps.preprocess._json_stream.BLOCK", 16)
    raw = ('{"m": ["' + "x" * gap + r"\x1F\\\\x41\\\x0B" + '"]}').encode()
    values = [value for place, value in walk(io.BytesIO(raw), {"", "m"}, mend) if place == "m.item"]
    assert values == ["x" * gap + "\x1f\\\\x41\\\x0b"]


def test_old_exports_have_local_times_and_numbers_for_ids(read):
    old = (("date_unixtime", ...), ("from_id", 4321))
    (row,) = read({"a.json": chat([Said(more=old)])}, speaker="user4321").rows()
    assert (row["time"], row["author"], row["role"]) == ("2022-05-10T00:23:53", "user4321", "assistant")


def test_no_time_has_an_offset_where_some_cannot(read):
    rows = read({"a.json": chat([Said(), Said(more=(("date_unixtime", ...),)), Said(more=(("date", ...),))])}).rows()
    assert [row["time"] for row in rows] == ["2022-05-10T00:23:53", "2022-05-10T00:23:53", "2022-05-09T22:23:53"]


def test_deleted_accounts_are_told_apart_by_id(read):
    lines = [Said(None, more=(("from_id", f"user{number}"),)) for number in (1, 2)]
    rows = read({"a.json": chat(lines)}).rows()
    assert [(row["speaker"], row["author"]) for row in rows] == [
        ("Deleted Account", "user1"),
        ("Deleted Account", "user2"),
    ]


def test_a_reply_into_another_chat_names_it(read):
    said = Said(more=(("reply_to_message_id", 4), ("reply_to_peer_id", "channel99")))
    assert read({"a.json": chat([said])}).rows()[0]["reply_to"] == "99-4"


def test_a_chat_in_two_exports_is_read_once(read):
    ran = read({"a.json": chat([Said(text="a"), Said(text="b")]), "b.json": whole(chat([Said(text="a")]))})
    assert texts(ran) == ["a", "b"]
    assert reasons(ran) == {"the same message again": 1}


def test_an_archive_and_a_bom_are_no_obstacles(read):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("ChatExport/result.json", b"\xef\xbb\xbf" + json.dumps(chat([Said()])).encode())
        archive.writestr("ChatExport/photos/a.jpg", b"x")
    (row,) = read({"e.zip": made.getvalue()}).rows()
    assert row["source"] == "e.zip/ChatExport/result.json#7-10"


def test_half_a_character_is_rejected_not_written(read):
    ran = read({"a.json": chat([Said(text="cut \ud83d"), Said()])})
    assert texts(ran) == ["hello"]
    assert [(reason, row["text"]) for reason, row in ran.rejected] == [("half a character (a lone surrogate)", "cut ?")]


# What is refused


def test_an_unknown_speaker_is_told_who_writes(read, tmp_path):
    assert failure(read, {"a.json": chat([Said(), Said("Bob"), Said("Bob", "")])}, tmp_path, speaker="Eve") == [
        "FOLDER: no author has the id or name 'Eve'. Set speaker to one of: Ann (id user-Ann, 1 message), "
        "Bob (id user-Bob, 1 message)."
    ]


def test_a_name_of_several_people_is_refused(read, tmp_path):
    lines = [Said(), Said(more=(("from_id", "user2"),))]
    assert failure(read, {"a.json": chat(lines)}, tmp_path, speaker="Ann") == [
        "FOLDER: 'Ann' is the name of several: Ann (id user-Ann, 1 message), Ann (id user2, 1 message). "
        "Set speaker to an id or a full name."
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.json": {"guild": {}, "channel": {}, "messages": []}}, "a.json:1: not a Telegram export: it looks like a Discord export. Use preprocess: discord, or move it out of the folder."),
        ({"a.json": {"participants": [], "messages": []}}, "a.json:1: not a Telegram export: it looks like a Messenger or Instagram export. Use preprocess: messenger, or move it out of the folder."),
        ({"a.json": [{"type": "message", "ts": "1.2"}]}, "a.json:1: not a Telegram export: it looks like a day of a Slack export. Use preprocess: slack, or move it out of the folder."),
        ({"a.txt": "[13/06/2021, 21:25:15] Ann: hi"}, "a.txt:1: no Telegram export: it looks like a WhatsApp chat. Use preprocess: whatsapp, or move it out."),
        ({"messages.html": "<html>"}, "FOLDER: no Telegram export here (only messages.html). In Telegram Desktop choose Export, format Machine-readable JSON, and put result.json in."),
    ],
)  # fmt: skip
def test_what_is_no_export_is_refused_saying_what_it_is(read, tmp_path, files, message):
    assert failure(read, files, tmp_path) == [message]


def test_a_torn_file_is_one_line(read, tmp_path):
    (line,) = failure(read, {"a.json": json.dumps(chat([Said()] * 3))[:-40]}, tmp_path)
    assert line.startswith("a.json:1: cut off or damaged: it stops being JSON after 2 messages (")
    assert line.endswith("Export it again.")


def test_damaged_messages_are_counted_and_too_many_refused(read, tmp_path):
    lines = [Said()] * 18 + [Said(more=(("date", "yesterday"),)), Said(more=(("id", ...),))]
    files = {"a.json": chat(lines)}
    (line,) = failure(read, files, tmp_path)
    assert line.startswith("FOLDER: 2 of 20 rows cannot be read: a.json#7 not as Telegram writes it (ValueError: ")
    assert len(read(files, rejects=0.1).rows()) == 18


# The stream


@pytest.mark.parametrize(
    "raw", [b'{"a": [1, 2', b'{"a" 1}', b"[1,]", b'{"a": NaN}', b"[1] [2]", b"", b'["\xff"]', b"[1 2]", b"{1: 2}"]
)
def test_what_is_no_json_is_an_error(raw):
    with pytest.raises(ValueError, match=r".+"):
        list(walk(io.BytesIO(raw), {"", "a"}))


def test_a_damaged_file_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("runner.steps.preprocess._json_stream.LONGEST", 1 << 12)
    with pytest.raises(ValueError, match="a value of more than 4096 characters"):
        list(walk(io.BytesIO(b'["' + b"x" * (1 << 20)), {""}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(value=VALUES, block=st.integers(1, 40), plain=st.booleans(), indent=st.sampled_from([None, 1]))
@settings(max_examples=200, deadline=None)
def test_any_json_comes_back_wherever_blocks_end(value, block, plain, indent):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runner.steps.preprocess._json_stream.BLOCK", block)
        raw = json.dumps({"a": {"b": [value, value]}, "c": value}, ensure_ascii=plain, indent=indent).encode()
        found = list(walk(io.BytesIO(raw), {"", "a", "a.b"}))
    assert found == [("", OPEN), ("a", OPEN), ("a.b", OPEN), ("a.b.item", value), ("a.b.item", value), ("c", value)]


# Any messages

WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
PARTS = st.lists(WORDS | st.builds(lambda text: {"type": "bold", "text": text}, WORDS), max_size=4)
MESSAGES = st.lists(
    st.builds(Said, st.sampled_from(["Ann", "Bob", "犯人"]), WORDS | PARTS, st.integers(0, 9)), max_size=12
)


def as_telegram_writes(value: Any) -> str:
    """JSON with the escapes of Telegram, which JSON does not have."""
    text = json.dumps(value, ensure_ascii=False)
    for number in range(0x20):
        text = text.replace(f"\\\\u{number:04x}", "\0").replace(f"\\u{number:04x}", f"\\x{number:02X}")
        text = text.replace("\0", f"\\\\u{number:04x}")
    return text


@given(first=MESSAGES, second=MESSAGES)
@settings(max_examples=100, deadline=None)
def test_any_messages_come_back(run_kind, tmp_path_factory, first, second):
    first = [*first, Said()]
    folder = tmp_path_factory.mktemp("telegram")
    export = whole(chat(first), chat(second, 8))
    (folder / "result.json").write_text(as_telegram_writes(export), encoding="utf-8", newline="")
    ran = run_folder(run_kind, folder)
    expected = [
        (said.name, text, (START + timedelta(minutes=said.minute)).timestamp())
        for said in [*first, *second]
        if (text := "".join(part if isinstance(part, str) else part["text"] for part in said.text)).strip()
    ]
    assert [
        (row["speaker"], row["text"], datetime.fromisoformat(row["time"]).timestamp()) for row in ran.rows()
    ] == expected
    assert len(ran.rejected) == len(first) + len(second) - len(expected)


def test_memory_does_not_grow_with_the_export(run_kind, tmp_path):
    peaks = []
    for count in (1000, 12000):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(chat([Said(text="word " * 40)] * count)), encoding="utf-8")
        tracemalloc.start()
        run_folder(run_kind, folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    size = (tmp_path / "12000/result.json").stat().st_size
    assert peaks[1] - peaks[0] < size / 3, f"{peaks} for {size} bytes"


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the published sample chats are not beside this checkout (../shared/data)"
)
def test_the_published_chat_gives_every_message(run_kind):
    ran = run_folder(run_kind, REAL, speaker="Alice")
    # 8 entries: 2 services, 2 photos without words, 4 messages, of which two tell the local time only.
    assert reasons(ran) == {"system message": 2, "no text (media only)": 2}
    assert [(row["speaker"], row["role"], row["text"], row["time"]) for row in ran.rows()] == [
        ("Bob", "user", "https://google.com 👀", "2019-07-12T16:55:32"),
        ("Alice", "assistant", "hello world", "2022-03-08T13:07:42"),
        ("Bob", "user", "world?", "2022-05-09T22:23:53"),
        ("Alice", "assistant", "blah blah", "2022-05-09T23:26:09"),
    ]
