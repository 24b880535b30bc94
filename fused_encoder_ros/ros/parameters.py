"""The parameter table as ROS parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from fused_encoder_ros.errors import CheckpointError, ConfigError
from fused_encoder_ros.settings import OF_EVERY_NODE, Parameter, Settings, cameras_of, is_derived, parameters, refuse_unknown
from fused_encoder_ros.spec import CAMERAS


class NodeParameters:
    """Declares every parameter, and reads them back as `Settings`.

    A value of the wrong type or out of range does not stop the node from starting: it is remembered and refused when
    the node is configured, with a sentence that names the parameter and the fix.

    Attributes:
        on_live: set while the node is configured: takes the new values of live parameters, or raises ConfigError; other
            parameters are refused then.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._table: dict[str, Parameter] = {}
        self._cameras: Sequence[str] = ()
        self._refused: dict[str, ConfigError] = {}
        # What the user has said; the rest of the observation spec may come from the checkpoint.
        self._stated = set(node._parameter_overrides)
        self.on_live: Callable[[Mapping[str, Any]], None] | None = None
        overrides = {name: override.value for name, override in node._parameter_overrides.items()}
        try:
            self._declare_all(cameras_of(overrides))
        except (ConfigError, CheckpointError):  # told when the node is configured
            self._declare_all(CAMERAS)
        node.add_on_set_parameters_callback(self._on_set)

    def settings(self) -> Settings:
        """The parameters as they stand.

        Raises:
            ConfigError: naming the parameter and the fix.
        """
        self._follow_cameras({})  # the checkpoint may be another one by now, under the same path
        for error in self._refused.values():
            raise error
        names = [name for name in self._table if not is_derived(name) or name in self._stated]
        values = {name: self._node.get_parameter(name).value for name in names}
        # A misspelled name must not leave a default in place unseen.
        strays = [name for name in self._node._parameter_overrides if name.split('.')[0] not in OF_EVERY_NODE]
        settings = Settings.from_values({**dict.fromkeys(strays), **values})
        self._show(settings)
        return settings

    def refuse_undeclared(self, names: Iterable[str]) -> None:
        """Raises ConfigError for a name that is no parameter of this node."""
        refuse_unknown([name for name in names if not self._node.has_parameter(name)], self._cameras)

    def _show(self, settings: Settings) -> None:
        """Let the parameters say what the checkpoint brought, and what follows from it."""
        stated = set(self._stated)
        values = {**settings.values, **settings.spec.to_dict()}
        derived = [name for name in self._table if is_derived(name) and name not in stated]
        shown = [RosParameter(name, value=[] if values[name] is None else values[name]) for name in derived]
        self._node.set_parameters(shown)
        self._stated = stated

    def _declare_all(self, cameras: Sequence[str]) -> None:
        """Declare the parameters of a node with these cameras; topics of cameras that are gone go too."""
        stated = set(self._stated)
        table = {parameter.name: parameter for parameter in parameters(cameras)}
        for name in self._table.keys() - table.keys():
            self._node.undeclare_parameter(name)
            self._refused.pop(name, None)
        for name in table.keys() - self._table.keys():
            self._declare(table[name])
        self._table, self._cameras = table, cameras
        self._stated = stated & table.keys() | stated & self._node._parameter_overrides.keys()

    def _declare(self, parameter: Parameter) -> None:
        default: Any = parameter.default
        override = self._node._parameter_overrides.get(parameter.name)
        if override is not None:
            try:
                # ROS gives an empty list as no value.
                default = parameter.check([] if override.value is None else override.value)
            except ConfigError as error:
                self._refused[parameter.name] = error
        # The override is applied above, by our own check: rclpy's would end the process with a traceback.
        try:
            self._node.declare_parameter(parameter.name, default, _descriptor(parameter), ignore_override=True)
        except ParameterException as error:
            self._refused[parameter.name] = ConfigError(f'{parameter.name}: {error}')

    def _on_set(self, changed: list[RosParameter]) -> SetParametersResult:
        ours = {parameter.name: parameter.value for parameter in changed if parameter.name in self._table}
        try:
            if self.on_live is None:
                for name, value in ours.items():
                    self._table[name].check(value)
                if ours.keys() & {'cameras', 'checkpoint'}:
                    self._follow_cameras(ours)
            elif fixed := [name for name in ours if not self._table[name].live]:
                raise ConfigError(
                    f'{fixed[0]} is read when the node is configured; clean the node up, set the parameter, then configure '
                    'and activate the node'
                )
            elif ours:
                self.on_live(ours)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for name in ours:
            self._refused.pop(name, None)
            self._stated.add(name)
        return SetParametersResult(successful=True)

    def _follow_cameras(self, changed: Mapping[str, Any]) -> None:
        """Declare the topics of the cameras that changed parameters ask for, so that they can be set next."""
        names = self._stated & {'cameras', 'checkpoint'}
        values = {name: self._node.get_parameter(name).value for name in names} | dict(changed)
        with suppress(CheckpointError):  # told when the node is configured
            cameras = cameras_of(values)
            refuse_unknown(changed, cameras)
            self._declare_all(cameras)


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    # rclpy takes an empty list for one of bytes, and would refuse numbers later; and a lone name stands for a list of one.
    descriptor = ParameterDescriptor(
        description=parameter.description, read_only=parameter.read_only, dynamic_typing=isinstance(parameter.default, list)
    )
    if parameter.choices:
        descriptor.additional_constraints = 'one of: ' + ', '.join(repr(choice) for choice in parameter.choices)
    if parameter.minimum is None or parameter.maximum is None:
        return descriptor
    if isinstance(parameter.default, float):
        # `tolerance_ms: 20` in a parameter file is a whole number, which a parameter of fixed type double refuses.
        descriptor.dynamic_typing = True
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(parameter.minimum), to_value=float(parameter.maximum))
        ]
    else:
        descriptor.integer_range = [IntegerRange(from_value=int(parameter.minimum), to_value=int(parameter.maximum), step=1)]
    return descriptor
