"""Bags in a Ray cluster: two real nodes on this machine, and what goes wrong with them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from processes import ancestors, command, kill_writers, results, rig_bags, until, wait_until_gone, working_in

from fused_encoder_ros.cli import main
from fused_encoder_ros.fleet.manifest import read_manifest

Start = Callable[..., 'subprocess.Popen[str]']


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port: int = probe.getsockname()[1]
        return port


class Nodes:
    """A cluster of a head and another node, with two CPUs each.

    Attributes:
        address: for programs on a node.
        client: for others.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        port = free_port()
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={'num_cpus': 2, 'include_dashboard': False, 'ray_client_server_port': port},
        )
        self._other = self._cluster.add_node(num_cpus=2)
        self.address: str = self._cluster.address
        self.client = f'ray://127.0.0.1:{port}'

    def is_of_the_other(self, pid: int) -> bool:
        """Whether a process is a worker of the node that is not the head."""
        (raylet,) = self._other.all_processes['raylet']
        return raylet.process.pid in ancestors(pid)

    def kill_the_other(self) -> None:
        self._cluster.remove_node(self._other, allow_graceful=False)

    def start_another(self) -> None:
        self._other = self._cluster.add_node(num_cpus=2)

    def stop(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope='module')
def nodes() -> Iterator[Nodes]:
    handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own in place
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix='ray-', dir='/tmp') as folder:
        patch.setenv('RAY_TMPDIR', folder)
        patch.setenv('RAY_USAGE_STATS_ENABLED', '0')
        patch.setenv('RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER', '0')  # on the loopback interface alone
        (Path(folder) / 'ray').mkdir()
        nodes = Nodes()
        yield nodes
        nodes.stop()
        signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope='module')
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rig_bags(tmp_path_factory.mktemp('recordings'), ('one', 'two', 'three'), 0.5)


@pytest.fixture(scope='module')
def long_bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three bags whose export takes seconds."""
    return rig_bags(tmp_path_factory.mktemp('long'), ('a', 'b', 'c'), 20.0)


def test_the_features_are_those_of_this_machine(
    nodes: Nodes, bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    assert main(['encode', str(bags), '--out', str(tmp_path / 'here'), '--workers', '1']) == 0
    monkeypatch.chdir(tmp_path)
    process = start('encode', bags, '--out', 'there', '--on', nodes.client)
    said, errors = process.communicate()
    assert process.returncode == 0 and 'bags: 3 done' in said, errors
    assert f'Ray cluster {nodes.client}: room for 2 workers with 2 CPUs' in errors
    for name in ('one', 'two', 'three'):
        assert pq.read_table(tmp_path / f'there/{name}.parquet').equals(pq.read_table(tmp_path / f'here/{name}.parquet'))
    assert results(tmp_path / 'there') == ['manifest.jsonl', 'one.parquet', 'three.parquet', 'two.parquet']


def test_a_bag_that_kills_its_workers_is_named_and_the_others_are_done(
    nodes: Nodes, long_bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    monkeypatch.setenv('RAY_ADDRESS', nodes.address)
    out = tmp_path / 'out'
    process = start('export', long_bags, '--to', 'hdf5', '--out', out, '--on', 'ray', '--workers', 2)
    kill_writers(out, {'a.hdf5': 3, 'b.hdf5': 1}, process)
    _, errors = process.communicate(timeout=300)
    for bag, end in (('b', 'the bag is tried again'), ('a', 'the bag is tried again'), ('a', 'this happened 3 times')):
        assert any(f'bag {long_bags}/{bag}: the worker' in line and end in line for line in errors.splitlines()), errors
    _, records = read_manifest(str(out))
    assert process.returncode == 2
    assert {record.bag.name: record.status for record in records} == {'a': 'failed', 'b': 'done', 'c': 'done'}
    assert results(out) == ['b.hdf5', 'c.hdf5', 'manifest.jsonl']


def test_the_bag_of_a_killed_node_is_done_by_another(nodes: Nodes, long_bags: Path, tmp_path: Path, start: Start) -> None:
    out = tmp_path / 'out'
    process = start('export', long_bags, '--to', 'hdf5', '--out', out, '--on', nodes.client)
    until(lambda: any(nodes.is_of_the_other(pid) for pid in working_in(out)), process)
    nodes.kill_the_other()
    try:
        _, errors = process.communicate(timeout=300)
    finally:
        nodes.start_another()
    assert process.returncode == 0 and 'the bag is tried again' in errors, errors
    assert {record.status for record in read_manifest(str(out))[1]} == {'done'}
    assert results(out) == ['a.hdf5', 'b.hdf5', 'c.hdf5', 'manifest.jsonl']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupting_leaves_nothing_incomplete(
    nodes: Nodes, long_bags: Path, tmp_path: Path, start: Start, number: signal.Signals
) -> None:
    out = tmp_path / 'out'
    address = nodes.client if number == signal.SIGINT else nodes.address
    process = start('export', long_bags, '--to', 'hdf5', '--out', out, '--on', address, '--workers', 2)
    workers = until(lambda: working_in(out), process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and 'interrupted; nothing incomplete was left behind' in errors, errors
    wait_until_gone(workers)
    assert not list(out.rglob('.partial-*'))


def test_a_cluster_for_one_run(bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    home = tmp_path / 'home'
    home.mkdir()
    for name, value in {'HOME': home, 'TMPDIR': tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv('RAY_ADDRESS', raising=False)
    process = start('export', bags, '--to', 'hdf5', '--out', tmp_path / 'out', '--on', 'ray')
    said, errors = process.communicate()
    assert process.returncode == 0 and 'bags: 3 done' in said, errors
    assert 'Ray cluster of this machine: room for' in errors and not list(home.iterdir())


def test_where_no_ray_is(bags: Path, tmp_path: Path, start: Start) -> None:
    class Web(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(('127.0.0.1', 0), Web) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        nothing, something = f'127.0.0.1:{free_port()}', f'127.0.0.1:{other.server_port}'
        says = {
            nothing: f'no Ray cluster at {nothing}: [Errno 111] Connection refused; start one with `ray start --head`',
            f'ray://{nothing}': f'no Ray cluster at ray://{nothing}: [Errno 111] Connection refused',
            something: f'no Ray cluster can be used at {something}: ',
            f'ray://{something}': f'no Ray cluster can be used at ray://{something}: ',
        }
        running = {address: start('encode', bags, '--out', tmp_path / 'out', '--on', address) for address in says}
        for address, process in running.items():
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 2 and says[address] in errors and 'Traceback' not in errors, errors
        other.shutdown()
    assert not (tmp_path / 'out').exists()


def test_a_folder_that_the_nodes_do_not_see(nodes: Nodes, bags: Path, tmp_path: Path) -> None:
    """The path leads through an open file of the command's process: another process finds nothing there."""
    folder = os.open(tmp_path, os.O_RDONLY)
    out = f'/proc/self/fd/{folder}/out'
    done = subprocess.run(
        command('export', bags, '--to', 'hdf5', '--out', out, '--on', nodes.client),
        pass_fds=[folder],
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(folder)
    assert done.returncode == 2 and not list((tmp_path / 'out').iterdir())
    assert (
        f'the output folder {out} does not exist on {socket.gethostname()}; bags and --out must be in folders' in done.stderr
    )


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['--on', 'head'], 'head is not an address of a Ray cluster; use ray, ray://HOST:10001, or HOST:6379'),
        (['--on', 'http://head:8265'], 'http://head:8265 is not an address of a Ray cluster'),
        (['--on', 'ray', '--device', 'cuda:1'], 'device: cuda:1 names a GPU of one machine; in a cluster use cuda'),
    ],
)
def test_bad_usage(bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert main(['encode', str(bags), '--out', str(tmp_path / 'out'), *arguments]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / 'out').exists()


def test_a_cluster_without_a_gpu(nodes: Nodes, bags: Path, tmp_path: Path, start: Start) -> None:
    process = start('encode', bags, '--out', tmp_path / 'out', '--device', 'cuda', '--on', nodes.client)
    _, errors = process.communicate()
    assert process.returncode == 2 and not (tmp_path / 'out').exists()
    assert 'has 2 CPUs, 1.5 GB of memory and a GPU for a worker; start a node that has' in errors, errors


def test_ray_is_named_where_it_is_missing(bags: Path, tmp_path: Path) -> None:
    code = 'import sys; sys.modules["ray"] = None; from fused_encoder_ros.cli import main; sys.exit(main(sys.argv[1:]))'
    arguments = ['encode', str(bags), '--out', str(tmp_path), '--on', 'ray']
    done = subprocess.run([sys.executable, '-c', code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--on needs the package ray: pip install '.[ray]'" in done.stderr
