"""The synchroniser as a `message_filters` filter.

`ObservationFilter` takes one filter for each source and signals observations, so that it fits wherever a filter does:

    inputs = {source: Subscriber(node, kind, topic, qos_profile=qos) for source, (kind, topic) in ...}
    observations = ObservationFilter(Pipeline(spec, options), inputs)
    observations.registerCallback(on_observation)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fused_encoder_ros.pipeline.data import Observation, Outcome
from fused_encoder_ros.pipeline.pipeline import Pipeline

try:
    from message_filters import SimpleFilter, Subscriber

    IMPLEMENTATION = 'message_filters'
except ImportError:
    # The Python package index has rclpy but no message_filters; the two classes are small.
    IMPLEMENTATION = 'the built-in stand-in (message_filters is not installed)'

    class SimpleFilter:  # type: ignore[no-redef]
        """A source of messages that callbacks can be attached to."""

        def __init__(self) -> None:
            self.callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}

        def registerCallback(self, cb: Callable[..., Any], *args: Any) -> int:  # noqa: N802
            """Have `cb` called with each output and then `args`; returns the connection's number."""
            number = len(self.callbacks)
            self.callbacks[number] = (cb, args)
            return number

        def signalMessage(self, *messages: Any) -> None:  # noqa: N802
            """Hand an output to every callback."""
            for cb, args in list(self.callbacks.values()):
                cb(*messages, *args)

    class Subscriber(SimpleFilter):  # type: ignore[no-redef]
        """A subscription as a filter; arguments as for `Node.create_subscription`, without the callback."""

        def __init__(self, node: Any, message_type: Any, topic: str, *, qos_profile: Any) -> None:
            super().__init__()
            self.node = node
            self.topic = topic
            self.sub = node.create_subscription(message_type, topic, self.signalMessage, qos_profile)


class ObservationFilter(SimpleFilter):
    """Signals each `Observation` that its inputs complete.

    Not thread-safe: the inputs must call it from one thread, as a SingleThreadedExecutor does.

    Args:
        pipeline: decodes and synchronises; its `sources` name the inputs.
        inputs: a filter for each source; may come later through `connectInput`.
    """

    def __init__(self, pipeline: Pipeline, inputs: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.pipeline = pipeline
        self._outcome_callbacks: list[Callable[[Outcome], None]] = []
        if inputs is not None:
            self.connectInput(inputs)

    def connectInput(self, inputs: Mapping[str, Any]) -> None:  # noqa: N802
        """Take messages from these filters, by source name."""
        for source, upstream in inputs.items():
            upstream.registerCallback(self.add, source)

    def register_outcome_callback(self, callback: Callable[[Outcome], None]) -> None:
        """Have `callback(outcome)` called for every outcome, drops and rejects included."""
        self._outcome_callbacks.append(callback)

    def add(self, message: Any, source: str) -> list[Outcome]:
        """Take one message of a source; returns what it decided."""
        return self.signal(self.pipeline.push(source, message))

    def signal(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Hand outcomes to the callbacks; what one of them raises is raised again once all outcomes are handed over."""
        faults: list[Exception] = []
        for outcome in outcomes:
            try:
                self._hand_over(outcome)
            except Exception as error:
                faults.append(error)
        if faults:
            raise faults[0]
        return outcomes

    def _hand_over(self, outcome: Outcome) -> None:
        for callback in self._outcome_callbacks:
            callback(outcome)
        if isinstance(outcome, Observation):
            self.signalMessage(outcome)
