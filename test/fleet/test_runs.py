"""Many bags: real commands on real bags, and what goes wrong with them."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from processes import children, command, kill_writers, results, until, wait_until_gone, working_in

from fused_encoder_ros.cli import main
from fused_encoder_ros.fleet.manifest import read_manifest
from fused_encoder_ros.fleet.storage import find_bags
from fused_encoder_ros.model import load_model
from fused_encoder_ros.offline.encode import encode_bag
from fused_encoder_ros.offline.files import clear_leftovers
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.synthetic import Rig

ROS1_BAG = Path(__file__).parent.parent / 'offline' / 'data' / 'wrist_cameras_ros1.bag'
SMALL = {'width': 64, 'height': 48}


@pytest.fixture(scope='module')
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four bags of half a second: monday/one, monday/two, tuesday/one and three.db3."""
    folder = tmp_path_factory.mktemp('recordings')
    for seed, name in enumerate(['monday/one', 'monday/two', 'tuesday/one']):
        (folder / name).parent.mkdir(exist_ok=True)
        write_rig_bag(folder / name, Rig(**SMALL, seed=seed), 0.5)
    write_rig_bag(folder / 'as_folder', Rig(**SMALL, seed=9), 0.5, storage='sqlite3')
    shutil.move(next((folder / 'as_folder').glob('*.db3')), folder / 'three.db3')
    shutil.rmtree(folder / 'as_folder')
    return folder


def encode(*arguments: object, code: int = 0) -> tuple[dict[str, dict[str, Any]], str]:
    """What is said of each bag by the name of its file or folder, and what is written to stderr."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        returned = main(['encode', *map(str, arguments), '--json'])
    assert returned == code, errors.getvalue()
    return {Path(one['bag']).name: one for one in json.loads(out.getvalue() or '[]')}, errors.getvalue()


def truncated(bag: Path) -> None:
    (storage,) = bag.glob('*.mcap')
    storage.write_bytes(storage.read_bytes()[:-1000])


def test_a_folder_is_done_once_and_then_only_what_changed(bags: Path, tmp_path: Path) -> None:
    recordings, out = tmp_path / 'recordings', tmp_path / 'out'
    shutil.copytree(bags, recordings)
    encode(recordings, '--out', out, '--workers', 2)
    everything = ['manifest.jsonl', 'monday/one.parquet', 'monday/two.parquet', 'three.parquet', 'tuesday/one.parquet']
    assert results(out) == everything
    made = {name: (out / name).stat().st_mtime_ns for name in everything}

    said, _ = encode(recordings, '--out', out)
    assert {one['status'] for one in said.values()} == {'done'} and len(said) == 3  # two are called `one`
    assert {name: (out / name).stat().st_mtime_ns for name in everything if name != 'manifest.jsonl'} == {
        name: time_ns for name, time_ns in made.items() if name != 'manifest.jsonl'
    }

    shutil.rmtree(recordings / 'monday/two')
    write_rig_bag(recordings / 'monday/two', Rig(**SMALL, seed=5), 0.7)
    (out / 'three.parquet').unlink()
    encode(recordings, '--out', out)
    again = {name for name in everything[1:] if (out / name).stat().st_mtime_ns != made[name]}
    assert again == {'monday/two.parquet', 'three.parquet'} and results(out) == everything
    assert pq.read_table(out / 'monday/two.parquet').num_rows > pq.read_table(out / 'monday/one.parquet').num_rows


def test_the_features_do_not_depend_on_the_workers(bags: Path, tmp_path: Path) -> None:
    encode(bags, '--out', tmp_path, '--workers', 3)
    settings = Settings.from_values({})
    model = load_model(settings.model, settings.spec)
    for bag in find_bags([str(bags)]):
        alone = encode_bag(Path(bag.uri), tmp_path / 'alone', settings, model, force=True).output
        assert pq.read_table(alone).equals(pq.read_table(tmp_path / f'{bag.name}.parquet')), bag


def test_nothing_is_said_of_the_encoder_where_no_bag_can_be_read(bags: Path, tmp_path: Path) -> None:
    _, errors = encode(bags / 'monday/one', '--out', tmp_path, '--topic', 'global=/other', code=2)
    (line,) = errors.splitlines()
    assert 'no topic /other for global' in line
    assert 'RANDOM' in encode(bags / 'monday/one', '--out', tmp_path / 'good')[1]


def test_other_settings_or_another_model_are_refused(bags: Path, tmp_path: Path) -> None:
    bag = bags / 'monday/one'
    encode(bag, '--out', tmp_path)
    before = results(tmp_path), (tmp_path / 'one.parquet').read_bytes()
    for option, says in [
        (['--set', 'tolerance_ms=5'], 'sync.tolerance_ns 20000000, now 5000000'),
        (['--set', 'seed=1'], 'model.hash "'),
        (['--batch-size', '2'], 'batch_size 1, now 2'),
        (['--topic', 'global=/other'], 'topics.global'),
    ]:
        _, errors = encode(bag, '--out', tmp_path, *option, code=2)
        assert f'{tmp_path} holds results that were made in another way: {says}' in errors and '--force' in errors
    assert before == (results(tmp_path), (tmp_path / 'one.parquet').read_bytes())
    encode(bag, '--out', tmp_path, '--set', 'seed=1', '--force')
    assert (tmp_path / 'one.parquet').read_bytes() != before[1]
    encode(bag, '--out', tmp_path, '--set', 'seed=1')


def test_a_bad_bag_is_named_and_stops_nothing_unless_strict(bags: Path, tmp_path: Path) -> None:
    recordings = tmp_path / 'recordings'
    shutil.copytree(bags / 'monday', recordings)
    write_rig_bag(recordings / 'bad', Rig(**SMALL), 0.5)
    truncated(recordings / 'bad')
    write_rig_bag(recordings / 'other_topics', Rig(**SMALL, cameras=('front',)), 0.5)
    said, errors = encode(recordings, tmp_path / 'absent', '--out', tmp_path / 'out', '--workers', 2, code=2)
    assert {name for name, one in said.items() if one['status'] == 'failed'} == {'bad', 'other_topics', 'absent'}
    assert f'bag {recordings}/bad cannot be read' in errors and f'bag {tmp_path}/absent does not exist' in errors
    assert f'bag {recordings}/other_topics: no topic /left_wrist/image' in errors
    assert results(tmp_path / 'out') == ['manifest.jsonl', 'one.parquet', 'two.parquet']

    shutil.rmtree(recordings / 'bad')
    write_rig_bag(recordings / 'bad', Rig(**SMALL), 0.5)  # mended: it is tried again
    said, _ = encode(recordings, '--out', tmp_path / 'out', code=2)
    assert {name for name, one in said.items() if one['status'] == 'failed'} == {'other_topics'}

    done = subprocess.run(
        command(
            'encode', recordings / 'other_topics', recordings / 'one', '--out', tmp_path / 'strict', '--strict', '--workers', 1
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and f'stopped because {recordings}/other_topics failed' in done.stderr
    assert results(tmp_path / 'strict') == ['manifest.jsonl']


@pytest.fixture(scope='module')
def long_bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three bags whose encoding takes seconds."""
    folder = tmp_path_factory.mktemp('long')
    write_rig_bag(folder / 'a', Rig(width=320, height=240), 5.0)
    for name in ('b', 'c'):
        shutil.copytree(folder / 'a', folder / name)
    return folder


def test_a_bag_that_kills_its_workers_is_named_and_the_others_are_done(
    long_bags: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    out = tmp_path / 'out'
    process = start('export', long_bags, '--to', 'hdf5', '--out', out, '--workers', 2)
    kill_writers(out, {'a.hdf5': 3, 'b.hdf5': 1}, process)
    _, errors = process.communicate(timeout=300)
    for bag, end in (('b', 'the bag is tried again'), ('a', 'the bag is tried again'), ('a', 'this happened 3 times')):
        reason = 'the worker was killed (SIGKILL), usually because memory ran out; check dmesg, or use fewer --workers'
        assert f'bag {long_bags}/{bag}: {reason}; {end}' in errors
    _, records = read_manifest(str(out))
    assert process.returncode == 2
    assert {record.bag.name: record.status for record in records} == {'a': 'failed', 'b': 'done', 'c': 'done'}
    assert results(out) == ['b.hdf5', 'c.hdf5', 'manifest.jsonl']
    assert main(['export', str(long_bags), '--to', 'hdf5', '--out', str(out)]) == 0
    assert results(out) == ['a.hdf5', 'b.hdf5', 'c.hdf5', 'manifest.jsonl']


def test_what_a_killed_run_leaves_is_cleared_and_done_again(
    long_bags: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    out = tmp_path / 'out'
    process = start('encode', long_bags, '--out', out, '--workers', 2)
    until(lambda: working_in(out), process)
    workers = children(process.pid)
    process.kill()
    process.communicate()
    wait_until_gone(workers)
    assert not list(out.glob('*.parquet')) and list(out.rglob('.partial-*'))
    encode(long_bags, '--out', out)
    assert results(out) == ['a.parquet', 'b.parquet', 'c.parquet', 'manifest.jsonl']


def test_leftovers_are_those_of_nobody(tmp_path: Path) -> None:
    """Machines may share the folder: what one of them works on is not for another to remove."""
    with subprocess.Popen(['true']) as ended:
        pass
    here, day_s = socket.gethostname(), 86_400
    ages = {
        f'.partial-{ended.pid}-{here}-a': 0,
        f'.partial-{os.getpid()}-{here}-b': 2 * day_s,
        f'.partial-{ended.pid}-node-2-c': 0,
        f'.partial-{os.getpid()}-node-2-d': 2 * day_s,
    }
    for name, age_s in ages.items():
        (tmp_path / 'monday' / name).mkdir(parents=True)
        (tmp_path / 'monday' / name / 'one.parquet').touch()
        for path in (tmp_path / 'monday' / name / 'one.parquet', tmp_path / 'monday' / name):
            os.utime(path, (time.time() - age_s,) * 2)
    clear_leftovers(tmp_path)
    left = {path.name[-1] for path in (tmp_path / 'monday').iterdir()}
    assert left == {'b', 'c'}


def test_interrupting_workers_that_start_is_quiet(
    long_bags: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """As Ctrl-C does it, which reaches the workers as well."""
    process = start('encode', long_bags, '--out', tmp_path, '--workers', 2)
    until(lambda: len(children(process.pid)) > 1, process)
    for _ in range(20):  # some of them while Python starts, others while it imports
        for pid in children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.splitlines() == ['fused-encoder: interrupted; nothing incomplete was left behind']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupting_loses_nothing_that_was_complete(
    long_bags: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    out = tmp_path / 'out'
    process = start('encode', long_bags, '--out', out, '--workers', 1)
    until(lambda: list(out.glob('*.parquet')) and working_in(out), process)
    workers = children(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1 and 'interrupted; nothing incomplete was left behind' in errors
    wait_until_gone(workers)
    assert not list(out.rglob('.partial-*')) and list(out.glob('*.parquet'))
    _, records = read_manifest(str(out))
    # The signal may come between a result and its line in the manifest: that bag is whole, and is done once more.
    assert {record.bag.name for record in records if record.status == 'done'} <= {p.stem for p in out.glob('*.parquet')}
    encode(long_bags, '--out', out)
    assert results(out) == ['a.parquet', 'b.parquet', 'c.parquet', 'manifest.jsonl']


def test_a_folder_in_use_is_refused(bags: Path, tmp_path: Path) -> None:
    encode(bags / 'monday/one', '--out', tmp_path)
    with (tmp_path / 'manifest.jsonl').open('ab') as other_run:
        fcntl.flock(other_run, fcntl.LOCK_EX)
        _, errors = encode(bags / 'monday/two', '--out', tmp_path, code=2)
    assert f'{tmp_path} is in use by another run' in errors


def test_a_full_disk_is_named_and_leaves_nothing(bags: Path, tmp_path: Path) -> None:
    """Files may not grow past 8 kB, which the manifest does not reach."""
    done = subprocess.run(
        command('encode', bags / 'monday/one', '--out', tmp_path),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and 'File too large' in done.stderr and 'Traceback' not in done.stderr
    assert results(tmp_path) == ['manifest.jsonl'] and not list(tmp_path.rglob('.partial-*'))
    encode(bags / 'monday/one', '--out', tmp_path)


def test_somebody_elses_file_is_not_replaced(bags: Path, tmp_path: Path) -> None:
    (tmp_path / 'one.parquet').write_text('precious')
    for _ in range(2):
        _, errors = encode(bags / 'monday/one', '--out', tmp_path, code=2)
        assert 'one.parquet exists already; use --force' in errors
    assert (tmp_path / 'one.parquet').read_text() == 'precious'


def test_a_manifest_that_was_torn_or_is_foreign(bags: Path, tmp_path: Path) -> None:
    bag = bags / 'monday/one'
    encode(bag, '--out', tmp_path)
    manifest = tmp_path / 'manifest.jsonl'
    whole = manifest.read_bytes()
    for length in (len(whole) - 20, len(whole) - 1):  # in the last record, and without its end of line
        manifest.write_bytes(whole[:length])
        encode(bag, '--out', tmp_path)
        assert [record.status for record in read_manifest(str(tmp_path))[1]] == ['done']
    manifest.write_bytes(whole[:30])  # in the first line: nothing is known
    assert 'exists already' in encode(bag, '--out', tmp_path, code=2)[1]
    manifest.write_text('{"format": 99, "made_with": {}}\n')
    assert 'was written by another version' in encode(bag, '--out', tmp_path, code=2)[1]


def test_a_damaged_line_of_the_manifest_counts_as_none(bags: Path, tmp_path: Path) -> None:
    """A name or a number that a disk has changed, or zeros after a power loss."""
    encode(bags / 'monday', '--out', tmp_path)
    manifest, done = tmp_path / 'manifest.jsonl', results(tmp_path)
    whole = manifest.read_bytes()
    name = b'"status": "done"'
    at = whole.index(name)
    line = whole[whole.rindex(b'\n', 0, at) + 1 : whole.index(b'\n', at) + 1]
    for damaged in (
        line.replace(b'"size"', b'"sjze"'),
        line.replace(b'"reason"', b'"reasom"').replace(b'"crc32"', b'"crc3r"'),  # as if older
        line.replace(b'"anchors": ', b'"anchors": 1'),
        bytes(len(line) - 1) + b'\n',
    ):
        assert damaged != line
        manifest.write_bytes(whole.replace(line, damaged))
        assert [record.status for record in read_manifest(str(tmp_path))[1]].count('done') == 1
    encode(bags / 'monday', '--out', tmp_path)
    assert [record.status for record in read_manifest(str(tmp_path))[1]] == ['done', 'done']
    assert results(tmp_path) == done
    manifest.write_bytes(bytes(40) + whole[40:])
    assert 'manifest.jsonl is damaged in its first line; choose' in encode(bags / 'monday', '--out', tmp_path, code=2)[1]
    assert manifest.read_bytes() == bytes(40) + whole[40:]


def test_finding_bags(bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bags)
    assert [bag.name for bag in find_bags(['.'])] == ['monday/one', 'monday/two', 'tuesday/one', 'three']
    assert [bag.name for bag in find_bags(['monday/*'])] == ['one', 'two']
    assert [bag.name for bag in find_bags(['**/two', 'monday'])] == ['two', 'one']
    assert [bag.name for bag in find_bags(['monday/one', 'monday/one/', str(bags / 'monday/one')])] == ['one']
    shutil.copy(ROS1_BAG, tmp_path / 'old.bag')
    shutil.copytree(bags / 'monday/one', tmp_path / 'new')
    (tmp_path / 'notes.txt').write_text('no bag')
    assert [bag.name for bag in find_bags([str(tmp_path)])] == ['new', 'old']
    assert all(bag.size > 1000 and bag.changed > 10**18 for bag in find_bags([str(tmp_path)]))


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['EMPTY'], 'contains no bag: no .bag, .db3, .mcap file and no rosbag2 folder'),
        (['EMPTY/*.mcap'], 'no bag matches'),
        (['monday/one', 'tuesday/one'], 'would both write one; give the folder that holds both'),
        (['monday/one', '--workers', '0'], '--workers: 0 is too small'),
        ([''], 'BAG is empty; give a path'),
        (['monday/one', '--topic', 'global=/a', '--topic', 'global=/b'], 'global has only one topic, and /a is named too'),
        (['monday/one', '--set', 'seed=1', '--set', 'seed=2'], '--set seed=2: seed is set twice'),
        (['monday/one', '--out', ''], '--out is empty; give a path'),
        (['caf\udce9.mcap'], "caf\\udce9.mcap' is not UTF-8, which Parquet and SQLite need; rename it"),
        (['monday/one', '--out', 'caf\udce9'], "--out 'caf\\udce9' is not UTF-8"),
        (['nothing://bucket/bag'], 'nothing://bucket/bag is not an address of an object store'),
    ],
)
def test_bad_usage(
    bags: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(bags)
    (tmp_path / 'empty').mkdir()
    arguments = [argument.replace('EMPTY', str(tmp_path / 'empty')) for argument in arguments]
    assert main(['encode', '--out', str(tmp_path / 'out'), *arguments]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / 'out').exists()
