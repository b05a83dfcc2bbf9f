"""`export: hub`: a model folder with a model card, as the Hugging Face Hub expects it."""

from __future__ import annotations

import shutil
from typing import Any

from runner import places
from runner.errors import StepError
from runner.files import link
from runner.places import is_adapter, public_name
from runner.step import Model, Out, Step
from runner.steps.export._place import deliver


def run(step: Step, out: Out) -> dict[str, Any]:
    """model/: every file of the trained folder, its README.md replaced by a model card that keeps the training's table.

    Raises StepError where the model is an entry of `models:`: it is on the Hub, or a folder, already.
    """
    model = step.models["model"][0]
    if model.folder is None:
        raise StepError(f"{step.name}.model: '{model.name}' is not made here. Name a train or merge step.")
    folder = out.folder / "model"
    shutil.copytree(model.folder, folder, copy_function=link, symlinks=True)
    (folder / "README.md").unlink(missing_ok=True)
    (folder / "README.md").write_text(_card(step, model), encoding="utf-8", newline="\n")
    deliver(step, out, ["model"])
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    upload = f"hf upload <you>/<name> {step.params.get('to') or folder.name}"
    return {
        "metrics": {"bytes": size, "files": sum(1 for path in folder.rglob("*") if path.is_file())},
        "tables": [
            {"title": "For the Hub", "columns": ["model", "MB"], "rows": [[_name(step, model), round(size / 1e6, 1)]]}
        ],
        "notes": [f"To upload it: {upload}"],
    }


def _name(step: Step, model: Model) -> str:
    return str(step.params.get("name") or model.name)


def _card(step: Step, model: Model) -> str:
    params, base, adapter = step.params, public_name(model), is_adapter(model)
    head = [f"base_model: {base}", f"library_name: {'peft' if adapter else 'transformers'}"]
    head += [f"license: {params['licence']}"] if params.get("licence") else []
    head += [f"language: [{', '.join(params['language'])}]"] if params.get("language") else []
    head += ["tags: [persona]"]
    made = ["---", *head, "---", "", f"# {_name(step, model)}", ""]
    made += [params["about"], ""] if params.get("about") else []
    made += ["## Use", "", "```python", *_usage(base, adapter), "```", ""]
    prompt = places.remembered(model.folder)
    if prompt and prompt.turns[0].get("system"):
        made += ["It was trained under this system prompt:", "", "```", prompt.turns[0]["system"].strip(), "```", ""]
    made += ["## Data", "", params["data"], ""] if params.get("data") else []
    table = _training(model)
    made += ["## Training", "", *table, ""] if table else []
    return "\n".join(made)


def _usage(base: str, adapter: bool) -> list[str]:
    place = "the/folder/or/its/Hub/id"
    if adapter:
        return [
            "from peft import AutoPeftModelForCausalLM",
            "from transformers import AutoTokenizer",
            "",
            f'model = AutoPeftModelForCausalLM.from_pretrained("{place}")  # over {base}',
            f'tokenizer = AutoTokenizer.from_pretrained("{place}")',
        ]
    return [
        "from transformers import pipeline",
        "",
        f'talk = pipeline("text-generation", "{place}")',
        'print(talk([{"role": "user", "content": "Good morning."}])[0]["generated_text"][-1]["content"])',
    ]


def _training(model: Model) -> list[str]:
    """The table that training wrote into the folder's own README.md."""
    path = model.folder / "README.md" if model.folder else None
    lines = path.read_text(encoding="utf-8").splitlines() if path and path.is_file() else []
    return [line for line in lines if line.startswith("|")]
