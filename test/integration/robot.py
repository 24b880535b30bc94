"""A small robot that a test can break: its messages, and what sends them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from builtin_interfaces.msg import Time
from live import Desk, LiveProcess
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from fused_encoder_ros.spec import DEFAULT_JOINT_NAMES

CAMERAS = ('left_wrist', 'right_wrist', 'global')
IMAGES = {f'/{camera}/image': 'sensor_msgs/msg/Image' for camera in CAMERAS}
JOINTS = {'/joint_states': 'sensor_msgs/msg/JointState'}
TOPICS = IMAGES | JOINTS
T0 = 1_700_000_000 * 10**9
PERIOD_MS = 50
STILL: dict[str, object] = {'diagnostics__max_still_s': 0.0}


def ns(ms: float) -> int:
    return T0 + int(ms * 1e6)


def header(ms: float) -> Header:
    """Stamped so many milliseconds after T0; a negative number stands for a stamp of zero."""
    sec, nanosec = divmod(ns(ms) if ms >= 0 else 0, 10**9)
    return Header(stamp=Time(sec=sec, nanosec=nanosec))


def image(ms: float, value: int = 90, **changes: object) -> Image:
    """Of one brightness. The same picture for long is a WARN, unless the node is started with STILL."""
    fields = {'height': 24, 'width': 32, 'encoding': 'rgb8', 'step': 96, 'data': bytes([value]) * 24 * 96, **changes}
    return Image(header=header(ms), **fields)


def joint_state(ms: float) -> JointState:
    return JointState(header=header(ms), name=list(DEFAULT_JOINT_NAMES), position=[0.1] * 16)


def send_sets(desk: Desk, start_ms: int, count: int) -> None:
    """Complete sets, 50 ms apart in stamps; each waits for its report, so that none is superseded."""
    for ms in range(start_ms, start_ms + 50 * count, 50):
        for topic in IMAGES:
            desk.publishers[topic].publish(image(ms))
        desk.publishers['/joint_states'].publish(joint_state(ms))
        wait_for_report(desk, ms)


def wait_for_report(desk: Desk, ms: int) -> None:
    stamp = ns(ms)
    desk.wait(lambda: any(report['stamp_ns'] == stamp for report in desk.reports), f'a report of the set at {ms} ms')


def ready(desk: Desk, **parameters: object) -> None:
    desk.start(**parameters)
    desk.advertise(IMAGES | JOINTS)
    desk.wait_until_heard()


Sender = Callable[[float], Iterable[Any]]
"""What a topic sends at a time, in milliseconds after T0: messages, or bytes as they are."""


class Robot:
    """Sends complete sets, 50 ms apart by its stamps, while a test waits for what the node makes of it.

    Attributes:
        ms: its clock.
        senders: by topic, what it sends at each step; a test puts a fault in.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.ms = 0.0
        self.senders: dict[str, Sender] = {}
        self.repair()
        self._log_from = self._reports_from = 0
        desk.advertise(TOPICS)

    def repair(self) -> None:
        """Every topic sends what it should."""
        self.senders = {topic: lambda ms: [image(ms)] for topic in IMAGES}
        self.senders['/joint_states'] = lambda ms: [joint_state(ms)]

    def unplug(self, topic: str) -> None:
        self.desk.node.destroy_publisher(self.desk.publishers.pop(topic))

    def plug_in(self, topic: str) -> None:
        self.desk.advertise({topic: TOPICS[topic]})

    def step(self) -> None:
        """Send one set of messages."""
        for topic, publisher in self.desk.publishers.items():
            for message in self.senders[topic](self.ms):
                publisher.publish(message)
        self.ms += PERIOD_MS
        self.desk.spin(PERIOD_MS / 1e3)

    def run_until(self, condition: Callable[[], object], what: str) -> None:
        """Send until a condition holds; fail with the logs when it never does."""

        def stepped() -> object:
            self.step()
            return condition()

        self.desk.wait(stepped, what)

    def mark(self) -> None:
        """What the node says from now on is what `run_until_...` looks at."""
        self._log_from = len(self.node.log)
        self._reports_from = len(self.desk.reports)
        self.desk.diagnostics.clear()

    @property
    def node(self) -> LiveProcess:
        return self.desk.processes[0]

    @property
    def log(self) -> str:
        """Since the mark."""
        return self.node.log[self._log_from :]

    @property
    def reports(self) -> list[dict[str, Any]]:
        """Since the mark."""
        return self.desk.reports[self._reports_from :]

    def reports_of_sets(self) -> list[int]:
        """Stamps of the sets since the mark."""
        return [report['stamp_ns'] for report in self.reports if 'drop' not in report]

    def run_until_log(self, text: str) -> None:
        self.run_until(lambda: text in self.log, f'{text!r} in the log')

    def run_until_drop(self, reason: str, says: str) -> None:
        """Until a frame has been dropped for this reason, with these words in the detail."""
        self.run_until(
            lambda: any(report.get('drop') == reason and says in report['detail'] for report in self.reports),
            f'a drop {reason}: {says}',
        )

    def run_until_input(self, source: str, level: int, says: str) -> None:
        """Until a diagnostic status of an input has this level and these words."""
        self.run_until(
            lambda: any(found == level and says in message for found, message, _ in self.desk.statuses(source)),
            f'level {level} of {source}: {says}',
        )

    def assert_recovers(self) -> None:
        """Sent what it should be sent again, the node gives sets, finds every input well, and has lost no frame."""
        self.repair()
        self.mark()
        self.run_until(
            lambda: len(self.reports) >= 5 and not any('drop' in report for report in self.reports[-5:]),
            'five sets in a row',
        )
        for source in (*CAMERAS, 'joint_states'):
            self.run_until_input(source, 0, 'receiving')
        assert_accounted_for(self.desk)


def assert_accounted_for(desk: Desk) -> dict[str, str]:
    """Every anchor frame has ended as one set or one drop, or waits; diagnostics and the reports agree on how many.

    To be called when nothing is sent any more, by a desk that heard the node from its first frame. Returns the encoder's
    diagnostic values.
    """

    def settled() -> bool:
        values = desk.status('encoder')[2] if desk.diagnostics else {'anchors': '-1', 'waiting': '0'}
        return int(values['anchors']) == len(desk.reports) + int(values['waiting'])

    desk.diagnostics.clear()
    desk.wait(settled, f'reports of all anchors, {len(desk.reports)} so far')
    values = desk.status('encoder')[2]
    drops = {name.removeprefix('dropped: '): int(count) for name, count in values.items() if name.startswith('dropped: ')}
    assert drops == Counter(report['drop'] for report in desk.reports if 'drop' in report)
    assert int(values['anchors']) == int(values['sets']) + sum(drops.values()) + int(values['waiting'])
    return values
