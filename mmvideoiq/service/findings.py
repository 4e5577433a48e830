"""What a check of the doctor says: green, yellow or red, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from mmvideoiq.jobs.errors import one_line
from mmvideoiq.service.main import how_to_install

State = Literal["green", "yellow", "red"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor's table.

    Attributes:
        state: green: nothing to do; yellow: works, not as well as it could; red: something does not work.
        found: what there is, and what it means.
        todo: what to do; "" where there is nothing.
    """

    name: str
    state: State
    found: str
    todo: str = ""


Check = Callable[[], Iterable[Finding]]


def findings(check: Check) -> list[Finding]:
    """What a check finds; one that breaks is red, never the doctor's end."""
    name = check.__name__.removeprefix("check_")
    try:
        return list(check())
    except ModuleNotFoundError as error:
        found = f"cannot be checked without {error.name}"
        return [Finding(name=name, state="red", found=found, todo=how_to_install("runtime"))]
    except Exception as error:
        found = f"the check failed: {type(error).__name__}: {one_line(error)}"
        return [Finding(name=name, state="red", found=found, todo="report this line")]
