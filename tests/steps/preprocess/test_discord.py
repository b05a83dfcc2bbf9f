from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from exported import failure, on_folder, reader, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError

REAL = Path(__file__).resolve().parents[4] / "shared/data/chats/discord"
START = datetime(2024, 1, 31, 15, 7, tzinfo=UTC)
RULE = "=" * 62


@dataclass(frozen=True)
class Said:
    """One message to export."""

    name: str = "ann"
    text: str = "hello"
    minute: int = 0
    number: str = "0000"
    nickname: str | None = None
    kind: str = "Default"
    bot: bool = False
    pinned: bool = False
    edited: bool = False
    reply_to: str | None = None
    files: tuple[str, ...] = ()
    blocks: str = ""
    id: str = ""
    more: tuple[tuple[str, Any], ...] = ()

    @property
    def time(self) -> datetime:
        return START + timedelta(minutes=self.minute)


def as_json(messages: list[Said], channel: str = "c1", count: int | None = None) -> dict[str, Any]:
    return {
        "guild": {"id": "9", "name": "Guild"},
        "channel": {"id": channel, "type": "GuildTextChat", "name": f"name-{channel}", "topic": None},
        "messages": [_message(said, f"{channel}{number}") for number, said in enumerate(messages)],
        "messageCount": len(messages) if count is None else count,
    }


def _message(said: Said, own: str) -> dict[str, Any]:
    reference = {"reference": {"messageId": said.reply_to, "channelId": "c"}} if said.reply_to else {}
    return {
        "id": said.id or own,
        "type": said.kind,
        "timestamp": said.time.isoformat(),
        "isPinned": said.pinned,
        "content": said.text,
        "timestampEdited": said.time.isoformat() if said.edited else None,
        "author": {
            "id": f"id-{said.name}{said.number}",
            "name": said.name,
            "discriminator": said.number,
            "nickname": said.nickname or said.name,
            "isBot": said.bot,
        },
        "attachments": [{"id": "1", "url": f"https://x.org/{name}", "fileName": name} for name in said.files],
        **reference,
        **dict(said.more),
    }


def as_text(
    messages: list[Said], when: str = "%m/%d/%Y %I:%M %p", count: Any = None, channel: str = "Text / general"
) -> str:
    preamble = f"{RULE}\nGuild: Guild\nChannel: {channel}\nTopic: Welcome:\nto all\n{RULE}\n\n"
    footer = f"{RULE}\nExported {len(messages) if count is None else count} message(s)\n{RULE}\n"
    return preamble + "".join(_block(said, when) for said in messages) + footer


def _block(said: Said, when: str) -> str:
    name = said.name if said.number == "0000" else f"{said.name}#{said.number}"
    attached = "".join(f"{name}\n" for name in said.files)
    return (
        f"[{said.time.strftime(when)}] {name}{' (pinned)' if said.pinned else ''}\n{said.text}\n\n"
        + (f"{{Attachments}}\n{attached}\n" if attached else "")
        + said.blocks
        + "\n"
    )


def as_csv(messages: list[Said], when: str = "", mark: str = ",", ids: bool = True) -> str:
    """A CSV export; without `when` its times are told in full, as newer versions do."""
    made = io.StringIO(newline="")
    table = csv.writer(made, delimiter=mark, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    for said in messages:
        name = said.name if said.number == "0000" else f"{said.name}#{said.number}"
        time = said.time.strftime(when) if when else f"{said.time:%Y-%m-%dT%H:%M:%S}.8530000+00:00"
        own = [f"id-{said.name}{said.number}"] if ids else []
        table.writerow([*own, name, time, said.text, ",".join(said.files), "ok (2),x (1)"])
    head = [*(["AuthorID"] if ids else []), "Author", "Date", "Content", "Attachments", "Reactions"]
    return mark.join(head) + "\r\n" + made.getvalue()


read = reader("discord")
run_folder = on_folder("discord")


# JSON


def test_a_json_export_gives_a_row_a_message(read):
    said = Said("ann", " keep  me\n ", 3, nickname="Annie", pinned=True, edited=True, reply_to="55", files=("cat.png",))
    (row,) = read({"in/a.json": as_json([said])}).rows()
    assert row == {
        "id": "c10",
        "source": "in/a.json#c10",
        "conversation": "c1",
        "channel": "name-c1",
        "speaker": "ann",
        "nickname": "Annie",
        "author": "id-ann0000",
        "time": "2024-01-31T15:10:00+00:00",
        "text": " keep  me\n ",
        "reply_to": "55",
        "edited": True,
        "pinned": True,
        "attachments": ["cat.png"],
    }


def test_what_is_not_speech_is_dropped_with_its_reason(read):
    lines = [
        Said(),
        Said(kind="Reply"),
        Said(kind="20"),
        Said(kind="GuildMemberJoin"),
        Said(kind="46"),
        Said(bot=True, name="robo"),
        Said(text=" ", files=("a.png",)),
        Said(more=(("forwardedMessage", {"content": "theirs"}),)),
        Said(id="c10"),
    ]
    ran = read({"a.json": as_json(lines)})
    assert len(ran.rows()) == 3
    assert Counter(reason for reason, _ in ran.rejected) == {
        "system message": 2,
        "written by a bot": 1,
        "no text (attachment, sticker or embed only)": 1,
        "forwarded": 1,
        "the same message again": 1,
    }


def test_bots_are_kept_on_demand(read):
    assert len(read({"a.json": as_json([Said(bot=True)])}, bots="keep").rows()) == 1


def test_old_exports_lack_many_keys(read):
    export = as_json([Said()])
    (message,) = export["messages"]
    export["messages"] = [
        {key: message[key] for key in ("id", "timestamp", "content")} | {"author": {"id": "1", "name": "ann"}}
    ]
    (row,) = read({"a.json": export}).rows()
    assert (row["nickname"], row["attachments"], row["reply_to"]) == (None, [], None)


def test_partitions_are_joined_in_their_order_and_overlaps_told_by_id(read):
    def part(*ids: int) -> dict[str, Any]:
        return as_json([Said(text=f"t{number}", minute=number, id=str(number)) for number in ids])

    files = {
        "x.json": part(1, 2),
        "x [part 2].json": part(2, 3),
        "x [part 10].json": part(5, 6),
        "x [part 3].json": part(4),
    }
    ran = read(files)
    assert texts(ran) == ["t1", "t2", "t3", "t4", "t5", "t6"]
    assert [reason for reason, _ in ran.rejected] == ["the same message again"]


def test_a_newest_first_export_is_turned_round(read):
    lines = [Said(text=f"t{minute}", minute=minute) for minute in (9, 8, 7, 6, 5, 4)]
    files = {
        "x.json": as_json(lines[:3]),
        "x [part 2].json": as_json([Said(**{**vars(line), "id": f"z{line.minute}"}) for line in lines[3:]]),
    }
    assert texts(read(files)) == ["t4", "t5", "t6", "t7", "t8", "t9"]


def test_a_bom_is_no_obstacle(read):
    assert texts(read({"a.json": b"\xef\xbb\xbf" + json.dumps(as_json([Said()])).encode()})) == ["hello"]


def test_times_without_an_offset_may_be_given_a_zone(read):
    text = as_text([Said(), Said(minute=60 * 24 * 30 * 4)], when="%d/%m/%Y %H:%M")
    files = {"text.txt": text, "json.json": as_json([Said()])}
    assert {
        row["time"][-6:] for row in read(files, date_order="day-first").rows() if row["source"].startswith("t")
    } != {"+01:00"}
    ran = read(files, date_order="day-first", zone="Europe/Berlin")
    assert all(datetime.fromisoformat(row["time"]).tzinfo for row in ran.rows())


def test_a_zone_that_is_none_is_told_the_nearest(read):
    with pytest.raises(StepError, match=r"zone: no time zone 'Europe/Berlim'. Did you mean Europe/Berlin\?"):
        read({"a.json": as_json([Said()])}, zone="Europe/Berlim")


def test_since_and_until_are_days_of_the_export(read):
    lines = [Said(text=f"day {31 + day}", minute=day * 1440) for day in range(4)]
    ran = read({"a.json": as_json(lines)}, since="2024-02-01", until="2024-02-02")
    assert texts(ran) == ["day 32", "day 33"]
    assert [reason for reason, _ in ran.rejected] == ["before since", "after until"]
    with pytest.raises(StepError, match=r"discord.since: 2024-02-31 is not a date"):
        read({}, since="2024-02-31")


def test_memory_does_not_grow_with_the_export(run_kind, tmp_path):
    peaks = []
    for count in (500, 8000):
        folder = tmp_path / str(count)
        folder.mkdir()
        export = as_json([Said(text="word " * 40, minute=number) for number in range(count)])
        (folder / "a.json").write_text(json.dumps(export), encoding="utf-8")
        del export
        tracemalloc.start()
        run_folder(run_kind, folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    size = (tmp_path / "8000/a.json").stat().st_size
    assert peaks[1] - peaks[0] < size / 3, f"{peaks} for {size} bytes"


# Who the speaker is


@pytest.mark.parametrize("wanted", ["id-ann1234", "ann", "ann#1234", "Annie"])
def test_the_speaker_is_found_by_any_of_their_names(read, wanted):
    lines = [Said("ann", number="1234", nickname="Annie"), Said("bob"), Said("ann", number="1234", nickname="Queen")]
    assert [row["role"] for row in read({"a.json": as_json(lines)}, speaker=wanted).rows()] == [
        "assistant",
        "user",
        "assistant",
    ]


def test_without_a_speaker_there_is_no_role(read):
    assert "role" not in read({"a.json": as_json([Said()])}).rows()[0]


def test_a_renamed_person_keeps_one_name(read):
    old, new = as_json([Said("ann")], channel="c1"), as_json([Said("anna")], channel="c2")
    old["messages"][0]["author"]["id"] = new["messages"][0]["author"]["id"]
    rows = read({"a.json": old, "b.json": new}, speaker="ann").rows()
    assert [(row["speaker"], row["role"]) for row in rows] == [("anna", "assistant")] * 2


def test_a_person_is_the_same_in_text_and_json(read):
    files = {
        "a.json": as_json([Said("ann", number="1234"), Said("bob")]),
        "b.txt": as_text([Said("ann", number="1234", minute=9)]),
    }
    rows = read(files, speaker="id-ann1234").rows()
    assert [(row["author"], row["role"]) for row in rows] == [
        ("id-ann1234", "assistant"),
        ("id-bob0000", "user"),
        ("id-ann1234", "assistant"),
    ]


def test_an_unknown_speaker_is_told_who_writes(read, tmp_path):
    lines = [Said("ann"), Said("bob"), Said("bob"), Said("robo", bot=True)]
    assert failure(read, {"a.json": as_json(lines)}, tmp_path, speaker="holmes") == [
        "FOLDER: no author has the id, user name or nickname 'holmes'. Set speaker to one of: bob (id "
        "id-bob0000, 2 messages), "
        "ann (id id-ann0000, 1 message), robo (id id-robo0000, 1 message, a bot)."
    ]


def test_a_name_of_several_people_is_refused(read, tmp_path):
    lines = [Said("ann", number="0001"), Said("ann", number="0002"), Said("ann", number="0002")]
    assert failure(read, {"a.json": as_json(lines)}, tmp_path, speaker="ann") == [
        "FOLDER: 'ann' is the name of several: ann#0002 (id id-ann0002, 2 messages), ann#0001 (id id-ann0001, "
        "1 message). "
        "Set speaker to an id or a full name."
    ]


def test_a_speaker_of_whom_nothing_is_left_is_refused(read, tmp_path):
    lines = [Said("robo", bot=True), Said("bob")]
    assert failure(read, {"a.json": as_json(lines)}, tmp_path, speaker="robo") == [
        "FOLDER: no message by robo (id id-robo0000, 1 message, a bot) is left (dropped: 1 written by a bot). "
        "This author is a bot: set bots: keep."
    ]


def test_a_folder_in_which_nobody_speaks_is_refused(read, tmp_path):
    assert failure(read, {"a.json": as_json([Said(kind="Call")])}, tmp_path) == [
        "FOLDER: nobody says anything in these exports (dropped: 1 system message). Export more, or drop fewer."
    ]


# What is refused


def test_every_incomplete_file_is_named_at_once(read, tmp_path):
    files = {
        "a.json": as_json([Said()] * 6, count=35),
        "b.json": as_json([Said()], channel="c2", count=0),
        "c.txt": as_text([Said()] * 2, count="1,234"),
        "d.txt": as_text([Said()], channel="Text / other").split(f"{RULE}\nExported")[0],
    }
    del (none := as_json([Said()], channel="c3"))["messageCount"]
    files["e.json"] = none
    assert failure(read, files, tmp_path) == [
        "a.json:1: 35 messages announced, 6 found. The export is incomplete: re-export, or set allow_incomplete: true.",
        "b.json:1: 0 messages announced, 1 found. The file was changed, or a message looks like several: "
        "re-export, or set allow_incomplete: true.",
        "c.txt:1: 1234 messages announced, 2 found. The export is incomplete: re-export, or set "
        "allow_incomplete: true.",
        "d.txt:1: 1 messages found and no count at the end. The export is incomplete: re-export, or set "
        "allow_incomplete: true.",
        "e.json:1: 1 messages found and no count at the end. The export is incomplete: re-export, or set "
        "allow_incomplete: true.",
    ]
    assert len(read(files, allow_incomplete=True).rows()) == 11


def test_paths_are_shown_from_the_working_directory(read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        read({"datasets/me/export.json": as_json([Said()] * 6, count=35)})
    assert str(caught.value) == (
        "datasets/me/export.json:1: 35 messages announced, 6 found. The export is incomplete: re-export, or "
        "set allow_incomplete: true."
    )


def test_other_files_are_refused_by_name(read, tmp_path):
    files = {
        "a.html": "<html>",
        "c.zip": "PK",
        "d.png": "x",
        "sub/a.json_Files/cat-1.png": "x",
        "e.json": as_json([Said()]),
    }
    assert failure(read, files, tmp_path) == [
        "a.html: an HTML export, which shows a chat and does not hold it whole. "
        "Re-export the channel as JSON (-f Json) and remove this file.",
        "c.zip: an archive. Unpack it here and remove it.",
        "d.png: not a DiscordChatExporter file. Move it out of the folder.",
    ]


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (
            {"name": "x", "type": "personal_chat", "id": 1, "messages": []},
            "a Telegram export. Use preprocess: telegram, or",
        ),
        (
            {"participants": [], "messages": []},
            "a Messenger or Instagram export. Use preprocess: messenger, or",
        ),
        ([{"ts": "1"}], "a day of a Slack export. Use preprocess: slack, or"),
        ([{"ID": 1, "Timestamp": ""}], "Discord's own data package, which has one person's messages only."),
        ({"b": 1, "a": 2}, "an object with the keys a, b."),
        ([1], "a list."),
        ("", "empty."),
        ("hello", "not JSON."),
        ("{", "not JSON."),
    ],
)
def test_other_json_is_refused_saying_what_it_looks_like(read, tmp_path, content, looks):
    (line,) = failure(read, {"a.json": content}, tmp_path)
    end = "move it out of the folder." if looks.endswith(" or") else "Move it out of the folder."
    assert line == f"a.json:1: not a DiscordChatExporter file: it looks like {looks} {end}"


def test_a_torn_file_is_one_line(read, tmp_path):
    whole = json.dumps(as_json([Said()] * 3))
    (line,) = failure(read, {"a.json": whole[:-150]}, tmp_path)
    assert line.startswith("a.json:1: cut off or damaged: it stops being JSON after 2 messages (")
    assert line.endswith("Re-export it.")


def test_a_message_without_an_author_is_named(read, tmp_path):
    export = as_json([Said(), Said()])
    del export["messages"][1]["author"]
    (line,) = failure(read, {"a.json": export}, tmp_path)
    assert line.startswith("a.json:1: message 2 is not as DiscordChatExporter writes it (KeyError('author'))")


def test_a_folder_without_exports_says_what_to_bring(read, tmp_path):
    assert failure(read, {}, tmp_path) == [
        "FOLDER: no export here. Export channels with DiscordChatExporter -f Json into it."
    ]


def test_the_same_channel_in_two_formats_is_refused(read, tmp_path):
    name = "Guild - general [123456789012345678]"
    files = {f"{name}.json": as_json([Said()], channel="123456789012345678"), f"{name}.txt": as_text([Said()])}
    assert failure(read, files, tmp_path) == [
        f"{name}.txt:1: the same channel as {name}.json. Keep the JSON export only."
    ]


def test_two_text_exports_of_the_same_days_are_refused(read, tmp_path):
    day, night = [Said(minute=0), Said(minute=300)], [Said(minute=200), Said(minute=900)]
    assert failure(read, {"a.txt": as_text(day), "b.txt": as_text(night)}, tmp_path) == [
        "b.txt:1: covers the same time as a.txt. Remove one, or re-export as JSON, whose ids tell messages apart."
    ]


# Plain text


def test_a_text_export_gives_a_row_a_message(read):
    (first, second) = read({"in/a.txt": as_text([Said("ann", number="1234"), Said("bob", minute=1)])}).rows()
    assert first | {"id": 0} == {
        "id": 0,
        "source": "in/a.txt:8",
        "conversation": "Guild / Text / general",
        "channel": "general",
        "speaker": "ann",
        "nickname": None,
        "author": "ann#1234",
        "time": "2024-01-31T15:07:00",
        "text": "hello",
        "reply_to": None,
        "edited": False,
        "pinned": False,
        "attachments": [],
    }
    assert first["id"] != second["id"]
    assert (
        read({"in/a.txt": as_text([Said("ann", number="1234"), Said("bob", minute=1)])}).rows()[0]["id"] == first["id"]
    )


def test_a_pinned_message_keeps_its_speaker(read):
    rows = read({"a.txt": as_text([Said("ann", pinned=True), Said("bob")])}, speaker="ann").rows()
    assert [(row["speaker"], row["pinned"], row["role"]) for row in rows] == [
        ("ann", True, "assistant"),
        ("bob", False, "user"),
    ]


BLOCKS = [
    "{Embed}\nExample\nA title\n\nA text with\n\nempty lines\n\n",
    "{Stickers}\nhttps://x.org/s.png\n\n",
    "{Reactions}\n👍 (2) ❤️\n",
    "{Embed}\nx\n\n{Embed}\ny\n\n{Stickers}\nhttps://x.org/s.png\n\n{Reactions}\n👍\n",
]


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("files", [(), ("https://x.org/a b.png", "x.txt_Files\\cat.png")])
@pytest.mark.parametrize("text", ["one", "two\n\nlines", "*a* :emoji: {x} <https://y.org> @bob"])
def test_blocks_under_a_message_are_not_its_text(read, blocks, files, text):
    rows = read({"a.txt": as_text([Said(text=text, files=files, blocks=blocks), Said("bob")])}).rows()
    assert [row["text"] for row in rows] == [text, "hello"]
    assert rows[0]["attachments"] == list(files)


@pytest.mark.parametrize(
    "text",
    ["{Embed} is a word", "so:\n\n{Attachments}\nis what it says", "x\n{Reactions}\ny", "see\n\n{Reactions}\na\nb"],
)
def test_braces_that_were_typed_stay(read, text):
    assert texts(read({"a.txt": as_text([Said(text=text), Said("bob")])})) == [text, "hello"]


def test_text_notices_and_empty_messages_are_dropped(read):
    notices = [
        "Pinned a message.",
        "Started a call that lasted 1,251 minutes.",
        "Joined the server.",
        "Added bob to the group.",
        "Left the group.",
        "Changed the channel name: new",
        "Started a thread.",
    ]
    forward = "{Forwarded Message}\ntheir words\n\nOriginally sent: 01/01/2024 03:07 PM\n\n"
    lines = [Said(text=text) for text in notices] + [
        Said(text="", files=("a.png",)),
        Said(text="", blocks=forward),
        Said(text="I left the group."),
    ]
    ran = read({"a.txt": as_text(lines)})
    assert texts(ran) == ["I left the group."]
    assert [reason for reason, _ in ran.rejected] == [
        *["system message"] * 7,
        "no text (attachment, sticker or embed only)",
        "forwarded",
    ]
    assert ran.facts["notes"]


def test_a_windows_file_tells_line_breaks_of_messages_from_its_own(read):
    quoted = "look:\n\n\n[01/31/2024 03:07 PM] eve\nhi"
    text = as_text([Said(text="@@"), Said("bob")]).replace("\n", "\r\n").replace("@@", quoted)
    assert texts(read({"a.txt": b"\xef\xbb\xbf" + text.encode()})) == [quoted, "hello"]


def test_a_quoted_export_is_told_by_the_count_and_its_times(read):
    quoted = "look:\n\n\n[01/30/2024 03:07 PM] eve\nhi"
    assert texts(read({"a.txt": as_text([Said(text="a"), Said(text=quoted), Said(text="b", minute=1)])})) == [
        "a",
        quoted,
        "b",
    ]


def test_old_files_have_one_empty_line_between_messages(read):
    text = as_text([Said(text="a"), Said(text="b\n\nc")]).replace("\n\n\n", "\n\n")
    assert texts(read({"a.txt": text})) == ["a", "b\n\nc"]


def test_a_line_that_looks_like_a_header_stays_text(read):
    text = "[TODO] fix this\n[01/31/2024 03:07 PM] eve\n\n\n[later] x"
    assert texts(read({"a.txt": as_text([Said(text=text), Said("bob")])})) == [text, "hello"]


def test_two_exports_in_one_file_are_refused(read, tmp_path):
    files = {"a.txt": as_text([Said()] * 2) + as_text([Said()] * 2)}
    (line,) = failure(read, files, tmp_path)
    assert line.endswith("several exports in one file. Put each in a file of its own.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "Ann: hi\n",
            "a.txt:1: not a plain text export of DiscordChatExporter (it begins otherwise). Move it out of the folder.",
        ),
        (f"{RULE}\nGuild: x\n", "a.txt:1: the lines that name guild and channel are cut off. Re-export it."),
        (
            as_text([Said()], when="day %d"),
            "a.txt:8: the time 'day 31' is of no known form. Re-export as JSON, or with --locale en-US.",
        ),
        (
            as_text([Said()], when="%d/%m/2567 %H:%M"),
            "a.txt:1: its times fit no order of day, month and year from 2015 on. "
            "Re-export as JSON, or with --locale en-US.",
        ),
        (
            as_text([Said(text="é")]).encode("latin-1"),
            "a.txt:9: not UTF-8 (unexpected end of data). Re-export it, and do not save it from an editor.",
        ),
        (as_text([]), "FOLDER: nobody says anything in these exports. Export more, or drop fewer."),
    ],
)
def test_text_that_cannot_be_read_is_refused(read, tmp_path, content, message):
    assert failure(read, {"a.txt": content}, tmp_path) == [message]


SHAPES = [
    "%-m/%-d/%Y %-I:%M\u202f%p",
    "%-m/%-d/%Y %-I:%M%p",
    "%d/%m/%Y %H:%M",
    "%d/%m/%Y %-I:%M pm",
    "%-d/%-m/%Y %-I:%M p.m.",
    "%-d/%-m/%Y %-I:%M p.\u00a0m.",
    "%Y-%m-%d %-I:%M %p",
    "%Y-%m-%d %H h %M",
    "%-d/%-m/%Y %-H:%M",
    "%-d.%-m.%Y %H:%M",
    "%-d.%-m.%Y %H.%M",
    "%-d. %-m. %Y %-H:%M",
    "%Y. %m. %d. %-H:%M",
    "%d. %m. %Y. %H:%M",
    "%-d.%m.%Y \u0433. %-H:%M",
    "%-d-%-m-%Y %H:%M",
    "%Y-%m-%d %H:%M",
    "%Y/%-m/%-d %-H:%M",
    "%Y. %-m. %-d. 오후 %-I:%M",
    "%Y/%-m/%-d 下午%-I:%M",
    "\u200f%-d/%-m/%Y %-I:%M م",
    "%-d/%-m/%Y %-I:%M μ.μ.",
    "%d-%b-%y %I:%M %p",
    "%m-%d-%y %I:%M %p",
    "%Y-%m-%d %H:%M:%S.0000",
    "%d/%m/%Y klo %H.%M",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_times_of_every_culture_are_read(read, shape):
    (row, _) = read({"a.txt": as_text([Said(), Said(minute=1)], when=shape)}).rows()
    assert row["time"] == "2024-01-31T15:07:00"


@pytest.mark.parametrize(
    ("shape", "time"),
    [
        ("%Y-%m-%d %H:%M:%SZ", "2024-01-31T15:07:00+00:00"),
        ("%d/%m/%Y %H:%M (UTC-05:00)", "2024-01-31T15:07:00-05:00"),
        ("1706713620", "2024-01-31T15:07:00+00:00"),
        ("1706713620000", "2024-01-31T15:07:00+00:00"),
    ],
)
def test_times_with_an_offset_keep_it(read, shape, time):
    assert read({"a.txt": as_text([Said()], when=shape)}).rows()[0]["time"] == time


def test_arabic_digits_and_midnight_are_read(read):
    early = Said(minute=9 * 60)
    assert read({"a.txt": as_text([early], when="%Y-%m-%d %I:%M %p")}).rows()[0]["time"] == "2024-02-01T00:07:00"
    digits = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
    text = as_text([Said()], when="%d/%m/%Y %H:%M")
    head, rest = text.split("[", 1)
    stamp, rest = rest.split("]", 1)
    assert read({"a.txt": f"{head}[{stamp.translate(digits)}]{rest}"}).rows()[0]["time"] == "2024-01-31T15:07:00"


MARCH = 32 * 24 * 60  # minutes to 3 March, whose numbers could be 3 and 4 either way a day later


def test_a_date_that_could_be_two_is_never_guessed(read, tmp_path):
    files = {"a.txt": as_text([Said(minute=MARCH + 1440)])}
    assert failure(read, files, tmp_path) == [
        "a.txt:1: '03/04/2024 03:07 PM' may be day-first or month-first, and nothing in the file decides it. "
        "Set date_order."
    ]
    assert read(files, date_order="month-first").rows()[0]["time"] == "2024-03-04T15:07:00"
    assert read(files, date_order="day-first").rows()[0]["time"] == "2024-04-03T15:07:00"


def test_the_order_of_the_messages_decides_a_date(read):
    # 4 March to 5 April, twice a day: read day first, the times would run to and fro.
    lines = [Said(minute=MARCH + 1440 * day + half * 60) for day in (1, 3, 32, 33) for half in (0, 1)]
    assert read({"a.txt": as_text(lines)}).rows()[0]["time"] == "2024-03-04T15:07:00"


def test_another_part_of_the_channel_decides_a_date(read):
    files = {"x.txt": as_text([Said(minute=0)]), "x [part 2].txt": as_text([Said(minute=MARCH + 1440)])}
    assert [row["time"][:10] for row in read(files).rows()] == ["2024-01-31", "2024-03-04"]


def test_dates_with_dots_are_day_first(read):
    assert (
        read({"a.txt": as_text([Said(minute=MARCH + 1440)], when="%d.%m.%Y %H:%M")}).rows()[0]["time"][:10]
        == "2024-03-04"
    )


def test_a_date_that_is_the_same_either_way_needs_no_order(read):
    assert read({"a.txt": as_text([Said(minute=MARCH)])}).rows()[0]["time"][:10] == "2024-03-03"


def test_a_newest_first_text_export_is_turned_round(read):
    lines = [Said(text=f"t{minute}", minute=minute) for minute in (3, 2, 2, 1)]
    lines[2] = Said(text="t2 before", minute=2)
    assert texts(read({"a.txt": as_text(lines)})) == ["t1", "t2 before", "t2", "t3"]


# CSV


def test_a_csv_export_gives_a_row_a_message(read):
    name = "Guild - Text - general [123456789012345678].csv"
    said = Said(
        "ann", 'a "quoted", line\nand another', number="1234", files=("https://x.org/a,b.png", "https://x.org/c")
    )
    (first, second) = read({name: as_csv([said, Said("bob", minute=1)])}, speaker="ann").rows()
    assert first | {"id": 0} == {
        "id": 0,
        "source": f"{name}:3",
        "conversation": "123456789012345678",
        "channel": "general",
        "speaker": "ann",
        "nickname": None,
        "author": "id-ann1234",
        "time": "2024-01-31T15:07:00.853000+00:00",
        "text": 'a "quoted", line\nand another',
        "reply_to": None,
        "edited": False,
        "pinned": False,
        "attachments": ["https://x.org/a,b.png", "https://x.org/c"],
        "role": "assistant",
    }
    assert first["id"] != second["id"] and second["role"] == "user"


def test_old_csv_has_semicolons_no_ids_and_times_of_its_culture(read):
    rows = read({"a.csv": as_csv([Said(), Said("bob", minute=1)], when="%d.%m.%Y %H:%M", mark=";", ids=False)}).rows()
    assert [(row["author"], row["time"]) for row in rows] == [
        ("ann", "2024-01-31T15:07:00"),
        ("bob", "2024-01-31T15:08:00"),
    ]


def test_csv_dates_that_could_be_two_are_never_guessed(read, tmp_path):
    files = {"a.csv": as_csv([Said(minute=MARCH + 1440)], when="%m/%d/%Y %I:%M %p")}
    assert failure(read, files, tmp_path) == [
        "a.csv:1: '03/04/2024 03:07 PM' may be day-first or month-first, and nothing in the file decides it. "
        "Set date_order."
    ]
    assert read(files, date_order="month-first").rows()[0]["time"] == "2024-03-04T15:07:00"


def test_csv_notices_and_empty_messages_are_dropped(read):
    ran = read({"a.csv": as_csv([Said(text="Pinned a message."), Said(text="", files=("x_Files\\a.png",)), Said()])})
    assert texts(ran) == ["hello"]
    assert [reason for reason, _ in ran.rejected] == ["system message", "no text (attachment, sticker or embed only)"]


def test_a_newest_first_csv_export_is_turned_round(read):
    lines = [Said(text=f"t{minute}", minute=minute) for minute in (3, 2, 1)]
    assert texts(read({"a.csv": as_csv(lines)})) == ["t1", "t2", "t3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            as_csv([Said(), Said(text="bye")])[:-30],
            "a.csv:1: cut off or damaged after 1 messages (unexpected end of data). Re-export it, or set allow_incomplete: true.",
        ),
        (
            as_csv([Said()]) + '"1","ann"\r\n',
            "a.csv:3: 2 cells where the header names 6. The file was changed: re-export it.",
        ),
        (as_csv([Said()], when="day %d"), "a.csv:2: the time 'day 31' is of no known form. Re-export as JSON."),
        (
            "id,text\r\n1,hi\r\n",
            "a.csv:1: not a CSV export of DiscordChatExporter: it looks like other text. Move it out of the folder.",
        ),
        (
            as_csv([Said(text="é" * 9000)]).encode("latin-1"),
            "a.csv:1: not UTF-8 (invalid continuation byte). Re-export it, and do not save it from an editor.",
        ),
    ],
)
def test_csv_that_cannot_be_read_is_refused(read, tmp_path, content, message):
    assert failure(read, {"a.csv": content}, tmp_path) == [message]


def test_a_torn_csv_gives_what_is_whole_on_demand(read):
    assert texts(read({"a.csv": as_csv([Said(), Said(text="bye")])[:-30]}, allow_incomplete=True)) == ["hello"]


def test_the_same_channel_in_csv_and_json_is_refused(read, tmp_path):
    name = "Guild - general [123456789012345678]"
    files = {f"{name}.json": as_json([Said()], channel="123456789012345678"), f"{name}.csv": as_csv([Said()])}
    assert failure(read, files, tmp_path) == [
        f"{name}.csv:1: the same channel as {name}.json. Keep the JSON export only."
    ]


# Any messages


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n"), max_size=60)
NAMES = st.text(st.characters(categories=("L", "N", "P", "S"), exclude_characters="#"), min_size=1, max_size=12)
MESSAGES = st.lists(
    st.builds(
        Said,
        name=NAMES,
        text=WORDS,
        number=st.sampled_from(["0000", "0042"]),
        pinned=st.booleans(),
        edited=st.booleans(),
        files=st.lists(st.sampled_from(["a.png", "https://x.org/b c.jpg"]), max_size=2).map(tuple),
        blocks=st.sampled_from(["", *BLOCKS]),
        reply_to=st.sampled_from([None, "7"]),
        minute=st.integers(0, 3),
    ),
    min_size=1,
    max_size=12,
)


def in_time(messages: list[Said]) -> list[Said]:
    minutes, ordered = 0, []
    for said in messages:
        minutes += said.minute
        ordered.append(Said(**{**vars(said), "minute": minutes}))
    return ordered


@given(messages=MESSAGES)
@settings(max_examples=100, deadline=None)
def test_any_messages_come_back_from_json(run_kind, tmp_path_factory, messages):
    messages = in_time([*messages, Said()])
    folder = tmp_path_factory.mktemp("json")
    (folder / "a.json").write_text(json.dumps(as_json(messages), ensure_ascii=len(messages) % 2 == 0), encoding="utf-8")
    ran = run_folder(run_kind, folder)
    found = [
        (row["speaker"], row["text"], row["time"], row["pinned"], row["edited"], row["reply_to"]) for row in ran.rows()
    ]
    names = {f"id-{said.name}{said.number}": said.name for said in messages}
    assert found == [
        (
            names[f"id-{said.name}{said.number}"],
            said.text,
            said.time.isoformat(),
            said.pinned,
            said.edited,
            said.reply_to,
        )
        for said in messages
        if said.text.strip()
    ]
    assert len(ran.rejected) == len(messages) - len(found)


@given(messages=MESSAGES)
@settings(max_examples=100, deadline=None)
def test_any_messages_come_back_from_csv(run_kind, tmp_path_factory, messages):
    messages = in_time([*messages, Said()])
    folder = tmp_path_factory.mktemp("csv")
    (folder / "a.csv").write_text(as_csv(messages), encoding="utf-8", newline="")
    ran = run_folder(run_kind, folder)
    assert [(row["text"], row["author"], row["time"][:16]) for row in ran.rows()] == [
        (said.text, f"id-{said.name}{said.number}", said.time.isoformat()[:16])
        for said in messages
        if said.text.strip()
    ]


@given(messages=MESSAGES, windows=st.booleans(), shape=st.sampled_from(SHAPES))
@settings(max_examples=150, deadline=None)
def test_any_messages_come_back_from_text(run_kind, tmp_path_factory, messages, windows, shape):
    messages = in_time([Said(**{**vars(said), "text": said.text.strip()}) for said in [*messages, Said()]])
    folder = tmp_path_factory.mktemp("text")
    text = as_text([Said(**{**vars(said), "text": said.text.replace("\n", "\v")}) for said in messages], when=shape)
    text = text.replace("\n", "\r\n" if windows else "\n").replace("\v", "\n")
    (folder / "a.txt").write_bytes(text.encode())
    ran = run_folder(run_kind, folder)
    found = [(row["speaker"], row["text"], row["time"], row["pinned"], row["attachments"]) for row in ran.rows()]
    assert found == [
        (said.name, said.text, said.time.replace(tzinfo=None).isoformat(), said.pinned, list(said.files))
        for said in messages
        if said.text.strip()
    ]
    assert len(ran.rejected) == len(messages) - len(found)


# Published exports


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the published sample exports are not beside this checkout (../shared/data)"
)
class TestPublishedExports:
    def files(self, *names: str) -> tuple[Path, ...]:
        return tuple(REAL / f"{name}.json" for name in names)

    def test_the_incomplete_one_is_refused_by_name(self, run_kind, monkeypatch):
        monkeypatch.chdir(REAL.parents[2])
        with pytest.raises(DataError) as caught:
            run_folder(run_kind, REAL)
        assert str(caught.value) == (
            "data/chats/discord/chill_talk_count_mismatch.json:1: 35 messages announced, 5 found. "
            "The export is incomplete: re-export, or set allow_incomplete: true."
        )

    def test_all_three_give_every_message_once(self, run_kind):
        ran = run_folder(run_kind, REAL, allow_incomplete=True, bots="keep", speaker="Adam#7077")
        reasons = Counter(reason for reason, _ in ran.rejected)
        # 43 messages: 5 + 3 + 35. 38 are speech (5 + 2 + 31), 3 of them without text; 5 are notices.
        assert reasons == {"system message": 5, "no text (attachment, sticker or embed only)": 3}
        assert len(ran.rows()) == 35
        assert Counter(row["speaker"] for row in ran.rows()) == {
            "Adam": 18,
            "Thomas": 9,
            "Patrick": 6,
            "mlomb": 1,
            "Someones name": 1,
        }
        assert Counter(row["role"] for row in ran.rows()) == {"assistant": 18, "user": 17}
        assert sum(row["reply_to"] is not None for row in ran.rows()) == 3
        assert sum(row["edited"] for row in ran.rows()) == 1

    def test_bots_are_left_out_of_the_direct_message(self, run_kind):
        ran = run_kind("preprocess.discord", {"folder": "x"}, folder=REAL, files=self.files("dm"))
        assert [(row["speaker"], row["text"], row["channel"]) for row in ran.rows()] == [
            ("mlomb", "blah", "Someones name")
        ]
        assert [reason for reason, _ in ran.rejected] == ["written by a bot", "system message"]
