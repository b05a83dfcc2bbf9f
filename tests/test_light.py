"""Checking and planning need nothing heavy, imports go one way, and the tree is the registry."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNNER = ROOT / "runner"
HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "openai", "ijson")
WITHOUT = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None
from runner.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("check",),
        ("check", "quickstart", "--format", "json"),
        ("plan", "quickstart"),
        ("plan", "quickstart", "--variant", "smoke", "--make"),
        ("list",),
        ("explain", "train.sft"),
        ("explain", "preprocess"),
        ("docs", "--check"),
        ("status", "quickstart"),
        ("graph", "quickstart"),
        ("--help",),
    ],
    ids=" ".join,
)
def test_a_machine_without_the_training_stack_can(arguments: tuple[str, ...], tmp_path: Path) -> None:
    environment = {**os.environ, "ARTIFACTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", WITHOUT, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and (done.stdout or arguments[0] == "docs")


def modules() -> list[Path]:
    return sorted(path for path in RUNNER.rglob("*.py") if path.name != "__init__.py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The modules that a file imports, and whether at its top; what only types need is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    typed = {
        id(inner)
        for node in tree.body
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typed:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where things come from"
            yield from (
                (f"{node.module}.{alias.name}" if is_package(node.module) else str(node.module), id(node) in top)
                for alias in node.names
            )


def is_package(module: str | None) -> bool:
    return bool(module) and (ROOT / str(module).replace(".", "/")).is_dir()


def may_be_heavy(path: Path) -> bool:
    inside = path.relative_to(RUNNER)
    return inside.name in (
        "conversion.py",
        "models.py",
        "bits.py",
        "vocabulary.py",
        "embeddings.py",
        "encoding.py",
        "heads.py",
        "scorers.py",
        "endpoint.py",
        "batch_api.py",
        "places.py",
    ) or inside.parts[0] in (
        "decoding",
        "steps",
    )


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_heavy_libraries_are_imported_only_where_they_may_be(path: Path) -> None:
    found = {name.split(".")[0] for name, _ in imports(path)} & set(HEAVY)
    assert not found or may_be_heavy(path)


TOP = {
    "runner.cli",
    "runner.cli_look",
    "runner.cli_make",
    "runner.cli_talk",
    "runner.plan",
    "runner.execute",
    "runner.recipe",
    "runner.look",
    "runner.show",
    "runner.docs",
    "runner.editor",
}
FOR_STEPS = {"errors", "files", "locks", "step", "chat", "prompts", "models", "decoding", "endpoint"}
FOR_STEPS |= {"embeddings", "headers", "outputs", "places", "problems", "strict_yaml"}  # and what these build on
FOR_STEPS |= {"answer_shapes", "asking", "cleaning", "forecast", "making", "questions", "refusals"}  # for generate
FOR_STEPS |= {"bits", "machine", "rendering", "tags", "vocabulary", "matrix"}  # for train
FOR_STEPS |= {"inventories", "memories", "scorers", "heads", "encoding"}  # for evaluate and dialogue


@pytest.mark.parametrize(
    "path", [path for path in modules() if path.relative_to(RUNNER).parts[0] == "steps"], ids=name_of
)
def test_a_step_imports_no_other_step_and_nothing_above_it(path: Path) -> None:
    own = f"runner.steps.{path.parent.name}._"
    for name, _ in imports(path):
        if name.startswith("runner."):
            assert name.split(".")[1] in {"steps", *FOR_STEPS}, f"{name} is not for steps"
            assert not name.startswith("runner.steps.") or name.startswith((own, "runner.steps._")), (
                f"{name} is another step"
            )


@pytest.mark.parametrize(
    "path", [path for path in modules() if name_of(path) not in TOP | {"runner.__main__"}], ids=name_of
)
def test_nothing_below_imports_the_command_line(path: Path) -> None:
    assert not [name for name, _ in imports(path) if name.startswith("runner.cli")]


CHECKING = (
    "recipe",
    "columns",
    "chats",
    "resolve",
    "references",
    "shape",
    "variants",
    "matrix",
    "strict_yaml",
    "problems",
    "schema",
    "fields",
)
CHECKING += (
    "flow",
    "needs",
    "effects",
    "templates",
    "outputs",
    "folders",
    "graph",
    "secrets",
    "wording",
    "sandbox",
    "prompts",
    "editor",
    "headers",
)


@pytest.mark.parametrize("name", CHECKING)
def test_checking_knows_nothing_of_planning_and_making(name: str) -> None:
    found = {module for module, _ in imports(RUNNER / f"{name}.py") if module.startswith("runner.")}
    assert not found & {"runner.plan", "runner.execute", "runner.cli", "runner.models", "runner.look", "runner.show"}


def test_no_module_imports_itself_through_others() -> None:
    graph = {
        name_of(path): {name for name, at_top in imports(path) if at_top and name.startswith("runner")}
        for path in modules()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " → ".join([*above, name])
        if name not in done:
            for below in sorted(graph.get(name, ())):
                visit(below, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def kinds(root: Path, suffix: str) -> set[str]:
    files = (path for path in root.rglob(f"*{suffix}") if not path.name.startswith("_"))
    return {path.relative_to(root).with_suffix("").as_posix().replace("_", "-") for path in files}


def test_every_kind_has_a_schema_and_a_module() -> None:
    assert kinds(ROOT / "schemas" / "steps", ".json") == kinds(RUNNER / "steps", ".py")


def test_every_decoding_mode_has_a_schema_and_a_module() -> None:
    assert kinds(ROOT / "schemas" / "decoding", ".json") == kinds(RUNNER / "decoding", ".py")
