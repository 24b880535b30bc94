"""Bags and results in S3: a real server process that speaks its protocol."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSelector, FileSystem

from fused_encoder_ros.cli import main
from fused_encoder_ros.fleet.manifest import read_manifest
from fused_encoder_ros.fleet.storage import find_bags, store
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.synthetic import Rig


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileSystem]:
    """The file system of a server of its own, with an empty bucket `lab`."""
    port = free_port()
    address = f'http://127.0.0.1:{port}'
    server = subprocess.Popen(
        [sys.executable, '-m', 'moto.server', '-H', '127.0.0.1', '-p', str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    credentials = {'AWS_ACCESS_KEY_ID': 'a', 'AWS_SECRET_ACCESS_KEY': 'b', 'AWS_EC2_METADATA_DISABLED': 'true'}
    for name, value in {**credentials, 'AWS_DEFAULT_REGION': 'us-east-1', 'AWS_ENDPOINT_URL': address}.items():
        monkeypatch.setenv(name, value)
    try:
        while True:
            try:
                urllib.request.urlopen(urllib.request.Request(f'{address}/lab', method='PUT'))
                break
            except urllib.error.URLError:
                assert server.poll() is None
                time.sleep(0.05)
        yield FileSystem.from_uri('s3://lab')[0]
    finally:
        server.kill()
        server.wait()


def names(s3: FileSystem, folder: str) -> list[str]:
    infos = s3.get_file_info(FileSelector(folder, recursive=True))
    return sorted(info.path.removeprefix(f'{folder}/') for info in infos if info.is_file and '/.previews/' not in info.path)


@pytest.fixture
def recordings(s3: FileSystem, tmp_path: Path) -> Path:
    """Two bags, here and as s3://lab/recordings: a folder, and a bare file of SQLite."""
    folder = tmp_path / 'recordings'
    (folder / 'monday').mkdir(parents=True)
    write_rig_bag(folder / 'monday/one', Rig(width=64, height=48), 0.5)
    write_rig_bag(tmp_path / 'two', Rig(width=64, height=48, seed=1), 0.5, storage='sqlite3')
    next((tmp_path / 'two').glob('*.db3')).rename(folder / 'two.db3')
    store(s3, folder, 'lab/recordings')
    return folder


def test_from_and_to_s3(s3: FileSystem, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [bag.name for bag in find_bags(['s3://lab/recordings'])] == ['monday/one', 'two']
    assert [bag.name for bag in find_bags(['s3://lab/recordings/monday/one', 's3://lab/recordings/two.db3'])] == ['one', 'two']
    here, there = str(tmp_path / 'out'), 's3://lab/out'
    for source, out in ((str(recordings), here), ('s3://lab/recordings', there)):
        assert main(['encode', source, '--out', out, '--bag-out', '--workers', '1', '--json']) == 0
        said = json.loads(capsys.readouterr().out)
        assert {one['output'] for one in said} == {f'{out}/monday/one.parquet', f'{out}/two.parquet'}
    expected = ['manifest.jsonl']
    for bag in ('monday/one', 'two'):
        expected += [f'{bag}.parquet', f'{bag}_features/metadata.yaml', f'{bag}_features/{Path(bag).name}_features.mcap']
    assert names(s3, 'lab/out') == sorted(expected)
    for name in ('monday/one.parquet', 'two.parquet'):
        assert pq.read_table(f'lab/out/{name}', filesystem=s3).equals(pq.read_table(f'{here}/{name}'))
    assert [record.status for record in read_manifest(there)[1]] == ['done', 'done']
    pages = {out: tmp_path / f'{number}.html' for number, out in enumerate((here, there))}
    for out, page in pages.items():
        assert main(['run-report', out, '--out', str(page)]) == 0 and page.read_text().count('data:image/jpeg') == 2
    capsys.readouterr()

    assert main(['export', 's3://lab/recordings/monday/one', '--to', 'mcap', '--out', 's3://lab/episodes', '--json']) == 0
    assert json.loads(capsys.readouterr().out)[0]['output'] == 's3://lab/episodes/one_episode'
    assert names(s3, 'lab/episodes') == ['manifest.jsonl', 'one_episode/metadata.yaml', 'one_episode/one_episode.mcap']

    changed = {info.path: info.mtime for info in s3.get_file_info(FileSelector('lab/out', recursive=True))}
    with s3.open_output_stream('lab/recordings/two.db3') as stream:
        stream.write(b'no bag any more')
    assert main(['encode', 's3://lab/recordings', '--out', there, '--bag-out', '--workers', '1', '--json']) == 2
    status = {one['bag']: one['status'] for one in json.loads(capsys.readouterr().out)}
    assert status == {'s3://lab/recordings/monday/one': 'done', 's3://lab/recordings/two.db3': 'failed'}
    again = {info.path: info.mtime for info in s3.get_file_info(FileSelector('lab/out/monday', recursive=True))}
    assert again == {path: changed[path] for path in again}


def test_one_bag_from_s3_to_a_folder(
    s3: FileSystem, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with s3.open_output_stream('lab/results/two.parquet') as stream:
        stream.write(b"somebody else's")
    assert main(['encode', 's3://lab/recordings/two.db3', '--out', 's3://lab/results']) == 2
    assert 's3://lab/results/two.parquet exists already' in capsys.readouterr().err
    assert main(['encode', 's3://lab/recordings/two.db3', '--out', str(tmp_path / 'results')]) == 0
    assert pq.read_table(tmp_path / 'results/two.parquet').num_rows > 5


def test_what_is_not_there_is_named(s3: FileSystem, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ['--out', str(tmp_path / 'out')]
    assert main(['encode', 's3://lab/nothing', *out]) == 2
    assert 's3://lab/nothing contains no bag' in capsys.readouterr().err
    assert main(['run-report', 's3://lab/nothing']) == 2
    assert 's3://lab/nothing has no manifest.jsonl' in capsys.readouterr().err
    assert main(['encode', 's3://no-such-bucket/bags', *out]) == 2
    assert 's3://no-such-bucket/bags' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_store_that_does_not_answer_is_named(
    s3: FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('AWS_ENDPOINT_URL', f'http://127.0.0.1:{free_port()}')
    assert main(['encode', 's3://lab/bags', '--out', str(tmp_path / 'out')]) == 2
    assert 's3://lab/bags cannot be reached' in capsys.readouterr().err
