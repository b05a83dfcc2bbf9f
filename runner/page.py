"""The chat page, in Gradio: everything is shown as the text that it is, nothing is fetched from elsewhere."""

from __future__ import annotations

import html
import os
from typing import TYPE_CHECKING, Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import: it would call home

import gradio as gr
from fastapi import FastAPI

from runner import visits
from runner.page_answers import Answers
from runner.page_shown import MOST_ALPHAS, chats, controls, people_of, sound
from runner.visits import Visit

if TYPE_CHECKING:
    from runner.serving import Floor

CLOSED = ("/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/proxy={rest:path}", "/gradio_api/info")
CSS = """
.gradio-container > main { max-width: 1200px; margin: auto; padding: 0.75rem; }
footer { display: none !important; }
.memory { font-size: 0.8em; opacity: 0.7; margin-top: 0.5em; white-space: normal; }
#talk .message, #beside .message { overflow-wrap: anywhere; white-space: pre-wrap; }
"""
DOWNLOAD = """(name, text) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "text/plain;charset=utf-8"}));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}"""
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def mount(app: FastAPI, floor: Floor) -> None:
    """Put the page at /."""
    for path in CLOSED:
        app.add_api_route(path, _closed, methods=["GET", "POST"])
    blocks = Page(floor).build()
    blocks.queue(api_open=False, max_size=64, default_concurrency_limit=None)
    gr.mount_gradio_app(
        app, blocks, "/", footer_links=[], show_error=False, ssr_mode=False, mcp_server=False, pwa=False, css=CSS
    )


def _closed() -> None:
    from starlette.exceptions import HTTPException

    raise HTTPException(404, "The page takes no files.")


class Page:
    """The page of one recipe. Its handlers are given the visit and give it back changed."""

    def __init__(self, floor: Floor) -> None:
        self.floor, self.cast = floor, floor.cast
        self.pairs = self.cast.pairs
        self.answers = Answers(floor)

    def build(self) -> gr.Blocks:
        """All components and what moves them."""
        recipe = self.cast.plan.recipe
        names = [*self.floor.personas, *self.pairs]
        first = self.cast.first
        with gr.Blocks(title=recipe.title, analytics_enabled=False, fill_width=True) as blocks:
            self.visit = gr.BrowserState(visits.fresh(), storage_key=f"persona-recipes-{recipe.label}")
            self.heading = gr.HTML(f'<h1 style="font-family: system-ui, sans-serif">{html.escape(recipe.title)}</h1>')
            with gr.Row():
                with gr.Column(scale=3, min_width=300):
                    self._talk_column()
                with gr.Column(scale=1, min_width=260):
                    self._side_column(names, first)
            self._wire(blocks)
            made: gr.Blocks = blocks
        return made

    def _talk_column(self) -> None:
        looks: dict[str, Any] = {
            "render_markdown": False,
            "buttons": [],
            "height": "58vh",
            "feedback_options": None,
            "allow_file_downloads": False,
            "group_consecutive_messages": False,
        }
        with gr.Row():
            self.talk = gr.Chatbot(label="Talk", elem_id="talk", scale=1, min_width=260, **looks)
            self.beside = gr.Chatbot(
                label="Without the persona", elem_id="beside", scale=1, min_width=260, visible=False, **looks
            )
        self.text = gr.Textbox(
            show_label=False,
            placeholder="Say something",
            elem_id="text",
            lines=1,
            max_lines=8,
            submit_btn="Send",
            autofocus=True,
        )
        with gr.Row():
            self.stop = gr.Button("Stop", elem_id="stop", size="sm", min_width=80)
            self.again = gr.Button("Again", elem_id="again", size="sm", min_width=80)
            self.more = gr.Button("5 turns more", elem_id="more", size="sm", min_width=80, visible=False)
            self.clear = gr.Button("New talk", elem_id="clear", size="sm", min_width=80)

    def _side_column(self, names: list[str], first: str) -> None:
        self.entry = gr.Dropdown(names, value=first, label="Who answers", elem_id="entry", filterable=len(names) > 10)
        self.person = gr.Dropdown([], label="Person", elem_id="person", visible=False)
        self.match = gr.Textbox(
            label="Find who suits you", placeholder="Say who you are or what you need", elem_id="match", visible=False
        )
        self.matched = gr.Textbox(label="Best", lines=5, interactive=False, elem_id="matched", visible=False)
        self.temperature = gr.Slider(0, 2, 1, step=0.05, label="Temperature", elem_id="temperature")
        self.alphas = [
            gr.Slider(-2, 4, 0, step=0.05, label="alpha", elem_id=f"alpha{at}", visible=False)
            for at in range(MOST_ALPHAS)
        ]
        self.seed = gr.Number(0, label="Seed", precision=0, elem_id="seed")
        self.side_by_side = gr.Checkbox(False, label="Beside it: the same model without the persona", elem_id="side")
        with gr.Row():
            self.markdown = gr.Button("Save as text", elem_id="save", size="sm", min_width=80)
            self.lines = gr.Button("Save as JSON", elem_id="save-json", size="sm", min_width=80)
        self.file_name = gr.Textbox(visible=False)
        self.file_text = gr.Textbox(visible=False)

    def _wire(self, blocks: gr.Blocks) -> None:
        set_up = [self.person, self.match, self.matched, self.temperature, self.more, self.side_by_side, *self.alphas]
        settings = [self.visit, self.entry, self.temperature, self.seed, self.side_by_side, *self.alphas]
        both = [self.talk, self.beside]
        grown = [*both, self.visit, self.person]
        blocks.load(self.restore, [self.visit, self.entry], [*both, *set_up], **PRIVATE)
        self.entry.change(self.chosen, [self.entry, self.visit], [self.visit, *both, *set_up], **PRIVATE)
        self.person.input(self.set_person, [self.visit, self.entry, self.person], [self.visit], **PRIVATE)
        self.side_by_side.change(lambda on: gr.update(visible=on), [self.side_by_side], [self.beside], **PRIVATE)
        sent = {"concurrency_limit": None, **PRIVATE}
        self.text.submit(self.answers.send, [self.text, *settings], [self.text, *grown], **sent)
        self.again.click(self.answers.once_more, settings, [self.text, *grown, self.seed], **sent)
        self.more.click(self.answers.go_on, settings, [self.text, *grown], **sent)
        self.stop.click(self.answers.halt, None, None, queue=False, **PRIVATE)
        for anew in (self.clear.click, self.talk.clear, self.beside.clear):
            anew(self.begin_anew, [self.entry], [self.visit, *both, self.person], **PRIVATE)
        self.match.submit(
            self.answers.find, [self.match, self.visit, self.entry], [self.visit, self.person, self.matched], **sent
        )
        for button, suffix in ((self.markdown, ".txt"), (self.lines, ".jsonl")):
            button.click(
                self.answers.file,
                [self.visit, self.entry, gr.State(suffix)],
                [self.file_name, self.file_text],
                **PRIVATE,
            ).then(None, [self.file_name, self.file_text], None, js=DOWNLOAD, **PRIVATE)

    # What the visitor sees

    def restore(self, visit: Visit, entry: str) -> list[Any]:
        """After loading: the talk as it was, and the controls of the entry."""
        return [*chats(self.floor, sound(visit), entry), *controls(self.floor, entry, sound(visit))]

    def chosen(self, entry: str, visit: Visit) -> list[Any]:
        """Somebody else answers; what was said stays."""
        visit = {**sound(visit), "person": None}
        return [visit, *chats(self.floor, visit, entry), *controls(self.floor, entry, visit)]

    def set_person(self, visit: Visit, entry: str, person: int | None) -> Visit:
        """The visitor says who answers."""
        return {**sound(visit), "person": person if person is not None and person >= 0 else None}

    def begin_anew(self, entry: str) -> list[Any]:
        """Forget the talk."""
        visit = visits.fresh()
        return [visit, *chats(self.floor, visit, entry), people_of(self.floor, entry, visit)]
