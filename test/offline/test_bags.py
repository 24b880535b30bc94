"""Bags: what reads, and what is said about those that do not."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import ros_messages
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from fused_encoder_ros.errors import BagError, OutputError
from fused_encoder_ros.offline.bag import Bag, typestore
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.synthetic import Rig

TOPICS = Settings.from_values({}).topics
RIG = Rig(width=64, height=48)


@pytest.fixture(scope='module', params=['mcap', 'sqlite3'])
def rig_bag(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / f'rig_{request.param}'
    write_rig_bag(path, RIG, 1.0, request.param)
    return path


def sources(path: Path) -> list[tuple[str, int]]:
    with Bag(path, TOPICS) as bag:
        messages = [(source, recorded_ns) for source, _, recorded_ns in bag.messages()]
        assert bag.message_count == len(messages)
    return messages


def write_one_of_each(writer: Writer) -> None:
    """A message of each source."""
    store = typestore()
    for source, (topic,) in TOPICS.items():
        is_joint = source == 'joint_states'
        kind = 'sensor_msgs/msg/JointState' if is_joint else 'sensor_msgs/msg/Image'
        message = ros_messages.joint_state(5, ['a'], [1.0]) if is_joint else ros_messages.image(5)
        connection = writer.add_connection(f'/{topic}', kind, typestore=store)
        writer.write(connection, 5, store.serialize_cdr(message, kind))


def test_every_message_in_the_order_of_recording(rig_bag: Path) -> None:
    messages = sources(rig_bag)
    assert len(messages) == 3 * 30 + 100
    assert [ns for _, ns in messages] == sorted(ns for _, ns in messages)


def test_a_single_storage_file_reads_too(rig_bag: Path) -> None:
    (storage,) = [path for path in rig_bag.iterdir() if path.suffix in ('.mcap', '.db3')]
    assert sources(storage) == sources(rig_bag)


def test_storages_hold_the_same(tmp_path: Path) -> None:
    for storage in ('mcap', 'sqlite3'):
        write_rig_bag(tmp_path / storage, RIG, 0.5, storage)
    assert sources(tmp_path / 'mcap') == sources(tmp_path / 'sqlite3')


@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_bags(tmp_path: Path, mode: CompressionMode) -> None:
    writer = Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        write_one_of_each(writer)
    assert sorted(source for source, _ in sources(tmp_path / 'bag')) == sorted(TOPICS)


def test_qos_that_was_edited_in_the_metadata(rig_bag: Path, tmp_path: Path) -> None:
    """As people do for playback. The library would find no message of such a topic."""
    shutil.copytree(rig_bag, tmp_path / 'bag')
    metadata = tmp_path / 'bag' / 'metadata.yaml'
    never = '{sec: 9223372036, nsec: 854775807}'
    qos = (
        f'[{{history: 1, depth: 5, reliability: 2, durability: 2, deadline: {never}, lifespan: {never}, liveliness: 1, '
        f'liveliness_lease_duration: {never}, avoid_ros_namespace_conventions: false}}]'
    )
    before = metadata.read_text()
    metadata.write_text(before.replace("offered_qos_profiles: ''", f"offered_qos_profiles: '{qos}'"))
    assert metadata.read_text() != before
    assert sources(tmp_path / 'bag') == sources(rig_bag)


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_topic_with_a_definition_that_nobody_can_parse(tmp_path: Path, storage: StoragePlugin) -> None:
    """As rosbag2 writes it for the events of services. The library would not open such a bag."""
    with Writer(tmp_path / 'bag', version=9, storage_plugin=storage) as writer:
        definition = {'msgdef': 'int64 a\nint64 b\n---\nint64 sum\n', 'rihs01': f'RIHS01_{0:064}'}
        writer.add_connection('/add/_service_event', 'example_interfaces/srv/AddTwoInts_Event', **definition)
        write_one_of_each(writer)
    assert sorted(source for source, _ in sources(tmp_path / 'bag')) == sorted(TOPICS)


def test_a_wrong_topic_lists_those_of_its_type(rig_bag: Path) -> None:
    with pytest.raises(
        BagError, match=r'no topic /cam for left_wrist; the bag has /global/image .*/left_wrist/image .*topics.left_wrist'
    ):
        Bag(rig_bag, {**TOPICS, 'left_wrist': ('cam',)})
    with pytest.raises(BagError, match=r'the bag has /joint_states \(sensor_msgs/msg/JointState\)\. Set topics.joint_states'):
        Bag(rig_bag, {**TOPICS, 'joint_states': ('/arm',)})


def test_one_of_several_joint_topics_that_is_not_there_is_named(rig_bag: Path) -> None:
    with pytest.raises(BagError, match=r'no topic /gripper for joint_states; the bag has /joint_states'):
        Bag(rig_bag, {**TOPICS, 'joint_states': ('/joint_states', '/gripper')})


def test_a_topic_of_another_type_is_named(rig_bag: Path) -> None:
    with pytest.raises(
        BagError, match=r'/joint_states is sensor_msgs/msg/JointState, but topics.global needs sensor_msgs/msg/Image'
    ):
        Bag(rig_bag, {**TOPICS, 'global': ('/joint_states',)})


def test_no_bag_no_metadata_no_bag_at_all(tmp_path: Path) -> None:
    with pytest.raises(BagError, match='does not exist'):
        Bag(tmp_path / 'absent', TOPICS)
    os.mkfifo(tmp_path / 'pipe.mcap')
    with pytest.raises(BagError, match=r'pipe\.mcap is neither a file nor a folder'):
        Bag(tmp_path / 'pipe.mcap', TOPICS)
    with pytest.raises(BagError, match=r'has no metadata.yaml: run `ros2 bag reindex'):
        Bag(tmp_path, TOPICS)
    for name in ('text.bag', 'text.mcap', 'text.db3', 'text'):
        (tmp_path / name).write_text('no bag at all, whatever the name says')
        with pytest.raises(BagError, match=f'{name} cannot be read'):
            Bag(tmp_path / name, TOPICS)


@pytest.mark.parametrize('kept', [0.0, 0.3, 0.9, 0.9999])
def test_truncated_bags(rig_bag: Path, tmp_path: Path, kept: float) -> None:
    cut = tmp_path / 'cut'
    shutil.copytree(rig_bag, cut)
    (storage,) = [path for path in cut.iterdir() if path.suffix in ('.mcap', '.db3')]
    storage.write_bytes(storage.read_bytes()[: int(kept * storage.stat().st_size)])
    with pytest.raises(BagError, match=r'cut( cannot be read| is damaged|: no topic).*'):
        sources(cut)


def test_missing_storage_file(rig_bag: Path, tmp_path: Path) -> None:
    shutil.copytree(rig_bag, tmp_path / 'bag')
    for storage in (tmp_path / 'bag').iterdir():
        if storage.suffix != '.yaml':
            storage.unlink()
    with pytest.raises(BagError, match='cannot be read'):
        Bag(tmp_path / 'bag', TOPICS)


@pytest.mark.parametrize('damage', [('message_count: 30', 'message_count: 3O'), ('name: /global/image', 'name: 7')])
def test_damaged_metadata(rig_bag: Path, tmp_path: Path, damage: tuple[str, str]) -> None:
    """Of the wrong kind: a letter for a digit, a number for a name."""
    shutil.copytree(rig_bag, tmp_path / 'bag')
    metadata = tmp_path / 'bag' / 'metadata.yaml'
    changed = metadata.read_text().replace(*damage)
    assert changed != metadata.read_text()
    metadata.write_text(changed)
    with pytest.raises(BagError, match=r'its metadata.yaml is damaged at topic'):
        sources(tmp_path / 'bag')


@pytest.mark.parametrize('name', ['run#1', 'what?', 'run%31'])
def test_a_name_that_sqlite_takes_for_another(tmp_path: Path, name: str) -> None:
    """The library opens files by address, where `%31` stands for `1`: features would be those of run1."""
    write_rig_bag(tmp_path / 'run1', RIG, 0.1, 'sqlite3')
    (database,) = (tmp_path / 'run1').glob('*.db3')
    shutil.copy(database, tmp_path / 'run1.db3')
    (tmp_path / f'{name}.db3').write_bytes(b'')
    shutil.copytree(tmp_path / 'run1', tmp_path / name)
    with pytest.raises(OutputError, match=r'SQLite takes no path with'):
        write_rig_bag(tmp_path / f'new {name}', RIG, 0.1, 'sqlite3')
    assert not list(tmp_path.glob('new*'))
    for path in (tmp_path / f'{name}.db3', tmp_path / name):
        with pytest.raises(BagError, match=r'its path contains \?, # or %; rename it'):
            sources(path)
    assert sources(tmp_path / 'run1.db3') == sources(tmp_path / 'run1')


def test_messages_in_the_log_of_a_database(tmp_path: Path) -> None:
    """As a recording in SQLite's WAL mode leaves them that was cut off, or runs on. The library would pass over them."""
    write_rig_bag(tmp_path / 'bag', RIG, 1.0, 'sqlite3')
    (database,) = (tmp_path / 'bag').glob('*.db3')
    expected = sources(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as recorder:
        rows = recorder.execute('SELECT * FROM messages WHERE id > 50').fetchall()
        recorder.execute('DELETE FROM messages WHERE id > 50')
        recorder.execute('PRAGMA journal_mode = WAL')
        recorder.executemany('INSERT INTO messages VALUES (?, ?, ?, ?)', rows)
        shutil.copytree(tmp_path / 'bag', tmp_path / 'cut')
    cut = tmp_path / 'cut' / database.name
    for path in (tmp_path / 'cut', cut):
        with pytest.raises(
            BagError, match=r'-wal holds messages that are not yet in .*\.db3\. Wait .* `sqlite3 (\S+) "(.*)"`'
        ):
            sources(path)
    with closing(sqlite3.connect(cut)) as repair:
        repair.execute('PRAGMA quick_check')
    assert sources(cut) == sources(tmp_path / 'cut') == expected


def test_messages_that_are_not_there(rig_bag: Path, tmp_path: Path) -> None:
    """A record that became unreadable, or a table that lost rows: the library passes over them."""
    shutil.copytree(rig_bag, tmp_path / 'bag')
    (storage,) = [path for path in (tmp_path / 'bag').iterdir() if path.suffix in ('.mcap', '.db3')]
    if storage.suffix == '.db3':
        with closing(sqlite3.connect(storage, isolation_level=None)) as database:
            database.execute('DELETE FROM messages WHERE id = 40')
    else:
        content = bytearray(storage.read_bytes())
        records = [
            at
            for at in range(len(content) - 9)
            if content[at] == 5 and 9216 < int.from_bytes(content[at + 1 : at + 9], 'little') < 9400
        ]
        content[records[40]] = 0
        storage.write_bytes(content)
    with pytest.raises(BagError, match=r'bag is damaged: only \d+ of \d+ messages on /\S+ can be read\. Nothing was written'):
        sources(tmp_path / 'bag')


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_full_disk(tmp_path: Path, storage: str) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'fused_encoder_ros', 'rig', str(tmp_path / 'bag'), '--duration', '1', '--storage', storage],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count('\n') == 1 and 'cannot be written' in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_bag_is_not_overwritten(rig_bag: Path) -> None:
    before = sources(rig_bag)
    with pytest.raises(OutputError, match='--force'):
        write_rig_bag(rig_bag, RIG, 0.1)
    assert sources(rig_bag) == before
