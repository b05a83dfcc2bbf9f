from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from exported import failure, on_folder, reader, reasons, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError, StepError
from runner.steps.preprocess import _whatsapp_marks as marks
from runner.steps.preprocess._whatsapp_layout import learn

REAL = Path(__file__).resolve().parents[4] / "shared/data/chats/whatsapp"
START = datetime.fromisoformat("2021-06-13T21:25:15")
IOS = "[%d/%m/%Y, %H:%M:%S] "
ANDROID = "%d/%m/%y, %H:%M - "


@dataclass(frozen=True)
class Said:
    """One message, or without a name a notice."""

    name: str = "Ann"
    text: str = "hello"
    minute: int = 0


def export(messages: list[Said], when: str = ANDROID) -> str:
    return "".join(
        (START + timedelta(minutes=said.minute)).strftime(when)
        + (f"{said.name}: " if said.name else "")
        + f"{said.text}\n"
        for said in messages
    )


def zipped(**members: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return made.getvalue()


read = reader("whatsapp")
run_folder = on_folder("whatsapp")


# Rows


def test_a_chat_gives_a_row_a_message(read):
    text = export([Said(), Said("Bob", "one\n\nthree  ", 1)])
    first, second = read({"in/WhatsApp Chat with Bob.txt": text}, speaker="Bob").rows()
    assert first | {"id": 0} == {
        "id": 0,
        "source": "in/WhatsApp Chat with Bob.txt:1",
        "conversation": "in/WhatsApp Chat with Bob",
        "channel": "Bob",
        "speaker": "Ann",
        "author": "Ann",
        "time": "2021-06-13T21:25:00",
        "text": "hello",
        "reply_to": None,
        "edited": False,
        "role": "user",
    }
    assert (second["text"], second["role"], second["source"]) == (
        "one\n\nthree  ",
        "assistant",
        "in/WhatsApp Chat with Bob.txt:2",
    )
    assert first["id"] != second["id"]


def test_an_archive_is_read_in_place(read):
    made = zipped(_chat__txt=export([Said()], IOS), x__jpg="picture", __MACOSX="junk")
    (row,) = read({"WhatsApp Chat - Bob.zip": made}).rows()
    assert (row["source"], row["conversation"], row["channel"]) == (
        "WhatsApp Chat - Bob.zip/_chat.txt:1",
        "WhatsApp Chat - Bob",
        "Bob",
    )


def test_media_beside_a_chat_are_left_alone(read):
    assert texts(read({"me/_chat.txt": export([Said()], IOS), "me/IMG-1.jpg": b"x", "me/Bob.vcf": b"x"})) == ["hello"]


def test_names_may_be_numbers_unknown_or_hold_colons(read):
    lines = [
        Said("+1 123 456 789", "a"),
        Said("\u202a+49 123\u202c", "b"),
        Said("~\u202fEve", "c"),
        *[Said("Dr: Who", text) for text in ("d", "e: f", "g")],
    ]
    ran = read({"a.txt": export(lines)}, speaker="Dr: Who")
    assert [(row["speaker"], row["text"]) for row in ran.rows()] == [
        ("+1 123 456 789", "a"),
        ("+49 123", "b"),
        ("~\u202fEve", "c"),
        ("Dr: Who", "d"),
        ("Dr: Who", "e: f"),
        ("Dr: Who", "g"),
    ]
    assert read({"a.txt": export(lines)}, speaker="Eve").rows()[2]["role"] == "assistant"


def test_a_colon_in_a_text_is_no_part_of_the_name(read):
    lines = [Said(text="note: a"), Said(text="b"), Said(text="note: c"), Said("Bob", "so: x"), Said("Bob", "so: y")]
    assert {row["speaker"] for row in read({"a.txt": export(lines)}).rows()} == {"Ann", "Bob"}


def test_text_is_never_altered(read):
    text = "ﬁ ① ｆｕｌｌ 👩🏿‍⚖️ e\u0301 \u200bx  \u2028y\vz\x85"
    assert texts(read({"a.txt": export([Said(text=text), Said()])})) == [text, "hello"]


def test_a_windows_copy_with_a_bom_reads_the_same(read):
    text = export([Said(text="a\n\nb"), Said()])
    raw = b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    assert texts(read({"a.txt": raw})) == ["a\n\nb", "hello"]


def test_a_bare_carriage_return_ends_no_line(read):
    assert texts(read({"a.txt": export([Said(text="a\rb"), Said()])})) == ["a\rb", "hello"]


def test_since_and_until_are_days_of_the_phone(read):
    lines = [Said(text=f"day {13 + day}", minute=day * 1440) for day in range(4)]
    ran = read({"a.txt": export(lines)}, since="2021-06-14", until="2021-06-15")
    assert texts(ran) == ["day 14", "day 15"]
    assert reasons(ran) == {"before since": 1, "after until": 1}
    with pytest.raises(StepError, match=r"whatsapp.since: 2024-02-31 is not a date"):
        read({"a.txt": export(lines)}, since="2024-02-31")


# What WhatsApp writes itself


@pytest.mark.parametrize("text", ["<Media omitted>", "<Medien ausgeschlossen>", "<Multimedia omitido>", "<Médias omis>",
    "<Mídia oculta>", "<Media omessi>", "<Media weggelaten>", "<Без медиафайлов>", "<Medya dahil edilmedi>",
    "<Media tidak disertakan>", "<メディアは含まれていません>", "\u200eimage omitted", "\u200eBild weggelassen",
    "report.pdf • 3 pages \u200edocument omitted", "IMG-20210428-WA0001.jpg (file attached)", "x y.opus (Datei angehängt)",
    "\u200e<attached: 00000042-PHOTO-2020-01-01.jpg>", "\u200e<Anhang: 00000042-AUDIO-2020-01-01.opus>",
    "location: https://maps.google.com/?q=48.1,-11.5", "\u200eimagen omitida"])  # fmt: skip
def test_media_are_dropped(read, text):
    ran = read({"a.txt": export([Said(text=text), Said()])})
    assert texts(ran) == ["hello"]
    assert reasons(ran) == {"no text (media only)": 1}


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("IMG-1.jpg (file attached)\nlook at\nthis", "look at\nthis"),
        ("look \u200e<attached: 00000042-PHOTO-2020.jpg>", "look"),
        ("look \u200eimage omitted", "look"),
    ],
)
def test_a_caption_is_kept(read, text, caption):
    assert texts(read({"a.txt": export([Said(text=text), Said()])})) == [caption, "hello"]


@pytest.mark.parametrize("text", ["This message was deleted", "You deleted this message.", "\u200eThis message was deleted.",
    "Diese Nachricht wurde gelöscht.", "Se eliminó este mensaje", "Данное сообщение удалено"])  # fmt: skip
def test_deleted_messages_are_dropped(read, text):
    assert reasons(read({"a.txt": export([Said(text=text), Said()])})) == {"deleted message": 1}


@pytest.mark.parametrize("mark", ["<This message was edited>", "\u200e<This message was edited>",
    " \u200e<Diese Nachricht wurde bearbeitet>", " <Se editó este mensaje.>"])  # fmt: skip
def test_the_mark_of_an_edit_is_not_the_text(read, mark):
    (row, _) = read({"a.txt": export([Said(text=f"see <b>{mark}"), Said()])}).rows()
    assert (row["text"], row["edited"]) == ("see <b>", True)


@pytest.mark.parametrize("text", [
    'I wrote "This message was deleted" once', "the <Media omitted> line", "(file attached)", "<b>", "see x.jpg",
    "Messages are nice", "a\nimage omitted", "my location: https://maps.google.com/?q=1,2 ok", "<This message was edited> ha"])  # fmt: skip
def test_words_that_only_resemble_marks_stay(read, text):
    rows = read({"a.txt": export([Said(text=text), Said()])}).rows()
    assert (rows[0]["text"], rows[0]["edited"]) == (text, False)


@pytest.mark.parametrize("line", ["Messages and calls are end-to-end encrypted. Tap to learn more.", "Ann added Bob",
    'Ann created group "Chess: the club"', 'Ann changed the subject from "a: b" to "c: d"', "Bob left",
    'Du hast die Gruppe "Uhr: 12" erstellt', "Your security code with Bob changed. Tap to learn more."])  # fmt: skip
def test_notices_have_no_speaker(read, line):
    ran = read({"a.txt": export([Said("", line), Said()])})
    assert [row["speaker"] for row in ran.rows()] == ["Ann"]
    assert reasons(ran) == {"system message": 1}


def test_notices_under_a_name_are_dropped(read):
    lines = [
        Said("Chess", "\u200eAnn created this group"),
        Said("Chess", "\u200eMessages and calls are end-to-end encrypted."),
        Said("Chess", "Messages to this group are now secured with end-to-end encryption."),
        Said("Ann", "\u200eMissed voice call"),
        Said("Ann", "\u200ePOLL:\nTea?\n\u200eOPTION: Yes (1 vote)"),
        Said("Bob"),
    ]
    ran = read({"a.txt": export(lines, IOS)}, speaker="Bob")
    assert texts(ran) == ["hello"]
    assert reasons(ran) == {"system message": 5}


def test_a_message_without_words_is_dropped(read):
    ran = read({"a.txt": export([Said(text=""), Said(text="."), Said(text=" ")]) + "13/06/21, 21:25 - Ann:\n"})
    assert texts(ran) == ["."]
    assert reasons(ran) == {"no text": 3}


def test_the_phrases_are_of_many_languages():
    for use in ("media", "attached", "deleted", "edited", "system", "subject", "title"):
        assert len(marks.phrases(use)) >= 10
    assert marks.title("Chat de WhatsApp con Ana") == "Ana"
    assert marks.title("WhatsApp_Chat_mit_Ana_B") == "Ana_B"
    assert marks.title("Chess club") == "Chess club"


# Dates and clocks

SHAPES = {
    "%-m/%-d/%y, %H:%M - ": 0,
    "%-d/%-m/%y, %-I:%M p.m. - ": 0,
    "%d-%m-%Y, %I.%M PM - ": 0,
    "%d.%m.%y %H.%M.%S: ": 15,
    "[%m.%d.%y %H:%M:%S] ": 15,
    "%-d.%-m.%Y klo %H.%M.%S - ": 15,
    "%-d. %-m. %Y. %H:%M:%S - ": 15,
    "[%-d/%-m/%y %-I:%M:%S p. m.] ": 15,
    "[%-d/%-m/%y %-I:%M:%S p.\u00a0m.] ": 15,
    "[%Y/%m/%d, %H:%M:%S] ": 15,
    "[%d-%m-%y %H:%M:%S] ": 15,
    "%d.%m.%Y, %H:%M - ": 0,
    "%Y-%m-%d, %H:%M - ": 0,
    "%d/%m/%Y, %I:%M p. m. - ": 0,
    "%-m/%-d/%y, %-I:%M\u202fPM - ": 0,
    "\u200e[%d.%m.%y, %H:%M:%S] ": 15,
    "%Y. %-m. %-d. 오후 %-I:%M - ": 0,
    "[%Y. %-m. %-d. 오후 %-I:%M:%S] ": 15,
    "%Y/%-m/%-d 下午%-I:%M - ": 0,
    "[%Y/%-m/%-d 下午%-I:%M:%S] ": 15,
    "[%Y/%-m/%-d 晚上%-I:%M:%S] ": 15,
    "\u200f%-d\u200f/%-m\u200f/%Y, %-I:%M م - ": 0,
    "%-d.%-m.%Y г., %H:%M - ": 0,
    "%d/%m/%Y %H:%M - ": 0,
    "%d/%m/%Y à %H:%M - ": 0,
    "%d/%m/%y %H.%M - ": 0,
    "%Y.%m.%d. %H:%M - ": 0,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_times_of_every_phone_are_read(read, shape):
    (row, _) = read({"a.txt": export([Said(), Said(minute=1)], shape)}).rows()
    assert row["time"] == f"2021-06-13T21:25:{SHAPES[shape]:02}"


def test_midnight_and_noon_in_halves_of_a_day(read):
    text = "6/13/21, 12:05 AM - Ann: a\n6/13/21, 12:05 PM - Ann: b\n6/13/21, 1:05 PM - Ann: c\n"
    assert [row["time"][11:16] for row in read({"a.txt": text}).rows()] == ["00:05", "12:05", "13:05"]


def test_arabic_digits_are_read(read):
    text = export([Said(text="x")], "%d/%m/%Y, %H:%M - ").translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))
    assert read({"a.txt": text}).rows()[0]["time"] == "2021-06-13T21:25:00"


@pytest.mark.parametrize("text", ["2016-04-29 10:30:00", "13/06/21 is the day", "[TODO] Ann: x", "13/06/21, noon - Ann: x",
    "13/06/21, 10:30 zz - Ann: x", ""])  # fmt: skip
def test_lines_that_are_no_headers(text):
    assert learn(text) is None


def test_a_date_that_could_be_two_is_never_guessed(read, tmp_path):
    files = {"a.txt": export([Said(minute=-1440 * 9)], "%m/%d/%y, %H:%M - ")}  # 4 June
    assert failure(read, files, tmp_path) == [
        "a.txt:1: '06/04/21, 21:25' may be day-first or month-first, and nothing in the file decides it. Set date_order."
    ]
    assert read(files, date_order="month-first").rows()[0]["time"] == "2021-06-04T21:25:00"
    ran = read(files, date_order="day-first")
    assert ran.rows()[0]["time"] == "2021-04-06T21:25:00"
    assert ran.facts["notes"][1:] == ["a.txt: '06/04/21, 21:25' is read day-first, as date_order says."]
    assert ran.facts["tables"][1]["rows"] == [["a.txt", "06/04/21, 21:25", "day-first"]]


def test_the_order_of_the_messages_decides_a_date(read):
    days = [-1440 * 9, -1440 * 8, 1440 * 18, 1440 * 19]  # 4 and 5 June, 1 and 2 July: one way round they go to and fro
    assert read({"a.txt": export([Said(minute=day) for day in days], "%m/%d/%y, %H:%M - ")}).rows()[0]["time"][:10] == (
        "2021-06-04"
    )


def test_a_message_out_of_order_by_minutes_keeps_its_place(read):
    lines = [Said(text="a", minute=39), Said(text="b", minute=0), Said(text="c", minute=41)]
    assert texts(read({"a.txt": export(lines)})) == ["a", "b", "c"]


def test_dates_with_dots_are_day_first(read):
    text = export([Said(minute=-1440 * 9)], "%d.%m.%y, %H:%M - ")
    assert read({"a.txt": text}).rows()[0]["time"][:10] == "2021-06-04"


def test_the_same_day_and_month_needs_no_order(read):
    assert read({"a.txt": "6/6/21, 10:00 - Ann: x\n"}).rows()[0]["time"] == "2021-06-06T10:00:00"


def test_two_digit_years_come_first_only_where_nothing_else_fits(read):
    text = "[15-01-20 02:22:56] Ann: a\n[15-01-31 02:22:56] Ann: b\n[15-02-01 02:22:56] Ann: c\n"
    assert [row["time"][:10] for row in read({"a.txt": text}).rows()] == ["2015-01-20", "2015-01-31", "2015-02-01"]


# What is refused


def test_an_unknown_speaker_is_told_who_writes(read, tmp_path):
    lines = [Said(), Said(), Said("Bob"), Said("Bob", "<Media omitted>")]
    assert failure(read, {"a.txt": export(lines)}, tmp_path, speaker="Holmes") == [
        "FOLDER: no author has the name 'Holmes'. Set speaker to one of: Ann (2 messages), Bob (1 message)."
    ]


def test_a_speaker_of_whom_nothing_is_left_is_refused(read, tmp_path):
    lines = [Said(), Said("Bob", "<Media omitted>")]
    assert failure(read, {"a.txt": export(lines)}, tmp_path, speaker="Bob") == [
        "FOLDER: no message by Bob (0 messages) is left (dropped: 1 no text (media only))."
    ]


def test_a_chat_in_which_nobody_speaks_is_refused(read, tmp_path):
    assert failure(read, {"a.txt": export([Said("", "Bob left")])}, tmp_path) == [
        "FOLDER: nobody says anything in these exports (dropped: 1 system message). Export more, or drop fewer."
    ]


RULE = "=" * 62


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", f"{RULE}\nGuild: x\n", "a.txt:1: not a WhatsApp chat: it looks like a Discord export. Use preprocess: discord, or move it out of the folder."),
        ("a.txt", "May 17, 2022  5:29:42 PM\nMe\nhi\n", "a.txt:1: not a WhatsApp chat: it looks like a chat of imessage-exporter. Use preprocess: imessage, or move it out of the folder."),
        ("a.txt", "Once upon a time\n", "a.txt:1: not a WhatsApp chat: it looks like other text. Move it out of the folder."),
        ("a.txt", "", "a.txt:1: not a WhatsApp chat: it looks like empty. Move it out of the folder."),
        ("a.txt", "13/06/21, 10:00 - Ann: x".encode("utf-16"), "a.txt:1: not a WhatsApp chat: it looks like text saved as UTF-16 by an editor. Move it out of the folder."),
        ("r.json", '{"name": "x", "type": "personal_chat", "id": 1, "messages": []}', "r.json:1: no WhatsApp chat: it looks like a Telegram export. Use preprocess: telegram, or move it out."),
        ("x.jpg", "x", "FOLDER: no WhatsApp chat here (only x.jpg). Export one in WhatsApp (Export chat) and put the .txt or .zip in."),
    ],
)  # fmt: skip
def test_what_is_no_chat_is_refused_saying_what_it_is(read, tmp_path, name, content, message):
    assert failure(read, {name: content}, tmp_path) == [message]


def test_dates_of_other_calendars_are_refused(read, tmp_path):
    assert failure(read, {"a.txt": "13/06/2564, 21:25 - Ann: x\n"}, tmp_path) == [
        "a.txt:1: its dates ('13/06/2564, 21:25') fit no order of day, month and year since WhatsApp began."
    ]


def test_two_exports_of_one_chat_are_refused(read, tmp_path):
    files = {"a/WhatsApp Chat with Bob.txt": export([Said()]), "WhatsApp Chat with Bob.txt": export([Said(), Said()])}
    assert failure(read, files, tmp_path) == [
        "a/WhatsApp Chat with Bob.txt:1: covers the same days of 'Bob' as WhatsApp Chat with Bob.txt. Keep the longer one."
    ]


def test_files_joined_into_one_are_refused(read, tmp_path):
    (line,) = failure(read, {"a.txt": export([Said()] * 5) + export([Said()] * 5, IOS)}, tmp_path)
    assert line.startswith(
        "a.txt:9: '[13/06/2021, 21:25:15] Ann: he…' begins otherwise than the first message ('13/06/21, 21:25'"
    )


def test_a_quoted_header_of_another_shape_stays_text(read):
    quoted = "look:\n[13/06/2021, 21:25:15] Eve: hi"
    assert texts(read({"a.txt": export([Said(text=quoted), Said()])})) == [quoted, "hello"]


def test_unreadable_messages_are_counted_and_too_many_refused(read, tmp_path):
    good = export([Said()] * 57)
    bad = "32/13/21, 21:25 - Ann: x\n13/06/21, 21:61 - Ann: x\n"
    files: dict[str, Any] = {"a.txt": b"before\n" + (good + bad).encode() + b"13/06/21, 21:25 - Ann: caf\xe9\n"}
    assert failure(read, files, tmp_path) == [
        "FOLDER: 4 of 61 rows cannot be read: a.txt:1 before the first message, a.txt:59 the time is no time, "
        "a.txt:60 the time is no time and 1 more. Mend them, or raise rejects: (now 0.05)."
    ]
    ran = read(files, rejects=0.1)
    assert len(ran.rows()) == 57
    assert reasons(ran) == {"before the first message": 1, "the time is no time": 2, "not UTF-8": 1}


# Archives


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 broken", "a.zip: not a zip archive, or cut off (File is not a zip file). Export it again."),
        (zipped(x__jpg="x"), "FOLDER: no WhatsApp chat here (only a.zip/x.jpg). Export one in WhatsApp (Export chat) and put the .txt or .zip in."),
    ],
)  # fmt: skip
def test_archives_that_hold_no_chat_are_refused(read, tmp_path, content, message):
    assert failure(read, {"a.zip": content}, tmp_path) == [message]


def test_an_archive_that_unpacks_to_an_absurd_size_is_refused(read, tmp_path):
    (line,) = failure(read, {"a.zip": zipped(_chat__txt="a" * (1 << 26) + "bc")}, tmp_path)
    assert line.startswith("a.zip/_chat.txt: 67108866 bytes packed in ")


def test_a_damaged_archive_is_one_line(read, tmp_path):
    made = bytearray(zipped(_chat__txt=export([Said(text=f"{number} {number**7}") for number in range(3000)], IOS)))
    made[2000:2100] = b"\0" * 100
    (line,) = failure(read, {"a.zip": bytes(made)}, tmp_path)
    assert line.startswith("a.zip/_chat.txt: the archive is damaged (")


def test_nothing_leaves_an_archive(read, tmp_path):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("../../../outside.txt", export([Said()], IOS))
    assert texts(read({"in/a.zip": made.getvalue()})) == ["hello"]
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.zip"]


# Any messages

LETTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=marks.BIDI + "<>(")
WORDS = st.text(LETTERS | st.just("\n"), min_size=1, max_size=60).map(str.strip).filter(bool)
NAMES = st.text(st.characters(categories=("L", "N", "S")), min_size=1, max_size=12)
MESSAGES = st.lists(st.builds(Said, NAMES, WORDS, st.integers(0, 600)), min_size=1, max_size=12)


@given(messages=MESSAGES, shape=st.sampled_from(sorted(SHAPES)), windows=st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_messages_come_back(run_kind, tmp_path_factory, messages, shape, windows):
    evening = [replace(said, minute=said.minute % 150) for said in [Said(), *messages]]  # the shapes write PM
    known = {said.name for said in evening}
    folder = tmp_path_factory.mktemp("chat")
    text = export(evening, shape)
    (folder / "a.txt").write_bytes((text.replace("\n", "\r\n") if windows else text).encode())
    ran = run_folder(run_kind, folder)
    found = [(row["speaker"], row["text"], row["time"][:16]) for row in ran.rows()]
    assert found == [
        (said.name, said.text, (START + timedelta(minutes=said.minute)).isoformat()[:16]) for said in evening
    ]
    assert not ran.rejected and {row["author"] for row in ran.rows()} == known


def test_memory_does_not_grow_with_the_chat(run_kind, tmp_path):
    peaks = []
    for count in (1000, 16000):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "a.txt").write_text(export([Said(text="word " * 40, minute=number) for number in range(count)]))
        tracemalloc.start()
        run_folder(run_kind, folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    size = (tmp_path / "16000/a.txt").stat().st_size
    assert peaks[1] - peaks[0] < size / 2, f"{peaks} for {size} bytes"


# Published chats


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the published sample chats are not beside this checkout (../shared/data)"
)
class TestPublishedChats:
    def test_the_ambiguous_one_is_refused_by_name(self, run_kind, monkeypatch):
        monkeypatch.chdir(REAL.parents[2])
        with pytest.raises(DataError) as caught:
            run_folder(run_kind, REAL)
        assert str(caught.value) == (
            "data/chats/whatsapp/android_group.txt:1: '12/9/20, 23:55' may be day-first or month-first, "
            "and nothing in the file decides it. Set date_order."
        )

    def test_the_group_of_android_gives_every_message(self, run_kind):
        params = {"folder": "x", "date_order": "day-first", "speaker": "Alice"}
        ran = run_kind("preprocess.whatsapp", params, folder=REAL, files=(REAL / "android_group.txt",))
        # 14 lines: 3 notices, 11 messages, the last without a line end.
        assert reasons(ran) == {"system message": 3}
        assert Counter(row["speaker"] for row in ran.rows()) == {
            "Alice": 3,
            "Bob": 2,
            "Eve": 2,
            "Mallory": 2,
            "Trent": 2,
        }
        assert texts(ran)[-3:] == ["👩🏻‍⚖️", "im still mallory", "heh"]
        assert ran.rows()[0]["time"] == "2020-09-12T23:55:00"

    def test_the_long_one_gives_every_line(self, run_kind):
        ran = run_kind("preprocess.whatsapp", {"folder": "x"}, folder=REAL, files=(REAL / "lorem.txt",))
        # 500 lines, each a message (counted with grep): 15-01-20 to 11-05-20, day first as days pass 12.
        assert Counter(row["speaker"] for row in ran.rows()) == {
            "+1 123 456 789": 145,
            "John": 124,
            "Giuseppe": 118,
            "Mary": 113,
        }
        assert (ran.rows()[0]["time"], ran.rows()[-1]["time"]) == ("2020-01-15T02:22:56", "2020-05-11T22:32:48")
        assert not ran.rejected
