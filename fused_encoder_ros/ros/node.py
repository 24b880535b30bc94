"""The lifecycle node `fused_encoder`."""

from __future__ import annotations

import array
import functools
import time
import traceback
from collections.abc import Callable
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidTopicNameException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.validate_topic_name import validate_topic_name
from sensor_msgs.msg import Image
from std_msgs.msg import Float32MultiArray, Header, MultiArrayDimension, MultiArrayLayout, String
from std_srvs.srv import Trigger

from fused_encoder_ros.errors import ConfigError, FusedEncoderError
from fused_encoder_ros.model import Model, load_model
from fused_encoder_ros.pipeline.data import Drop, Feature, Observation, Outcome, Reason, stamp_to_ns
from fused_encoder_ros.pipeline.images import image_converters
from fused_encoder_ros.pipeline.outputs import (
    FEATURE_TOPIC,
    OBSERVATION_TOPIC,
    SETS_TOPIC,
    STAMPED_TOPIC,
    OutputMessages,
    describe_outcome,
)
from fused_encoder_ros.pipeline.pipeline import Pipeline
from fused_encoder_ros.ros import filters
from fused_encoder_ros.ros.diagnostics import encoder_status, explain_silence, input_status
from fused_encoder_ros.ros.filters import ObservationFilter
from fused_encoder_ros.ros.inputs import Input
from fused_encoder_ros.ros.monitor import ArrivalClock, InputMonitor, Latencies, SilenceWatch, Tally
from fused_encoder_ros.ros.parameters import NodeParameters
from fused_encoder_ros.ros.stopping import init_with_stop
from fused_encoder_ros.ros.worker import EncodeWorker, Timing
from fused_encoder_ros.settings import NODE_NAME, Settings

_MESSAGE_TYPES = {
    'builtin_interfaces/msg/Time': Time,
    'std_msgs/msg/Header': Header,
    'std_msgs/msg/Float32MultiArray': Float32MultiArray,
    'std_msgs/msg/MultiArrayLayout': MultiArrayLayout,
    'std_msgs/msg/MultiArrayDimension': MultiArrayDimension,
    'sensor_msgs/msg/Image': Image,
}

_OUTPUTS = {
    FEATURE_TOPIC: Float32MultiArray,
    STAMPED_TOPIC: Image,
    OBSERVATION_TOPIC: Image,
    SETS_TOPIC: String,
}

# A signal is seen when the executor next returns from waiting.
_STOP_LATENCY_S = 0.2

Callback = Callable[['FusedEncoderNode', LifecycleState], TransitionCallbackReturn]


def _logged(callback: Callback) -> Callback:
    """Log what a lifecycle callback raises: rclpy would swallow it."""

    @functools.wraps(callback)
    def guarded(self: FusedEncoderNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(self, state)
        except FusedEncoderError as error:
            self.get_logger().error(f'{callback.__name__} refused: {error}')
            self._release()
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
        self._session: _Session | None = None
        self._outputs: dict[str, Any] = {}
        self._model: Model | None = None
        self._settings: Settings | None = None

    def start(self) -> bool:
        """Configure and activate, if `autostart` says so; whether the node can go on."""
        if not self.get_parameter('autostart').value:
            return True
        return all(
            transition() == TransitionCallbackReturn.SUCCESS for transition in (self.trigger_configure, self.trigger_activate)
        )

    @_logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load and warm up the model, create the publishers."""
        settings = self._declared.settings()
        for source, topic in settings.topics.items():
            _check_topic(source, topic)
        self._model = load_model(settings.model, settings.spec)
        self._settings = settings
        for name, kind in _OUTPUTS.items():
            self._outputs[name] = self.create_lifecycle_publisher(kind, f'~/{name}', 10)
        self._declared.locked = True
        log = self.get_logger()
        log.info(f'encoder: {self._model.description}, warmed up in {self._model.warm_up_s * 1e3:.0f} ms')
        if self._model.is_random:
            log.warn('NO CHECKPOINT: every feature comes from RANDOM weights; set the parameter "checkpoint"')
        converters = ', '.join(name for name, _ in image_converters()) or 'no converter is installed'
        log.info(f'filters: {filters.IMPLEMENTATION}; uncommon image encodings: {converters}')
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        super().on_activate(state)
        assert self._settings is not None and self._model is not None
        self._session = _Session(self, self._settings, self._model, self._outputs, self._steady)
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
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything; the node can be configured again."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stop the worker before the publishers go."""
        self._end_session()
        super().destroy_node()

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _release(self) -> None:
        self._end_session()
        for publisher in self._outputs.values():
            self.destroy_publisher(publisher)
        self._outputs.clear()
        self._model = self._settings = None
        self._declared.locked = False


class _Session:
    """Everything that lives from activation to deactivation."""

    def __init__(
        self, node: FusedEncoderNode, settings: Settings, model: Model, outputs: dict[str, Any], steady: Clock
    ) -> None:
        self._node = node
        self._settings = settings
        self._model = model
        self._outputs = outputs
        self._messages = OutputMessages(
            _MESSAGE_TYPES,
            pack_bytes=lambda values: array.array('B', values.tobytes()),
            pack_floats=lambda values: array.array('f', values.tobytes()),
            model_hash=model.hash,
        )
        self.tally = Tally()
        self._latencies = Latencies()
        self._arrivals = ArrivalClock()
        self.pipeline = Pipeline(settings.spec, settings.sync, settings.values['untyped_color_order'])
        self._monitors = {source: InputMonitor(source, self._log) for source in self.pipeline.sources}
        self._silence = SilenceWatch(settings.values['silence_s'], self._log)
        self._worker = EncodeWorker(model, self._on_feature, self._on_fault)
        self._filter = ObservationFilter(self.pipeline)
        self._filter.register_outcome_callback(self._on_outcome)
        self._filter.registerCallback(self._on_observation)
        self.inputs = [Input(node, source, settings) for source in self.pipeline.sources]
        for source in self.inputs:
            source.registerCallback(self._on_message, source.source)
        self._diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._reset = node.create_service(Trigger, '~/reset', self._on_reset)
        # The steady clock, so that a dead camera and a stopped /clock show.
        self._timers = [
            node.create_timer(0.5, self._refresh_inputs, clock=steady),
            node.create_timer(1.0, self._report, clock=steady),
        ]

    def close(self) -> None:
        """Stop receiving, encode no more, and account for what was under way."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        for source in self.inputs:
            source.close()
        left = self._worker.stop()
        if left is not None:
            self._drop(Drop(left.stamp_ns, '', Reason.END_OF_STREAM, 'the node was deactivated'))
        self._filter.signal('', self.pipeline.finish())
        self._node.destroy_service(self._reset)
        self._node.destroy_publisher(self._diagnostics)

    def _log(self, severity: str, text: str) -> None:
        # rclpy ties a severity to the line that logs it, so each has its own.
        if severity == 'warn':
            self._node.get_logger().warn(text)
        else:
            self._node.get_logger().info(text)

    def _clock_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    # The executor's thread.

    def _on_message(self, message: Any, source: str) -> None:
        now_ns = time.monotonic_ns()
        monitor = self._monitors[source]
        monitor.arrived(now_ns)
        if source == self._settings.sync.anchor:
            self.tally.anchors += 1
            self._arrivals.arrived(stamp_to_ns(message.header.stamp), now_ns, self._clock_ns())
        outcomes = self.pipeline.push(source, message)
        self._filter.signal(source, outcomes)
        monitor.judged(outcomes, now_ns)

    def _on_outcome(self, _source: str, outcome: Outcome) -> None:
        if isinstance(outcome, Drop):
            self._drop(outcome)

    def _on_observation(self, observation: Observation) -> None:
        self.tally.matched(observation)
        loser = self._worker.post(observation)
        if loser is not None:
            detail = 'the encoder was still busy when the next set was complete'
            self._drop(Drop(loser.stamp_ns, '', Reason.SUPERSEDED, detail))

    def _drop(self, drop: Drop) -> None:
        self.tally.dropped(drop)
        self._publish_set(drop)

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._filter.signal('', self.pipeline.reset())
        response.success = True
        response.message = 'the buffers are empty'
        return response

    def _refresh_inputs(self) -> None:
        for source in self.inputs:
            source.refresh()

    def _report(self) -> None:
        name, silence_s = self._node.get_name(), self._settings.values['silence_s']
        silent = self._silence.check(
            self.tally.last_feature_ns, lambda: explain_silence(self.inputs, self._monitors, self.tally, silence_s)
        )
        status = [encoder_status(name, self._model, self.tally, self._latencies, self.pipeline, silent)]
        status += [input_status(name, source, self._monitors[source.source], silence_s) for source in self.inputs]
        stamp = self._node.get_clock().now().to_msg()
        self._diagnostics.publish(DiagnosticArray(header=Header(stamp=stamp), status=status))

    # The worker's thread.

    def _on_feature(self, feature: Feature, timing: Timing) -> None:
        self._outputs[FEATURE_TOPIC].publish(self._messages.feature(feature))
        self._outputs[STAMPED_TOPIC].publish(self._messages.stamped(feature))
        latency_ms = self._arrivals.stages(feature, timing, self._clock_ns())
        self._latencies.add(latency_ms)
        self.tally.published += 1
        self.tally.last_feature_ns = time.monotonic_ns()
        if self._outputs[OBSERVATION_TOPIC].get_subscription_count():
            frame_id = self._settings.sync.anchor
            self._outputs[OBSERVATION_TOPIC].publish(self._messages.observation(feature.observation, frame_id))
        self._publish_set(feature, latency_ms)

    def _on_fault(self, observation: Observation, detail: str) -> None:
        self.tally.faults += 1
        self.tally.last_detail = detail
        self._publish_set(Drop(observation.stamp_ns, '', Reason.ENCODER_FAULT, detail))
        self._node.get_logger().error(f'no feature for this set: {detail}', throttle_duration_sec=5.0)

    # Either thread.

    def _publish_set(self, outcome: Feature | Drop, latency_ms: dict[str, float] | None = None) -> None:
        if self._outputs[SETS_TOPIC].get_subscription_count():
            self._outputs[SETS_TOPIC].publish(String(data=describe_outcome(outcome, latency_ms)))


def _check_topic(source: str, topic: str) -> None:
    try:
        validate_topic_name(topic)
    except InvalidTopicNameException as error:
        raise ConfigError(f'topics.{source}: {" ".join(str(error).split())}') from None


def run(arguments: list[str]) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code."""
    stop = init_with_stop(arguments)
    executor = SingleThreadedExecutor()
    node = FusedEncoderNode()
    executor.add_node(node)
    try:
        if not node.start():
            return 1
        while rclpy.ok() and not stop.is_set():
            executor.spin_once(timeout_sec=_STOP_LATENCY_S)
        node.trigger_shutdown()
    finally:
        node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
    return 0
