"""One parameter: its name, type, default and range."""

from __future__ import annotations

import array
import sys
from dataclasses import dataclass
from typing import Any

from fused_encoder_ros.errors import ConfigError

Value = bool | int | float | str | list[str] | list[float]

_SEQUENCES = (list, tuple, array.array)


@dataclass(frozen=True)
class Parameter:
    """One ROS parameter.

    Attributes:
        name: the name as in YAML; each dot begins a deeper level.
        default: the default value; its type is the type of the parameter.
        description: what the parameter does, for `ros2 param describe` and the parameter reference.
        minimum, maximum: inclusive range of a number.
        choices: the allowed strings; if empty, any string is allowed.
        read_only: whether the parameter cannot be changed once the node runs.
        floats: whether the value is a list of numbers, which may be empty.
        live: whether a change takes effect at once, between two sets. Other parameters are read when the node is configured.
    """

    name: str
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False
    floats: bool = False
    live: bool = False

    def check(self, value: Any) -> Value:
        """The value in the parameter's type.

        Raises:
            ConfigError: naming the parameter, the value and the fix.
        """
        if self.floats:
            if not isinstance(value, _SEQUENCES):
                raise ConfigError(f'{self.name}: {value!r} is not a list of numbers')
            return [self._number(item) for item in value]
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise ConfigError(f'{self.name}: {value!r} is neither true nor false; use one of these')
            return value
        if isinstance(self.default, int):
            return int(self._number(value, whole=True))
        if isinstance(self.default, float):
            return self._number(value)
        if isinstance(self.default, list):
            items = [value] if isinstance(value, str) else list(value) if isinstance(value, _SEQUENCES) else []
            if not items or not all(isinstance(item, str) for item in items):
                raise ConfigError(f'{self.name}: {value!r} is not a list of names; give at least one')
            return items
        if not isinstance(value, str):
            raise ConfigError(f'{self.name}: {value!r} is not a string; put it in quotes')
        if self.choices and value not in self.choices:
            raise ConfigError(f'{self.name}: {value!r} is unknown; use one of {list(self.choices)}')
        return value

    def _number(self, value: Any, whole: bool = False) -> float:
        kind = 'a whole number' if whole else 'a number'
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or value != value:
            raise ConfigError(f'{self.name}: {value!r} is not {kind}')
        if self.minimum is not None and value < self.minimum:
            raise ConfigError(f'{self.name}: {value} is too small; use at least {self.minimum:g}')
        if self.maximum is not None and value > self.maximum:
            raise ConfigError(f'{self.name}: {value} is too large; use at most {self.maximum:g}')
        if abs(value) > sys.float_info.max:
            raise ConfigError(f'{self.name}: {value} is not finite')
        return value if whole else float(value)
