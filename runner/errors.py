"""The errors a user may see: one line each, the path first, what is wrong, what to do."""

from __future__ import annotations


class RunnerError(Exception):
    """Something the user can mend. Holds one line, or several found together."""

    exit_code = 1

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class RecipeError(RunnerError):
    """The recipe says something that cannot work."""


class DataError(RunnerError):
    """The data is not what the recipe says it is."""


class StepError(RunnerError):
    """A step could not do its work with what it was given."""


class ServiceError(RunnerError):
    """A service failed or a budget ran out; running again resumes."""

    exit_code = 4


class MachineError(RunnerError):
    """The recipe is right, but this machine cannot run the step."""

    exit_code = 5
