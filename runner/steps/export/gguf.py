"""`export: gguf`: a GGUF file for llama.cpp, and a Modelfile with which Ollama talks as the recipe's chat does."""

from __future__ import annotations

from typing import Any

from runner import chat, models, places, prompts
from runner.errors import StepError
from runner.step import Decoding, Out, Step
from runner.steps.export import _gguf
from runner.steps.export._place import deliver

# Ours → Ollama's
SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "max_new_tokens": "num_predict",
}
MARK = "\x1a"  # stands for what is said; no template writes it


def run(step: Step, out: Out) -> dict[str, Any]:
    """model.gguf and Modelfile. Raises StepError for an adapter, and for what GGUF is not written for here."""
    model = step.models["model"][0]
    if places.is_adapter(model):
        raise StepError(
            f"{step.name}.model: '{model.name}' is an adapter. Merge it first: {{merge: lora, model: {model.name}}}."
        )
    folder = models.place(model, step.artifacts, out.log)
    with out.progress("tensors", _gguf.count(folder)) as advance:
        made = _gguf.write(folder, out.folder / "model.gguf", model.name, step.params["numbers"], advance)
    tokenizer = models.load_tokenizer(model, step.artifacts)
    prompt = step.prompts.get("prompt") or places.remembered(model.folder)
    system = prompts.system(prompt, step.matrix, step.texts) if prompt else None
    about = [*_system(f"{step.name}.prompt", system), *_settings(step, step.decodings.get("decoding"))]
    lines = ["FROM ./model.gguf", *_template(tokenizer), *about]
    (out.folder / "Modelfile").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    deliver(step, out, ["model.gguf", "Modelfile"])
    size = (out.folder / "model.gguf").stat().st_size
    return {
        "metrics": {"bytes": size, "tensors": made},
        "tables": [
            {
                "title": "GGUF",
                "columns": ["numbers", "tensors", "MB"],
                "rows": [[step.params["numbers"], made, round(size / 1e6, 1)]],
            }
        ],
        "notes": [f"Where the files lie: ollama create {model.name} -f Modelfile"],
    }


def _template(tokenizer: Any) -> list[str]:
    """The chat template in Ollama's language, where every turn is written alike; else Ollama reads the file's own."""
    parts = {}
    for role in ("system", "user", "assistant"):
        held = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
        before = chat.render(tokenizer, held)
        after = chat.render(tokenizer, [*held, {"role": role, "content": MARK}])
        if not after.startswith(before) or after.count(MARK) != 1:
            return []
        parts[role] = tuple(after[len(before) :].split(MARK))
    asks = chat.render(tokenizer, held, asks=True).removeprefix(before)
    told = "".join(
        f'{{{{ if eq .Role "{role}" }}}}{first}{{{{ .Content }}}}{last}{{{{ end }}}}'
        for role, (first, last) in parts.items()
    )
    if '"""' in told + asks or "{{ if" in asks:
        return []
    return [f'TEMPLATE """{{{{ range .Messages }}}}{told}{{{{ end }}}}{asks}"""', *_stops(parts)]


def _stops(parts: dict[str, tuple[str, ...]]) -> list[str]:
    last = parts["assistant"][1].strip()
    return [_stop(last)] if last else []


def _stop(text: str) -> str:
    """In quotes, of which Ollama strips the outermost: three where the text has some itself."""
    around = '"""' if '"' in text else '"'
    return f"PARAMETER stop {around}{text}{around}"


def _system(where: str, system: str | None) -> list[str]:
    if not system:
        return []
    if '"""' in system:
        raise StepError(f'{where}: the system text holds """, which a Modelfile cannot. Word it differently.')
    return [f'SYSTEM """{system}"""']


def _settings(step: Step, how: Decoding | None) -> list[str]:
    if how is None:
        return []
    if how.mode not in ("greedy", "sample"):
        said = f"Ollama has no mode {how.mode}, which '{how.name}' is"
        raise StepError(f"{step.name}.decoding: {said}. Name one with mode: greedy or sample.")
    lines = [
        f"PARAMETER {theirs} {how.params[ours]}"
        for ours, theirs in SETTINGS.items()
        if how.params.get(ours) is not None
    ]
    lines += ["PARAMETER temperature 0"] if how.mode == "greedy" else []
    return [*lines, *map(_stop, how.params.get("stop") or [])]
