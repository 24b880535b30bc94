"""The lifecycle node `fused_encoder`."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidTopicNameException, ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.service import Service
from rclpy.validate_topic_name import validate_topic_name
from sensor_msgs.msg import Image
from std_msgs.msg import Float32MultiArray, String
from std_srvs.srv import Trigger

from fused_encoder_ros.errors import ConfigError, FusedEncoderError, in_one_line
from fused_encoder_ros.pipeline.images import image_converters
from fused_encoder_ros.pipeline.outputs import FEATURE_TOPIC, OBSERVATION_TOPIC, SETS_TOPIC, STAMPED_TOPIC
from fused_encoder_ros.ros import filters
from fused_encoder_ros.ros.arguments import unused_parameter_files
from fused_encoder_ros.ros.executor import MessagesFirstExecutor
from fused_encoder_ros.ros.parameters import NodeParameters
from fused_encoder_ros.ros.session import Session
from fused_encoder_ros.ros.stopping import STOP_LATENCY_S, init_with_stop
from fused_encoder_ros.settings import NODE_NAME, Settings, refuse_shared_topics

if TYPE_CHECKING:
    from fused_encoder_ros.model import Model

_OUTPUTS = {
    FEATURE_TOPIC: Float32MultiArray,
    STAMPED_TOPIC: Image,
    OBSERVATION_TOPIC: Image,
    SETS_TOPIC: String,
}

RCLError = rclpy_implementation.RCLError

Callback = Callable[['FusedEncoderNode', LifecycleState], TransitionCallbackReturn]


def _logged(callback: Callback) -> Callback:
    """Log what a lifecycle callback raises: rclpy would swallow it."""

    @functools.wraps(callback)
    def guarded(self: FusedEncoderNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(self, state)
        except FusedEncoderError as error:
            self.get_logger().error(f'{callback.__name__} refused: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception:
            self.get_logger().fatal(f'{callback.__name__} failed:\n{traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR

    return guarded


class FusedEncoderNode(LifecycleNode):
    """Cameras and joint states in, fused features out."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(NODE_NAME, **kwargs)
        self._declared = NodeParameters(self)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._session: Session | None = None
        self._outputs: dict[str, Any] = {}
        self._model: Model | None = None
        self._settings: Settings | None = None
        self._is_finalized = False
        self.create_service(Trigger, '~/reset', self._on_reset)
        for service in self.services:
            service.callback = self._answered(service)

    def start(self) -> bool:
        """Configure and activate, if `autostart` says so; whether the node can go on."""
        if not self.get_parameter('autostart').value:
            return True
        return all(
            transition() == TransitionCallbackReturn.SUCCESS for transition in (self.trigger_configure, self.trigger_activate)
        )

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """As rclpy's, which both services call; rclpy's refusal of an unknown name leaves out the name."""
        try:
            self._declared.refuse_undeclared(parameter.name for parameter in parameter_list)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return super().set_parameters_atomically(parameter_list)

    @_logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load and warm up the model, create the publishers."""
        try:
            self._configure()
        except Exception:
            self._release()
            raise
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        settings = self._declared.settings()
        refuse_shared_topics(
            {source: tuple(self._resolve(source, topic) for topic in topics) for source, topics in settings.topics.items()}
        )
        self._model = _load_model(settings)
        _ = settings.reference  # read now: at activation the file may be another one, or gone
        self._settings = settings
        for name, kind in _OUTPUTS.items():
            self._outputs[name] = self._create_output(name, kind)
        self._declared.on_live = self._on_live
        log = self.get_logger()
        log.info(
            f'encoder: {self._model.description} ({self._model.engine_reason}), '
            f'error {self._model.engine_error:.1e}, ready in {self._model.start_up_s * 1e3:.0f} ms'
        )
        for warning in self._model.warnings:
            log.warning(warning)
        converters = ', '.join(name for name, _ in image_converters()) or 'none is installed'
        log.info(f'message filters: {filters.IMPLEMENTATION}; converters for uncommon image encodings: {converters}')

    @_logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        assert self._settings is not None and self._model is not None
        self._session = Session(self, self._settings, self._model, self._outputs, self._steady)
        # Once nothing can fail any more, so that a refused activation leaves the node as it was.
        super().on_activate(state)
        topics = ', '.join(source.resolved_topic for source in self._session.inputs)
        self.get_logger().info(f'active; anchor {self._settings.sync.anchor}; listening to {topics}')
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop the worker."""
        self._end_session()
        super().on_deactivate(state)
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model and the publishers."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything."""
        self._release()
        self._is_finalized = True
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything; the node can be configured again."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def stop(self) -> None:
        """Shut down, unless somebody has done so already."""
        if not self._is_finalized:
            self.trigger_shutdown()

    def destroy_node(self) -> None:
        """Stop the worker before the publishers go."""
        self._end_session()
        super().destroy_node()

    def _answered(self, service: Service) -> Callable[[Any, Any], Any]:
        """A service's callback that answers even if it fails: rclpy would end the node, and leave the client waiting."""
        callback = service.callback

        def answered(request: Any, response: Any) -> Any:
            try:
                if isinstance(request, ChangeState.Request):
                    self._refuse_impossible(request.transition)
                return callback(request, response)
            except Exception as error:
                self.get_logger().error(f'{service.srv_name} refused: {in_one_line(error)}')
                return response

        return answered

    def _refuse_impossible(self, transition: Transition) -> None:
        possible = {number: label for number, label, *_ in self._state_machine.available_transitions}
        wanted = transition.label or transition.id
        if wanted not in possible and wanted not in possible.values():
            state = self._state_machine.current_state[1]
            raise ConfigError(f'there is no transition {wanted} from {state}; use one of: {", ".join(possible.values())}')

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._session is not None
        if self._session is None:
            response.message = 'the node is not active, so its buffers are empty already; activate it first'
        else:
            self._session.reset()
            response.message = 'the buffers are empty'
        return response

    def _on_live(self, values: Mapping[str, Any]) -> None:
        """Parameters have changed that may do so while the node runs."""
        assert self._settings is not None
        self._settings = self._settings.with_live(values)
        if self._session is not None:
            self._session.apply(self._settings)

    def _resolve(self, source: str, topic: str) -> str:
        """A topic's full name after remapping."""
        try:
            validate_topic_name(topic)
            return str(self.resolve_topic_name(topic))
        except (InvalidTopicNameException, RCLError) as error:
            raise ConfigError(f'topics.{source}: {" ".join(str(error).split())}') from None

    def _create_output(self, name: str, kind: type) -> Any:
        options = QoSOverridingOptions.with_default_policies()
        try:
            return self.create_lifecycle_publisher(kind, f'~/{name}', 10, qos_overriding_options=options)
        except (RuntimeError, ParameterException, TypeError) as error:
            raise ConfigError(f'qos_overrides.{self.resolve_topic_name(f"~/{name}")}: {error}') from error

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _release(self) -> None:
        self._end_session()
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs.clear()
        if self._model is not None:
            from fused_encoder_ros.model import release_memory

            self._model = None
            release_memory()
        self._settings = None
        self._declared.on_live = None


def _load_model(settings: Settings) -> Model:
    try:
        from fused_encoder_ros.model import load_model  # here, so that bad parameters are refused without waiting for torch

        return load_model(settings.model, settings.spec)
    except ImportError as error:
        fix = 'run the node in the environment that has torch and torchvision; see "On the robot" in README.md'
        raise ConfigError(f'{in_one_line(error)}; {fix}') from error


def run(arguments: list[str]) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code."""
    try:
        stop = init_with_stop(arguments)
        node = FusedEncoderNode()
        for warning in unused_parameter_files(arguments, node.get_fully_qualified_name()):
            node.get_logger().warning(warning)
    except Exception as error:
        # rclpy's errors of arguments, parameter files and names have no base class of their own.
        print(f'fused_encoder cannot start: {error}', file=sys.stderr)
        if 'should be of same type' in str(error):
            print('In a list of numbers write 0.0 instead of 0', file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = MessagesFirstExecutor()
    executor.add_node(node)
    try:
        if not node.start():
            return 1
        # Wakes the executor as a timeout would, which rclpy makes a timer of at every message.
        node.create_timer(STOP_LATENCY_S, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
        while rclpy.ok() and not stop.is_set():
            executor.spin_once()
        node.stop()
    finally:
        node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
    return 0
