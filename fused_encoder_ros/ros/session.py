"""What the node does while it is active."""

from __future__ import annotations

import array
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Float32MultiArray, Header, MultiArrayDimension, MultiArrayLayout, String

from fused_encoder_ros.content.inspector import watcher_of
from fused_encoder_ros.pipeline.data import Drop, Feature, Observation, Outcome, Reason, stamp_to_ns
from fused_encoder_ros.pipeline.outputs import (
    FEATURE_TOPIC,
    OBSERVATION_TOPIC,
    SETS_TOPIC,
    STAMPED_TOPIC,
    OutputMessages,
    describe_outcome,
)
from fused_encoder_ros.ros.diagnostics import Diagnostics, explain_silence
from fused_encoder_ros.ros.filters import ObservationFilter
from fused_encoder_ros.ros.inputs import Input
from fused_encoder_ros.ros.monitor import ArrivalClock, ContentLog, Latencies, SilenceWatch, StallWatch, Tally
from fused_encoder_ros.ros.worker import EncodeWorker, Timing
from fused_encoder_ros.settings import Settings

if TYPE_CHECKING:
    from fused_encoder_ros.model import Model

_REFRESH_S = 0.5

_MESSAGE_TYPES = {
    'builtin_interfaces/msg/Time': Time,
    'std_msgs/msg/Header': Header,
    'std_msgs/msg/Float32MultiArray': Float32MultiArray,
    'std_msgs/msg/MultiArrayLayout': MultiArrayLayout,
    'std_msgs/msg/MultiArrayDimension': MultiArrayDimension,
    'sensor_msgs/msg/Image': Image,
}


class Session:
    """Everything that lives from activation to deactivation.

    The executor's thread receives, decodes and synchronises; the worker's encodes and publishes.
    """

    def __init__(self, node: Node, settings: Settings, model: Model, outputs: Mapping[str, Any], steady: Clock) -> None:
        self._node = node
        self._settings = settings
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
        self.pipeline = settings.pipeline()
        self._content = ContentLog(self._log, watcher_of(self.pipeline))
        self._features = settings.feature_watch()
        self.pipeline.watch(self._on_decoded, self._arrivals.settled)
        self._silence = SilenceWatch(self._log)
        self._stalls = StallWatch(_REFRESH_S)
        self._filter = ObservationFilter(self.pipeline)
        self._filter.register_outcome_callback(self._on_outcome)
        self._filter.registerCallback(self._on_observation)
        self.inputs: list[Input] = []
        self._drops_before: dict[str, int] = {}
        with ExitStack() as undo:
            self._status_output = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
            undo.callback(node.destroy_publisher, self._status_output)
            self._worker = EncodeWorker(model, self._on_feature, self._on_fault)
            undo.callback(self._stop_encoding)
            for source, topics in settings.topics.items():
                for topic in topics:
                    input_ = Input(node, source, topic, settings, self._log)
                    undo.callback(input_.close)
                    input_.registerCallback(self._on_message, input_)
                    self.inputs.append(input_)
            self._diagnostics = Diagnostics(
                node.get_name(),
                self.inputs,
                self.pipeline,
                model,
                self._worker.model,
                self.tally,
                self._latencies,
                self._features,
            )
            # The steady clock, so that a dead camera and a stopped /clock show.
            for period_s, callback in ((_REFRESH_S, self._refresh_inputs), (1.0, self._report)):
                undo.callback(node.destroy_timer, node.create_timer(period_s, callback, clock=steady))
            self._undo = undo.pop_all()

    def apply(self, settings: Settings) -> None:
        """Go by other values of the parameters that are live. For the executor's thread, as everything that makes sets."""
        self._settings = settings
        self.pipeline.set_options(settings.sync)

    def reset(self) -> None:
        """Empty the buffers. For the executor's thread."""
        self._filter.signal(self.pipeline.reset())

    def close(self) -> None:
        """Stop receiving, encode no more, and account for what was under way."""
        self._undo.close()

    def _stop_encoding(self) -> None:
        left = self._worker.stop()
        if left is not None:
            self._drop_matched(Drop(left.stamp_ns, '', Reason.END_OF_STREAM, 'the node was deactivated'))
        self._filter.signal(self.pipeline.finish())

    def _log(self, severity: str, text: str) -> None:
        # rclpy ties a severity to the line that logs it, so each has its own.
        if severity == 'warn':
            self._node.get_logger().warning(text)
        else:
            self._node.get_logger().info(text)

    def _clock_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    # The executor's thread.

    def _on_message(self, message: Any, input_: Input) -> None:
        now_ns = time.monotonic_ns()
        input_.monitor.arrived(message, now_ns)
        if input_.source == self._settings.sync.anchor:
            self._arrivals.arrived(stamp_to_ns(message.header.stamp), now_ns, self._clock_ns())
        input_.monitor.judged(self._filter.add(message, input_.source), now_ns)

    def _on_decoded(self, camera: str, stamp_ns: int) -> None:
        if camera == self._settings.sync.anchor:
            self._arrivals.decoded(stamp_ns)

    def _on_outcome(self, outcome: Outcome) -> None:
        if isinstance(outcome, Drop):
            self._drop(outcome)

    def _on_observation(self, observation: Observation) -> None:
        self.tally.matched(observation)
        loser = self._worker.post(observation)
        if loser is not None:
            detail = 'a newer set was complete before the encoder was free for this one'
            self._drop_matched(Drop(loser.stamp_ns, '', Reason.SUPERSEDED, detail))

    def _drop_matched(self, drop: Drop) -> None:
        self.tally.unencoded += 1
        self._drop(drop)

    def _drop(self, drop: Drop) -> None:
        self.tally.dropped(drop)
        if drop.reason is Reason.BAD_STAMP:  # perhaps of a duplicate, whose first frame may still become a set
            self._arrivals.refused(drop.stamp_ns)
        else:
            self._arrivals.forget(drop.stamp_ns)
        self._publish_set(drop)

    def _refresh_inputs(self) -> None:
        stalled_s = self._stalls.beat(time.monotonic())
        for input_ in self.inputs:
            input_.refresh()
            input_.tell_missed(stalled_s)

    def _report(self) -> None:
        silence_s = self._settings.values['silence_s']
        if self._clock_ns() == 0:
            text = 'use_sim_time is set, but nothing has come on /clock yet; until then, the latencies are meaningless'
            self._node.get_logger().warning(text, once=True)
        silence = self._silence.check(
            self.tally.last_feature_ns,
            silence_s,
            lambda: explain_silence(self.inputs, self.tally, self._drops_before, silence_s),
        )
        if not silence:
            self._drops_before = self.tally.all_drops()
        self._content.check()
        stamp = self._node.get_clock().now().to_msg()
        encoders = self._node.count_publishers(f'~/{FEATURE_TOPIC}')
        status = self._diagnostics.report(self._settings, silence, encoders)
        self._status_output.publish(DiagnosticArray(header=Header(stamp=stamp), status=status))

    # The worker's thread.

    def _on_feature(self, feature: Feature, timing: Timing) -> None:
        self._outputs[FEATURE_TOPIC].publish(self._messages.feature(feature))
        self._outputs[STAMPED_TOPIC].publish(self._messages.stamped(feature))
        if self._features:
            self._features.see(feature.values)
        latency_ms = self._arrivals.stages(feature, timing, self._clock_ns())
        self._latencies.add(latency_ms)
        self.tally.published += 1
        self.tally.last_feature_ns = time.monotonic_ns()
        try:
            if self._outputs[OBSERVATION_TOPIC].get_subscription_count():
                frame_id = self._settings.sync.anchor
                self._outputs[OBSERVATION_TOPIC].publish(self._messages.observation(feature.observation, frame_id))
            self._publish_set(feature, latency_ms)
        except Exception as error:
            # The feature is out; that its description is not makes no fault of it.
            self._node.get_logger().error(
                f'a feature was published, but the description of its set was not: {error}', throttle_duration_sec=5.0
            )

    def _on_fault(self, observation: Observation, detail: str) -> None:
        self.tally.faults += 1
        self.tally.last_detail = detail
        self._publish_set(Drop(observation.stamp_ns, '', Reason.ENCODER_FAULT, detail))
        self._node.get_logger().error(f'no feature for this set: {detail}', throttle_duration_sec=5.0)

    # Either thread.

    def _publish_set(self, outcome: Feature | Drop, latency_ms: dict[str, float] | None = None) -> None:
        if self._outputs[SETS_TOPIC].get_subscription_count():
            self._outputs[SETS_TOPIC].publish(String(data=describe_outcome(outcome, latency_ms)))
