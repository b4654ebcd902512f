"""One simulated machine: its chip, how strict it is, and the log that its operators write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .arguments import Arguments
from .checks import Checks, Strict
from .chip import CHIPS, DEFAULT, Chip
from .log import Log


@dataclass
class Simulation:
    """What every emulated operator sees.

    Attributes:
        chip: decides which operators and dtypes exist.
        strict: where to refuse though hardware would compute something.
        log: what was called.
    """

    chip: Chip = CHIPS[DEFAULT]
    strict: Strict = field(default_factory=Strict)
    log: Log = field(default_factory=Log)

    def run(self, operator: Operator, schema: Any, args: Any, kwargs: Any) -> Any:
        """The operator's results for CPU tensors; logged when all its checks passed."""
        call = Arguments(schema, args, kwargs)
        checks = Checks(schema.name.split("::")[1])
        results = operator(call, checks, self)
        call.check_all_read()
        self.log.add(checks.op, call.as_dict())
        return results


Operator = Callable[[Arguments, Checks, Simulation], Any]
