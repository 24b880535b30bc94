"""The sync report: what it says about bags with known faults, and that its page is sound."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ros_messages
from faulty_bags import TOPICS, Times, as_it_is, write_bag
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import check_page, in_browser, needs_browser
from ros_messages import MS, T0

from fused_encoder_ros.cli import main
from fused_encoder_ros.diagnosis.facts.matching import bracket, nearest
from fused_encoder_ros.errors import BagError
from fused_encoder_ros.offline.bag import Bag, BagWriter
from fused_encoder_ros.offline.report import Facts, Severity, Verdict, gather, judge, render
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.settings.topics import IMAGE, JOINT_STATE
from fused_encoder_ros.spec import CAMERAS
from fused_encoder_ros.synthetic import Event

DATA = Path(__file__).parent / 'data'


def facts_of(path: Path, **values: object) -> Facts:
    chosen = Settings.from_values({name.replace('__', '.'): value for name, value in values.items()})
    with Bag(path, chosen.topics, require_all=False) as bag:
        return gather(bag, chosen)


def report(path: Path, **values: object) -> tuple[Facts, Verdict]:
    facts = facts_of(path, **values)
    verdict = judge(facts)
    counts = facts.counts
    assert sum(map(sum, facts.timeline.anchors.values())) == counts.anchors == counts.sets + sum(counts.drops.values())
    check_page(render(facts, verdict))
    json.dumps({**verdict.to_dict(), **facts.to_dict()}, allow_nan=False)
    return facts, verdict


def only(verdict: Verdict, severity: Severity) -> str:
    """The one finding of a severity, in words."""
    (finding,) = [finding for finding in verdict.findings if finding.severity is severity]
    return f'{finding.title}: {finding.evidence} {finding.fix} {" ".join(finding.options)}'


@pytest.fixture(scope='module')
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp('bags') / 'healthy')


def test_a_healthy_bag_passes(healthy: Path) -> None:
    facts, verdict = report(healthy)
    assert verdict.severity is Severity.PASS and verdict.sentence.startswith(f'{facts.counts.sets} of 180 anchor frames')
    assert facts.counts.anchors == 180
    for camera in CAMERAS:
        stream = facts.streams[camera]
        assert stream.messages == stream.usable == 180 and stream.contents == {'rgb8 64×48': 180}
        assert stream.steps is not None and stream.steps.lost == 0 and stream.steps.longest_gap_ms < 37
        assert stream.steps.period_ms == pytest.approx(1e3 / 30, abs=0.3) and stream.rate_hz == pytest.approx(30, abs=0.1)
        assert stream.delay is not None and stream.delay.middle_ms == pytest.approx(5.25, abs=0.1)
        assert sum(facts.timeline.messages[camera]) == 180
    (group,) = facts.joints.groups
    assert len(group.names) == 16 and group.age_p99_ms == pytest.approx(10, abs=0.5) and not facts.joints.missing
    assert len(facts.samples) == 6 and facts.samples[0].images.shape == (84, 84, 9)
    for camera, skews in facts.skews.items():
        assert sum(skews.sets) == facts.counts.sets and sum(skews.nearest) + skews.beyond == 180
        assert facts.worst_skew_ms[camera] <= 20


def test_a_lag_is_named_with_its_size(tmp_path: Path) -> None:
    def late(event: Event) -> Times:
        return event.publish_ns, event.stamp_ns - (30 * MS if event.source == 'left_wrist' else 0)

    _, verdict = report(write_bag(tmp_path / 'bag', late))
    assert verdict.severity is Severity.WARN and 'left_wrist lags by 30.0 ms' in verdict.sentence
    assert 'left_wrist lags by 30.0 ms' in only(verdict, Severity.WARN)


def test_a_lag_of_the_anchor_is_not_put_on_the_others(tmp_path: Path) -> None:
    def early(event: Event) -> Times:
        return event.publish_ns, event.stamp_ns + (45 * MS if event.source == 'global' else 0)

    assert 'global is ahead by 45' in only(report(write_bag(tmp_path / 'bag', early))[1], Severity.WARN)


def test_a_clock_of_its_own_gives_no_set(tmp_path: Path) -> None:
    def other_clock(event: Event) -> Times:
        return event.publish_ns, event.stamp_ns - (10_800_000 * MS if event.source == 'right_wrist' else 0)

    facts, verdict = report(write_bag(tmp_path / 'bag', other_clock))
    assert facts.counts.sets == 0 and verdict.sentence == 'No set can be made from this bag: right_wrist lags by 3.0 h.'


@pytest.mark.parametrize('tolerance_ms', [1, 10])
def test_a_tolerance_that_is_too_small_is_named_with_the_one_to_use(healthy: Path, tolerance_ms: int) -> None:
    facts, verdict = report(healthy, tolerance_ms=tolerance_ms)
    assert verdict.severity is Severity.FAIL and f'tolerance_ms {tolerance_ms} is too small' in verdict.sentence
    (option,) = verdict.findings[0].options
    enough_ms = float(option.removeprefix('--set tolerance_ms='))
    then, verdict = report(healthy, tolerance_ms=enough_ms)
    assert then.share > 0.98 and verdict.severity is Severity.PASS
    assert facts.what_if.cell('global', enough_ms).share == pytest.approx(then.counts.sets / 180, abs=2 / 180)


def test_a_tolerance_past_a_frame_period_is_warned_of(healthy: Path) -> None:
    assert 'tolerance_ms 60 is more than a frame period' in only(report(healthy, tolerance_ms=60)[1], Severity.WARN)


def test_what_if_agrees_with_the_pipeline(tmp_path: Path) -> None:
    """For every anchor and several tolerances, on a bag that loses a tenth of its frames, and joints now and then."""
    lost = np.random.default_rng(0).random((3, 180)) < 0.1

    def lossy(event: Event) -> Times:
        if event.source == JOINTS:
            return None if event.number % 100 < 16 else as_it_is(event)
        return None if lost[CAMERAS.index(event.source), event.number] else as_it_is(event)

    path = write_bag(tmp_path / 'bag', lossy)
    expected = report(path)[0].what_if
    for anchor in CAMERAS:
        for tolerance_ms in (10, 20, 50):
            counts = facts_of(path, anchor=anchor, tolerance_ms=tolerance_ms).counts
            # The last anchors may wait in vain for messages after them.
            assert expected.cell(anchor, tolerance_ms).share * counts.anchors == pytest.approx(counts.sets, abs=2)


def test_the_better_anchor_is_named(healthy: Path) -> None:
    facts, verdict = report(healthy)
    assert 'right_wrist would be the best anchor' in only(verdict, Severity.NOTE)
    better = report(healthy, anchor='right_wrist')[0]
    assert better.share >= facts.share - 0.01 and max(better.worst_skew_ms.values()) < max(facts.worst_skew_ms.values()) - 3


def test_lost_frames_are_counted_and_drawn(tmp_path: Path) -> None:
    def dropping(event: Event) -> Times:
        return None if event.source == 'left_wrist' and 60 <= event.number < 90 else as_it_is(event)

    facts, verdict = report(write_bag(tmp_path / 'bag', dropping))
    steps = facts.streams['left_wrist'].steps
    assert steps is not None and steps.lost == 30 and steps.longest_gap_ms == pytest.approx(31e3 / 30, abs=3)
    assert steps.longest_gap_at_s == pytest.approx(59 / 30, abs=0.01)
    assert verdict.severity is Severity.WARN and any('left_wrist loses frames: about 30' in f.title for f in verdict.findings)
    assert facts.timeline.bin_s < 1 and 0 in facts.timeline.messages['left_wrist'][:-1]
    assert sum(facts.timeline.anchors['no_match:left_wrist']) == facts.counts.drops['no_match:left_wrist'] >= 29


def test_late_frames_are_not_lost_frames(tmp_path: Path) -> None:
    """Stamped on arrival, each late by its own share of a period."""
    late = np.random.default_rng(0).exponential(5 * MS, 180).astype(int)

    def on_arrival(event: Event) -> Times:
        if event.source != 'left_wrist':
            return as_it_is(event)
        stamp_ns = event.publish_ns + int(late[event.number])
        return stamp_ns + MS // 5, stamp_ns

    facts, verdict = report(write_bag(tmp_path / 'bag', on_arrival))
    steps = facts.streams['left_wrist'].steps
    assert steps is not None and steps.lost <= 1
    assert 'left_wrist seems to be stamped on arrival' in verdict.sentence


def test_a_drifting_clock_is_named(tmp_path: Path) -> None:
    def drifting(event: Event) -> Times:
        return event.publish_ns, int(event.stamp_ns * (1 + (5e-4 if event.source == 'right_wrist' else 0)))

    facts, verdict = report(write_bag(tmp_path / 'bag', drifting, duration_s=12))
    assert re.search('the clock of right_wrist drifts by (29|30).*run ahead of', only(verdict, Severity.WARN))
    delay = facts.streams['right_wrist'].delay
    assert delay is not None and delay.drift_ms_per_minute == pytest.approx(-30, abs=1)


def test_a_looped_bag(tmp_path: Path) -> None:
    def looped(event: Event) -> Times:
        return event.publish_ns, event.stamp_ns % (3000 * MS) + 1

    facts, verdict = report(write_bag(tmp_path / 'bag', looped))
    assert 'go back, by up to 3.0 s' in only(verdict, Severity.WARN) and facts.counts.sets > 170
    assert facts.streams['global'].backwards == 1


def test_missing_topics_are_told_with_the_likely_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    topics = {
        'left_wrist': '/cam_l/color/image_raw',
        'right_wrist': '/right/camera/image_raw',
        'global': '/head_camera/image/compressed',
        JOINTS: '/joint_states',
    }
    path = write_bag(tmp_path / 'bag', topics=topics, duration_s=2)
    facts, verdict = report(path)
    assert verdict.severity is Severity.FAIL and facts.counts.anchors == 0 and facts.streams[JOINTS].messages == 200
    options = [option.removeprefix('--topic ') for option in verdict.findings[0].options]
    assert options == [f'{camera}={topics[camera]}' for camera in CAMERAS]
    assert main(['sync-report', str(path), '--out', str(tmp_path / 'a.html')]) == 1
    assert (
        main(['sync-report', str(path), '--out', str(tmp_path / 'b.html'), *(f'--topic={option}' for option in options)]) == 0
    )
    assert all(topic in (tmp_path / 'a.html').read_text().replace('<wbr>', '') for topic in topics.values())
    assert 'wrote' in capsys.readouterr().out


def test_one_missing_follower_leaves_the_rest_to_see(healthy: Path) -> None:
    facts, verdict = report(healthy, topics__left_wrist='/joint_states_2', topics__joint_states='/joint_states')
    assert verdict.sentence == 'No set can be made from this bag: the bag has no usable topic for left_wrist.'
    assert facts.counts.anchors == 180 and facts.counts.drops['no_match:left_wrist'] > 170
    assert list(facts.skews) == ['right_wrist']


def test_a_topic_of_another_type(healthy: Path) -> None:
    _, verdict = report(healthy, topics__left_wrist='/joint_states', topics__joint_states='/arm')
    assert '/joint_states is sensor_msgs/msg/JointState, but topics.left_wrist needs' in verdict.findings[0].evidence


def test_wrong_joint_names(tmp_path: Path) -> None:
    path = write_bag(tmp_path / 'bag', joint_names=[f'arm_{i}' for i in range(16)], duration_s=2)
    facts, verdict = report(path)
    assert len(facts.joints.missing) == 16 and facts.joints.extra[:2] == ['arm_0', 'arm_1']
    assert '16 of 16 joints never come' in verdict.sentence and 'arm_0, arm_1' in verdict.findings[0].evidence
    few = report(path, joint_names=['arm_3', 'arm_1'])[0]
    assert few.counts.sets > 50 and len(few.joints.extra) == 14 and few.joints.groups[0].names == ['arm_3', 'arm_1']


def test_slow_joints(tmp_path: Path) -> None:
    def thinned(every: int) -> Callable[[Event], Times]:
        return lambda event: None if event.source == JOINTS and event.number % every else as_it_is(event)

    slow = report(write_bag(tmp_path / 'slow', thinned(5), duration_s=3))[1]
    assert 'come every 50.0 ms: That is slower than the anchor' in only(slow, Severity.WARN)
    slower = report(write_bag(tmp_path / 'slower', thinned(20), duration_s=3))[1]
    assert any('come every 200 ms' in f.title and f.severity is Severity.FAIL for f in slower.findings)


@pytest.mark.parametrize(
    ('times', 'says'),
    [
        (lambda e: None, 'there is no message of left_wrist, right_wrist, global, joint_states'),
        (lambda e: None if e.source == 'global' else as_it_is(e), 'there is no message of global'),
        (lambda e: (e.publish_ns, -T0 if e.source == 'global' else e.stamp_ns), '60 of 60 stamps of global are not set'),
        (lambda e: (e.publish_ns, 0 if e.source == 'left_wrist' else e.stamp_ns), '59 of 60 stamps of left_wrist repeat'),
        (lambda e: None if e.number else as_it_is(e), 'No set'),
    ],
)
def test_bags_without_any_set(tmp_path: Path, times: Callable[[Event], Times], says: str) -> None:
    facts, verdict = report(write_bag(tmp_path / 'bag', times, duration_s=2))
    assert facts.counts.sets == 0 and verdict.severity is Severity.FAIL and says in verdict.sentence


def test_undecodable_images(tmp_path: Path) -> None:
    def depth(event: Event, stamp_ns: int) -> Any:
        if event.source == 'left_wrist':
            return ros_messages.image(stamp_ns, np.zeros((8, 8), np.uint16), '16UC1')
        return ros_messages.image(stamp_ns)

    facts, verdict = report(write_bag(tmp_path / 'bag', image=depth, duration_s=2))
    assert '60 of 60 messages of left_wrist cannot be used' in verdict.sentence and facts.streams['left_wrist'].usable == 0
    assert 'remap the camera to its colour topic' in verdict.findings[0].evidence


def test_compressed_cameras(tmp_path: Path) -> None:
    path = write_bag(tmp_path / 'bag', topics={**TOPICS, 'global': '/global/image/compressed'}, duration_s=2)
    facts, verdict = report(path, topics__global='/global/image/compressed')
    assert verdict.severity is Severity.PASS and facts.streams['global'].contents == {'rgb8; jpeg compressed bgr8 64×48': 60}


def test_a_bag_of_ros1() -> None:
    """10 Hz cameras, the left one 38 ms before the global one, recorded 2 ms after the stamp."""
    facts, verdict = report(DATA / 'wrist_cameras_ros1.bag')
    assert 'tolerance_ms 20 is too small: 40 is enough' in verdict.sentence
    assert facts.skews['left_wrist'].middle_ms == pytest.approx(-38) and facts.skews['right_wrist'].middle_ms == pytest.approx(
        -24
    )
    assert report(DATA / 'wrist_cameras_ros1.bag', tolerance_ms=40)[1].severity is Severity.PASS


HOSTILE = '<script>document.title="owned"</script><img src=x onerror=alert(1)>&amp;"\'\x1b[31m\u202e'


def test_strings_of_the_bag_stay_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def image(event: Event, stamp_ns: int) -> Any:
        message = ros_messages.image(stamp_ns)
        message.encoding = HOSTILE
        return message

    topics = {**TOPICS, 'left_wrist': f'/{HOSTILE}', 'right_wrist': '/right/$(touch owned)/image'}
    path = write_bag(
        tmp_path / 'bag<b>', topics=topics, image=image, joint_names=[f'{HOSTILE}{i}' for i in range(16)], duration_s=1
    )
    out = tmp_path / 'page.html'
    assert main(['sync-report', str(path), '--out', str(out)]) == 1
    page = check_page(out.read_text())
    assert page.text.count('<script>document.title="owned"</script>') >= 3 and '\u202e' not in page.text
    printed = capsys.readouterr().out
    assert '\x1b' not in printed and "--topic 'right_wrist=/right/$(touch owned)/image'" in printed


def test_the_page_is_bounded(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    path = tmp_path / 'bag'
    kinds = {topic: JOINT_STATE if source == JOINTS else IMAGE for source, topic in TOPICS.items()}
    with BagWriter(path, 'mcap', {**kinds, **{f'/{"&" * 900}{i}': IMAGE for i in range(400)}}) as writer:
        for ms in range(0, 1000, 20):
            for source, topic in TOPICS.items():
                names = [f'{"&" * 900}{i}{ms}' for i in range(30)]
                joints = ros_messages.joint_state(T0 + ms * MS, names, [0.0] * 30)
                writer.write(topic, joints if source == JOINTS else ros_messages.image(T0 + ms * MS, noise), T0 + ms * MS)
    facts, _ = report(path, image_size=256, joint_names=[f'{"&" * 900}00'], joint_max_age_ms=1000)
    assert len(facts.topics) < 400


def test_command(healthy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(['sync-report', str(healthy), '--json']) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed['verdict'] == 'pass' and printed['streams']['global']['messages'] == 180
    assert printed['parameters']['tolerance_ms'] == 20 and printed['counts']['sets'] == sum(
        printed['skews']['left_wrist']['sets']
    )
    assert [path.name for path in tmp_path.iterdir()] == ['healthy_sync_report.html']
    assert main(['sync-report', str(healthy)]) == 2 and 'use --force' in capsys.readouterr().err
    assert main(['sync-report', str(healthy), '--force', '--set', 'tolerance_ms=1']) == 1
    assert main(['sync-report', str(healthy), '--set', 'tolerance=1', '--out', 'x.html']) == 2
    assert main(['sync-report', 'absent', '--out', 'new/x.html']) == 2 and not (tmp_path / 'new').exists()


def test_a_bag_that_cannot_be_read(healthy: Path, tmp_path: Path) -> None:
    shutil.copytree(healthy, tmp_path / 'cut')
    (storage,) = (tmp_path / 'cut').glob('*.mcap')
    storage.write_bytes(storage.read_bytes()[:-1000])
    with pytest.raises(BagError, match='cannot be read'):
        facts_of(tmp_path / 'cut')


stamps = st.lists(st.integers(1, 300), min_size=1, max_size=20, unique=True).map(
    lambda values: np.array(sorted(values), np.int64)
)


@settings(max_examples=60, deadline=None)
@given(stamps, stamps)
def test_nearest_and_bracket(samples: np.ndarray, at: np.ndarray) -> None:
    endless = np.iinfo(np.int64).max
    for time, distance, age in zip(at, nearest(samples, at), bracket(samples, at), strict=True):
        assert abs(distance) == min(abs(samples - time)) and time + distance in samples
        before, after = samples[samples <= time], samples[samples >= time]
        assert age == (max(time - before[-1], after[0] - time) if before.size and after.size else age)
        assert (before.size and after.size) or age > endless - 301


@needs_browser
def test_a_browser_shows_the_page_without_sideways_scrolling(healthy: Path, tmp_path: Path) -> None:
    """On a desk and on a phone, and with nothing that the page's own policy forbids."""
    for name, values in (('good', {}), ('bad', {'topics__left_wrist': f'/{"x" * 300}', 'tolerance_ms': 1})):
        facts = facts_of(healthy, **values)
        page = render(facts, judge(facts))
        seen = in_browser(
            page,
            """[page.documentElement.scrollWidth - page.documentElement.clientWidth, page.styleSheets.length,
                [...page.images].filter(image => image.complete && image.naturalWidth === 84).length,
                page.querySelectorAll('section').length]""",
            tmp_path / name,
        )
        assert seen == [[0, 1, 3 * len(facts.samples), page.count('<section>')]] * 4
