from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError

REAL = Path(__file__).resolve().parents[4] / "shared/data/chats"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the published data is not beside the checkout")

USERS = [
    {"id": "U1", "name": "ann", "real_name": "Ann A", "profile": {"display_name": "Annie", "real_name": "Ann A"}},
    {"id": "U2", "name": "bob", "profile": {"display_name": "", "real_name": "Bob B"}},
    {"id": "U3", "name": "bot", "is_bot": True},
]
CHANNELS = [{"id": "C1", "name": "general"}]


def say(text: str = "hello", ts: str = "1700000000.000100", user: str | None = "U1", **more: Any) -> dict[str, Any]:
    return {"type": "message", "text": text, "ts": ts, **({"user": user} if user else {}), **more}


def export(days: dict[str, list[dict[str, Any]]], **more: Any) -> dict[str, Any]:
    """The files of an export: `days` by 'channel/2023-11-14'."""
    return {
        "users.json": USERS,
        "channels.json": CHANNELS,
        **{f"{day}.json": held for day, held in days.items()},
        **more,
    }


@pytest.fixture
def read(run_kind, tmp_path):
    """`read(export({...}))` writes a folder, `read(export({...}), zipped=True)` an archive, and runs the step on it."""

    def run(written: dict[str, Any], zipped: bool = False, **params: Any):
        raw = {name: held if isinstance(held, bytes) else json.dumps(held).encode() for name, held in written.items()}
        if zipped:
            with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
                for name, content in raw.items():
                    archive.writestr(name, content)
        for name, content in () if zipped else raw.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        return read_folder(run_kind, tmp_path, **params)

    return run


def read_folder(run_kind, folder: Path, **params: Any):
    files = tuple(sorted(path for path in folder.rglob("*") if path.is_file()))
    return run_kind("preprocess.slack", {"folder": "datasets/x", **params}, folder=folder, files=files)


def failure(read, written: dict[str, Any], **params: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(written, **params)
    return str(caught.value)


def texts(ran) -> list[str]:
    return [row["text"] for row in ran.rows()]


DAY = "general/2023-11-14"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_message_gives_a_row_from_a_folder_as_from_an_archive(read, zipped):
    (row,) = read(export({DAY: [say(edited={"user": "U1"})]}), zipped=zipped, speaker="ann").rows()
    assert row == {
        "id": "C1-1700000000.000100",
        "source": ("export.zip/" if zipped else "") + "general/2023-11-14.json#1700000000.000100",
        "conversation": "C1",
        "channel": "general",
        "speaker": "Annie",
        "author": "U1",
        "time": "2023-11-14T22:13:20.000100+00:00",
        "text": "hello",
        "reply_to": None,
        "edited": True,
        "role": "assistant",
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<@U1> and <@U2|bobby>", "@Annie and @Bob B"),
        ("<@U9|zoe> <@U8>", "@zoe @U8"),
        ("<#C1|general> <#C1>", "#general #general"),
        ("<!here> <!channel> <!everyone>", "@here @channel @everyone"),
        ("<!subteam^S1|@team> <!date^1^{date}|Monday>", "@team Monday"),
        ("<!subteam^S1> 1 < 2 > 0 <3", "@S1 1 < 2 > 0 <3"),
        ("<https://x.org/?a=1&amp;b=2>", "https://x.org/?a=1&b=2"),
        ("see <https://x.org|the page>", "see the page"),
        ("<mailto:a@b.org|a@b.org> <tel:123|123> <mailto:a@b.org>", "a@b.org 123 a@b.org"),
        ("1 &lt; 2 &amp;&amp; 3 &gt; 2 &amp;lt;", "1 < 2 && 3 > 2 &lt;"),
        ("*bold* _it_ `x`", "*bold* _it_ `x`"),
        ("😀 ﬁ ｆｕｌｌ", "😀 ﬁ ｆｕｌｌ"),
    ],
)
def test_markup_is_written_as_people_saw_it(read, text, shown):
    assert texts(read(export({DAY: [say(text)]}))) == [shown]


def test_a_message_without_text_is_rebuilt_from_its_blocks(read):
    section = {
        "type": "rich_text_section",
        "elements": [
            {"type": "text", "text": "Hi "},
            {"type": "user", "user_id": "U2"},
            {"type": "emoji", "name": "wave"},
            {"type": "link", "url": "https://x.org"},
            {"type": "channel", "channel_id": "C1"},
            {"type": "broadcast", "range": "here"},
        ],
    }
    words = {"type": "rich_text_section", "elements": [{"type": "text", "text": "one"}]}
    blocks = [
        {
            "type": "rich_text",
            "elements": [
                section,
                {"type": "rich_text_list", "elements": [words, words]},
                {"type": "rich_text_quote", "elements": [{"type": "text", "text": "q\nr"}]},
                {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "code"}]},
            ],
        },
        {"type": "section", "text": {"type": "mrkdwn", "text": "<@U1>"}},
    ]
    (text,) = texts(read(export({DAY: [say("", blocks=blocks)]})))
    assert text == "Hi @Bob B:wave:https://x.org#general@here\n• one\n• one\n> q\n> r\n```\ncode\n```\n@Annie"


def test_notices_bots_and_messages_without_text_are_dropped_and_counted(read):
    messages = [
        say("kept", "1.0"),
        say("kept too", "2.0", subtype="thread_broadcast"),
        say("me", "3.0", subtype="me_message"),
        say("with a file", "4.0", subtype="file_share", files=[{"name": "a.png"}]),
        say("<@U1> uploaded a file: <https://x|a.png>", "5.0", subtype="file_share", file={}, upload=True),
        say("<@U1> uploaded a file: <https://x|a.png> and commented: look", "6.0", subtype="file_share", file={}),
        say("joined", "7.0", subtype="channel_join"),
        say("beep", "8.0", None, subtype="bot_message", bot_id="B1"),
        say("boop", "9.0", "U3"),
        say("", "9.5"),
        say("gone", "9.6", subtype="tombstone"),
    ]
    ran = read(export({DAY: messages}))
    assert texts(ran) == ["kept", "kept too", "me", "with a file", "look"]
    assert [reason for reason, _ in ran.rejected] == [
        "no text",
        "system message",
        "written by a bot",
        "written by a bot",
        "no text",
        "system message",
    ]


def test_bots_can_be_kept(read):
    messages = [
        say(
            "",
            "1.0",
            None,
            subtype="bot_message",
            bot_id="B1",
            attachments=[{"pretext": "Build", "text": "<https://x|ok>"}],
        ),
        say("boop", "2.0", "U3"),
    ]
    ran = read(export({DAY: messages}), bots="keep")
    assert [(row["author"], row["text"]) for row in ran.rows()] == [("B1", "Build\nok"), ("U3", "boop")]


def test_a_thread_is_a_conversation_of_its_own_or_its_channels(read):
    messages = [say("root", "1.0", thread_ts="1.0"), say("other", "2.0"), say("reply", "3.0", "U2", thread_ts="1.0")]
    rows = read(export({DAY: messages})).rows()
    assert [(row["conversation"], row["reply_to"]) for row in rows] == [
        ("C1-1.0", None),
        ("C1", None),
        ("C1-1.0", "C1-1.0"),
    ]
    assert {row["conversation"] for row in read(export({DAY: messages}), threads="together").rows()} == {"C1"}


def test_messages_come_oldest_first_and_the_same_one_once(read):
    days = {"general/2023-11-15": [say("c", "30.0")], DAY: [say("b", "20.0"), say("a", "10.5"), say("b", "20.0")]}
    ran = read(export(days))
    assert texts(ran) == ["a", "b", "c"]
    assert [reason for reason, _ in ran.rejected] == ["the same message again"]


def test_only_the_days_between_since_and_until_are_read(read):
    messages = [say(str(day), f"{1700000000 + 86400 * day}.0") for day in range(3)]
    assert texts(read(export({DAY: messages}), since="2023-11-15", until="2023-11-15")) == ["1"]


@pytest.mark.parametrize("wanted", ["U1", "ann", "Ann A", "Annie"])
def test_the_speaker_is_found_by_any_name(read, wanted):
    rows = read(export({DAY: [say(), say("yes", "1.0", "U2")]}), speaker=wanted).rows()
    assert [(row["author"], row["role"]) for row in rows] == [("U2", "user"), ("U1", "assistant")]


def test_a_guest_of_another_workspace_has_the_name_in_the_message(read):
    message = say(user="W9", user_profile={"display_name": "", "real_name": "Zoe Z"})
    assert read(export({DAY: [message]})).rows()[0]["speaker"] == "Zoe Z"


def test_an_unknown_speaker_is_refused_with_those_who_are_there(read):
    said = failure(read, export({DAY: [say()]}), speaker="zoe")
    assert "no author has the id or name 'zoe'. Set speaker to one of: Annie (id U1, 1 message)." in said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"users.json": USERS}, "users.json:1: not part of a Slack export"),
        ({f"{DAY}.json": [say()]}, "days of messages and no users.json beside their folders"),
        (export({DAY: []}, **{f"{DAY}.json": b"{"}), "2023-11-14.json: not JSON"),
        (export({DAY: []}, **{f"{DAY}.json": {}}), "2023-11-14.json:1: not part of a Slack export"),
        (export({DAY: [{"text": "x"}]}), "2023-11-14.json: message 1 has no ts"),
        (export({DAY: [say("")]}), "nobody says anything in these exports (dropped: 1 no text)"),
        ({"a.json": {"participants": [], "messages": []}}, "Use preprocess: messenger"),
        ({}, "no Slack export here. Put the .zip that Slack made into it."),
    ],
)
def test_what_is_no_slack_export_is_refused_with_a_sentence(read, written, said):
    assert said in failure(read, written)


def test_an_archive_member_cannot_leave_the_folder(read, tmp_path):
    outside = {"../../escaped/2023-11-14.json": [say("out")]}
    read(export({DAY: [say("in")]}) | {"../../users.json": USERS} | outside, zipped=True)
    assert not list(tmp_path.parent.parent.rglob("escaped"))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)


@settings(max_examples=50, deadline=None)
@given(made=st.lists(st.tuples(TEXT, st.sampled_from(["U1", "U2"])), min_size=1))
def test_any_messages_come_back_as_they_were_written(run_kind, tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("slack")
    (folder / "general").mkdir()
    escaped = [text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for text, _ in made]
    messages = [say(text, f"{place}.000001", made[place][1]) for place, text in enumerate(escaped)]
    for name, content in export({DAY: messages[::-1]}).items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    assert [(row["text"], row["author"]) for row in read_folder(run_kind, folder).rows()] == made


@real
def test_the_published_archive_gives_what_people_wrote(run_kind):
    ran = read_folder(run_kind, REAL / "slack", speaker="hamza")
    assert len(ran.rows()) == 49  # of 158: 94 by bots, 8 joins, 3 bots added, 3 uploads and a comment in Slack's words
    assert [reason for reason, _ in ran.rejected].count("written by a bot") == 94
    assert [reason for reason, _ in ran.rejected].count("system message") == 12
    assert [reason for reason, _ in ran.rejected].count("no text") == 3
    assert ran.facts["tables"][0]["rows"] == [
        ["hamza", "U0BMQB6JE", 32],
        ["doubledeez", "U0BMS113R", 11],
        ["abilinski", "U0BMYT2FL", 5],
        ["heroeshannibal", "U0BMM2FEH", 1],
    ]
    assert ran.rows()[0]["text"].startswith("@abilinski: Created an issue")


@real
def test_a_published_telegram_export_is_no_slack_export(run_kind):
    with pytest.raises(DataError, match=r"it looks like a Telegram export\. Use preprocess: telegram"):
        read_folder(run_kind, REAL / "telegram")
