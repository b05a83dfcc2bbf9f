"""`report_to:` as the trainer and the tracking tools want it: off unless asked for, and never inside the step's folder."""

from __future__ import annotations

import netrc
import os
from importlib.util import find_spec
from typing import Any

from runner.errors import MachineError
from runner.step import Step

# tool: the variable by which it takes the project's name, where the trainer does not hand that on
PROJECT = {
    "tensorboard": None,
    "trackio": None,
    "wandb": "WANDB_PROJECT",
    "mlflow": "MLFLOW_EXPERIMENT_NAME",
    "comet_ml": "COMET_PROJECT_NAME",
    "swanlab": "SWANLAB_PROJECT",
}


def settings(step: Step) -> dict[str, Any]:
    """The trainer's fields; what a tool reads from the environment is set there.

    What tools write has times and host names in it, so it goes to `tracking/` beside the store, where equal inputs need
    not give equal bytes. Raises MachineError where a tool is not installed, or W&B knows no key.
    """
    asked = step.params.get("report_to")
    if not asked:
        return {"report_to": "none"}
    project, run = asked["project"], asked.get("run") or step.name
    for tool in asked["to"]:
        if not find_spec(tool):
            raise MachineError(
                f"{step.name}.report_to: the package {tool} is not installed. Install it: pip install {tool}."
            )
        name = PROJECT[tool]
        if name:
            os.environ[name] = project
    if "wandb" in asked["to"] and not _has_key():
        raise MachineError(f"{step.name}.report_to: wandb has no key. Set WANDB_API_KEY, or WANDB_MODE=offline.")
    folder = step.artifacts / "tracking"
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard" / project / run)
    os.environ.setdefault("WANDB_DIR", str(folder))
    os.environ.setdefault("TRACKIO_DIR", str(folder / "trackio"))
    os.environ.setdefault("SWANLAB_LOG_DIR", str(folder / "swanlab"))
    folder.mkdir(parents=True, exist_ok=True)
    return {"report_to": list(asked["to"]), "project": project, "run_name": run}


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
