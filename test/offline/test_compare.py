"""Two files of features against each other: what is said of them, and of files that cannot be compared."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ros_messages
from pages import check_page, in_browser, needs_browser

from fused_encoder_ros.cli import main
from fused_encoder_ros.errors import FeaturesError
from fused_encoder_ros.offline.bag import BagWriter
from fused_encoder_ros.offline.compare import read_recorded
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.settings.topics import IMAGE
from fused_encoder_ros.synthetic import Rig

TOPIC = '/fused_encoder/fused_feature_stamped'
OPTIONS = ['--set', 'engine=eager', '--set', 'threads=1']


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bag` of two seconds; `desk.parquet` of it, and `robot`, a bag of the same features with the topic sets."""
    folder = tmp_path_factory.mktemp('compare')
    write_rig_bag(folder / 'bag', Rig(width=64, height=48, jitter_ms=3.0), 2.0)
    assert main(['encode', str(folder / 'bag'), '--out', str(folder / 'out'), '--bag-out', *OPTIONS]) == 0
    (folder / 'out' / 'bag.parquet').rename(folder / 'desk.parquet')
    exported = ['export', str(folder / 'bag'), '--to', 'mcap', '--features', '--out', str(folder / 'out'), '--force', *OPTIONS]
    assert main([*exported, '--action-later', '0']) == 0
    (folder / 'out' / 'bag_episode').rename(folder / 'robot')
    return folder


@pytest.fixture
def desk(folder: Path) -> Path:
    return folder / 'desk.parquet'


@pytest.fixture
def changed(desk: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the desk's file anew, with other columns or without some."""
    table = pq.read_table(desk)

    def write(columns: dict[str, Any], rows: Any = None, about: dict[str, Any] | None = None) -> Path:
        path = tmp_path / f'changed_{len(list(tmp_path.iterdir()))}.parquet'
        new = table
        for name, values in columns.items():
            place = new.schema.get_field_index(name)
            field = new.schema.field(name)
            new = new.set_column(place, field, pa.array(list(values), field.type))
        metadata = {
            **table.schema.metadata,
            **{f'fused_encoder.{k}'.encode(): json.dumps(v) for k, v in (about or {}).items()},
        }
        pq.write_table((new if rows is None else new.take(rows)).replace_schema_metadata(metadata), path)
        return path

    return write


@pytest.fixture
def compared(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Compares with --json; gives what was printed, with the exit code as `code`."""

    def compare(a: Path, b: Path, *options: str) -> dict[str, Any]:
        capsys.readouterr()
        code = main(['compare', str(a), str(b), '--json', *options])
        printed = json.loads(capsys.readouterr().out)
        return {**printed, 'code': code, 'told': ' '.join(f'{f["title"]}: {f["evidence"]}' for f in printed['findings'])}

    return compare


def features_of(path: Path) -> np.ndarray:
    return np.stack(pq.read_table(path)['feature'].to_numpy())


# What is the same


def test_a_file_equals_itself(desk: Path, compared: Callable[..., dict[str, Any]]) -> None:
    seen = compared(desk, desk, '--max-difference', '0', '--min-cosine', '1', '--same-sets')
    assert (seen['code'], seen['verdict'], seen['findings'], seen['made_with']) == (0, 'pass', [], [])
    assert seen['equal'] == seen['sets'] == seen['a']['sets'] == seen['inputs_known'] > 50
    assert seen['figures']['largest'] == 0 and seen['figures']['cosine_least'] == 1


def test_bags_equal_the_desk(folder: Path, desk: Path, compared: Callable[..., dict[str, Any]]) -> None:
    for bag, knows_inputs in (('robot', True), ('out/bag_features', False)):
        for a, b in ((desk, folder / bag), (folder / bag, desk)):
            seen = compared(a, b, '--max-difference', '0', '--same-sets')
            assert (seen['code'], seen['made_with'], seen['findings']) == (0, [], [])
            assert seen['equal'] == seen['sets'] == pq.read_metadata(desk).num_rows
            assert seen['inputs_known'] == (seen['sets'] if knows_inputs else 0) and not seen['other_inputs']


# What differs


def test_figures_are_those_of_numpy(desk: Path, changed: Callable[..., Path], compared: Callable[..., dict[str, Any]]) -> None:
    one = features_of(desk)
    other = one + np.random.default_rng(0).normal(0, 1e-3, one.shape).astype(np.float32)
    other[7] = one[7]
    other[20, 100] += 0.5
    seen = compared(desk, changed({'feature': other}))
    exact, apart = one.astype(float), np.abs(other.astype(float) - one)
    largest = apart.max(axis=1)
    cosines = (exact * other).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(other.astype(float), axis=1)
    expected = {
        'sets': len(one),
        'median': np.median(largest),
        'p99': np.percentile(largest, 99),
        'largest': largest.max(),
        'relative': (largest / np.abs(one).max(axis=1)).max(),
        'cosine_median': np.median(cosines),
        'cosine_least': cosines.min(),
    }
    assert seen['figures'] == seen['figures_same_inputs'] == pytest.approx(expected, rel=1e-12)
    assert seen['equal'] == 1 and seen['worst_ns'] == pq.read_table(desk)['stamp_ns'][20].as_py()
    np.testing.assert_allclose(seen['dimensions_largest'], apart.max(axis=0))
    np.testing.assert_allclose(seen['dimensions_mean'], (other.astype(float) - one).mean(axis=0), atol=1e-12)
    over_time = seen['over_time']
    worst = np.nanargmax(np.array(over_time['largest'], float))
    assert worst == (seen['worst_ns'] - over_time['begin_ns']) // (over_time['part_s'] * 1e9)
    assert seen['verdict'] == 'note' and 'though both files were made in the same way' in seen['told']


def test_limits_decide_the_exit_code(desk: Path, changed: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    features = features_of(desk)
    features[3, 5] += 0.25
    other = str(changed({'feature': features}))
    for options, code, says in (
        ([], 0, 'NOTE: '),
        (['--max-difference', '0.26'], 0, 'PASS: '),
        (['--max-difference', '0.24'], 1, 'above --max-difference: It is 0.25'),
        (['--min-cosine', '0.1', '--same-sets'], 0, 'PASS: '),
        (['--min-cosine', '0.999999'], 1, 'below --min-cosine'),
    ):
        assert main(['compare', str(desk), other, *options]) == code
        assert says in capsys.readouterr().out
    assert '  dimensions  5 (0.25)' in (main(['compare', str(desk), other]), capsys.readouterr().out)[1]


def test_the_smallest_difference_of_bits_is_seen(
    desk: Path, changed: Callable[..., Path], compared: Callable[..., dict[str, Any]]
) -> None:
    features = features_of(desk)
    features[0, 0] = np.nextafter(features[0, 0], np.float32(9))
    seen = compared(desk, changed({'feature': features}), '--max-difference', '0')
    assert seen['code'] == 1 and seen['equal'] == seen['sets'] - 1


def test_sets_that_only_one_has(desk: Path, changed: Callable[..., Path], compared: Callable[..., dict[str, Any]]) -> None:
    count = pq.read_metadata(desk).num_rows
    fewer = changed({}, rows=[*range(4, 20), *range(21, count)])
    for a, b, own, outside in ((desk, fewer, 'a', 4), (fewer, desk, 'b', 4)):
        seen = compared(a, b)
        assert seen['code'] == 0 and (seen[own]['alone'], seen[own]['alone_outside']) == (5, outside)
        assert f'5 sets only in {desk}: 1 between sets of the other file, 4 before or after' in seen['told']
        assert seen['equal'] == seen['sets'] == count - 5
        assert compared(a, b, '--same-sets')['code'] == 1


def test_other_frames_and_joints_are_named_and_figured_apart(
    desk: Path, folder: Path, changed: Callable[..., Path], compared: Callable[..., dict[str, Any]]
) -> None:
    table = pq.read_table(desk)
    stamps, joints = table['left_wrist_stamp_ns'].to_numpy().copy(), np.stack(table['joints'].to_numpy())
    features = features_of(desk)
    stamps[10:13] += 33_000_000
    joints[12:14, 3] += 0.125
    features[10:14] += 1
    other = changed({'feature': features, 'left_wrist_stamp_ns': stamps, 'joints': joints})
    for a in (desk, folder / 'robot'):
        seen = compared(a, other)
        assert seen['other_inputs'] == 4 and seen['inputs_known'] == seen['sets']
        assert {one['name']: one['sets'] for one in seen['inputs']} == {'left_wrist_stamp_ns': 3, 'joints': 2}
        assert [one['largest'] for one in seen['inputs']] == pytest.approx([33.0, 0.125])
        assert seen['figures']['largest'] == pytest.approx(1) and seen['figures_same_inputs']['largest'] == 0
        assert (
            'They differ in left_wrist_stamp_ns in 3 sets by up to 33 ms, joints in 2 sets by up to 0.125 rad or m'
            in seen['told']
        )
    assert 'is not known' in compared(folder / 'out' / 'bag_features', other)['told']


def test_what_the_files_were_made_with_is_compared(
    desk: Path, changed: Callable[..., Path], compared: Callable[..., dict[str, Any]]
) -> None:
    spec = json.loads(pq.read_schema(desk).metadata[b'fused_encoder.spec'])
    other = changed({}, about={'model_hash': 'f' * 64, 'threads': 4, 'spec': {**spec, 'image_size': 96}, 'extra': 1})
    made_with = {one['name']: (one['a'], one['b']) for one in compared(desk, other)['made_with']}
    assert made_with.keys() == {'model_hash', 'threads', 'spec.image_size'}
    assert made_with['threads'] == (1, 4) and made_with['spec.image_size'] == (84, 96)


def test_another_engine_of_the_same_bag(
    folder: Path, desk: Path, tmp_path: Path, compared: Callable[..., dict[str, Any]]
) -> None:
    arguments = ['encode', str(folder / 'bag'), '--out', str(tmp_path), '--set', 'engine=packed', '--set', 'threads=1']
    assert main(arguments) == 0
    seen = compared(desk, tmp_path / 'bag.parquet', '--max-difference', '1e-4', '--min-cosine', '0.99999', '--same-sets')
    assert (seen['code'], seen['other_inputs']) == (0, 0)
    assert seen['made_with'] == [{'name': 'engine', 'a': 'eager', 'b': 'packed'}]


def test_nan_is_beyond_every_limit_and_in_no_figure(
    desk: Path, changed: Callable[..., Path], compared: Callable[..., dict[str, Any]]
) -> None:
    features = features_of(desk)
    features[2, 9], features[5, 0] = np.nan, np.inf
    other = changed({'feature': features})
    for a, b in ((desk, other), (other, desk)):
        seen = compared(a, b)
        assert seen['code'] == 1 and f'{other}: 2 sets' in seen['told']
        assert seen['figures']['sets'] == seen['sets'] - 2 and seen['figures']['largest'] == 0
    seen = compared(desk, changed({'feature': np.full_like(features, np.nan)}), '--max-difference', '1')
    assert seen['code'] == 1 and seen['figures'] is None and 'none of them has finite features' in seen['sentence']
    assert compared(other, other)['code'] == 1


def test_zero_features_have_no_direction(
    desk: Path, changed: Callable[..., Path], compared: Callable[..., dict[str, Any]]
) -> None:
    zero = changed({'feature': np.zeros_like(features_of(desk))})
    seen = compared(zero, desk, '--min-cosine', '0.5')
    assert seen['code'] == 1 and seen['figures']['cosine_least'] == 0 and seen['figures']['relative'] is None
    assert compared(zero, zero, '--min-cosine', '1')['code'] == 0


def test_rows_in_any_order(desk: Path, changed: Callable[..., Path], compared: Callable[..., dict[str, Any]]) -> None:
    """A clock that was set back while recording puts later sets first."""
    rows = np.random.default_rng(0).permutation(pq.read_metadata(desk).num_rows)
    seen = compared(desk, changed({}, rows=rows), '--same-sets', '--max-difference', '0')
    assert seen['code'] == 0 and not seen['other_inputs']


# What cannot be compared


def refusal(a: object, b: object, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(['compare', str(a), str(b), *options]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    return printed.err


def test_what_is_no_file_of_features(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    no_parquet, cut, empty, other_data = (tmp_path / f'{name}.parquet' for name in ('text', 'cut', 'empty', 'other'))
    no_parquet.write_text('stamp_ns,feature\n1,2\n')
    cut.write_bytes(desk.read_bytes()[:-100])
    empty.touch()
    pq.write_table(pa.table({'episode': [1], 'feature': [[1.0, 2.0]]}), other_data)
    for path, says in (
        (no_parquet, 'cannot be read as Parquet'),
        (cut, 'cannot be read as Parquet'),
        (empty, 'cannot be read as Parquet'),
        (other_data, 'holds no features: it needs stamp_ns (int64) and feature (float32 of a fixed length)'),
        (tmp_path / 'absent.parquet', 'does not exist; give a Parquet file of `fused-encoder encode`, or a bag'),
        (tmp_path / 'absent.mcap', 'does not exist'),
        (tmp_path, 'is a folder but not a rosbag2 bag'),
    ):
        for a, b in ((desk, path), (path, desk)):
            error = refusal(a, b, capsys)
            assert str(path) in error and says in error, error


def test_damaged_files_are_read_or_refused(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(desk.read_bytes())
    content[1000:9000] = bytes(8000)
    (tmp_path / 'damaged.parquet').write_bytes(content)
    assert 'damaged.parquet cannot be read as Parquet' in refusal(desk, tmp_path / 'damaged.parquet', capsys)
    chance, refused = random.Random(4), 0
    for _ in range(200):
        content = bytearray(desk.read_bytes())
        for _ in range(chance.choice((1, 2, 8))):
            content[-chance.randrange(1, 6000)] = chance.randrange(256)  # the footer is there
        (tmp_path / 'damaged.parquet').write_bytes(content)
        try:
            assert read_recorded(tmp_path / 'damaged.parquet').values.shape[0] > 0
        except FeaturesError:
            refused += 1
    assert refused > 100


def test_a_damaged_value_is_no_difference(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The values are hardly compressible, so most damage would read as other values."""
    content = bytearray(desk.read_bytes())
    offset = pq.ParquetFile(desk).metadata.row_group(0).column(1)
    assert offset.path_in_schema.startswith('feature')
    content[offset.data_page_offset + offset.total_compressed_size // 2] ^= 1
    (tmp_path / 'damaged.parquet').write_bytes(content)
    assert 'damaged.parquet cannot be read as Parquet' in refusal(desk, tmp_path / 'damaged.parquet', capsys)


def test_rows_that_do_not_serve(desk: Path, changed: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    stamps = pq.read_table(desk)['stamp_ns'].to_pylist()
    features = list(features_of(desk))
    again = [stamps[0], *stamps[:-1]]
    assert f'several sets have the same stamp (the first is {stamps[0]} ns)' in refusal(
        desk, changed({'stamp_ns': again}), capsys
    )
    assert 'contains no sets' in refusal(desk, changed({}, rows=pa.array([], pa.int64())), capsys)
    for name, values in (('stamp_ns', [None, *stamps[1:]]), ('feature', [None, *features[1:]])):
        expected = f'column {name} has rows without a value'
        if name == 'feature' and int(pa.__version__.split('.')[0]) < 26:  # the last pyarrow for Python 3.10 is older
            expected = 'Expected all lists to be of size'
        assert expected in refusal(desk, changed({name: values}), capsys)


def test_features_of_other_length(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pq.read_table(desk)
    short = pa.array([feature[:128] for feature in table['feature'].to_numpy()], pa.list_(pa.float32(), 128))
    pq.write_table(table.set_column(1, 'feature', short), tmp_path / 'short.parquet')
    assert f'{desk} has features of 256 values, {tmp_path}/short.parquet of 128' in refusal(
        desk, tmp_path / 'short.parquet', capsys
    )


def test_no_stamp_in_common_says_how_far_the_nearest_are(
    desk: Path, changed: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    stamps = pq.read_table(desk)['stamp_ns'].to_numpy()
    for offset_ns, nearest, begins in (
        (1_500_000, 'apart 1.5 ms (1500000 ns)', 'begins 1.5 ms after'),
        (-3_600_000_000_000, '', 'begins 60.0 min before'),
    ):
        error = refusal(desk, changed({'stamp_ns': stamps + offset_ns}), capsys)
        assert 'have no stamp in common' in error and begins in error
        assert nearest.removeprefix('apart ') in error


def test_bags_without_features(folder: Path, desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(desk, folder / 'bag', capsys)
    assert 'holds no features: no topic …/fused_feature_stamped, and it has /global/image, /left_wrist/image' in error
    error = refusal(desk, folder / 'bag', capsys, '--topic', '/global/image')
    assert '/global/image holds a picture (rgb8, 64×48)' in error
    assert f'no topic /absent, and it has {TOPIC}' in refusal(
        desk, folder / 'out' / 'bag_features', capsys, '--topic', 'absent'
    )
    for name, sizes, says in (('none', [], 'has no message'), ('exchanged', [256, 128], 'of 256 and, at 2 ns, of 128 values')):
        write_features(tmp_path / name, {TOPIC: sizes})
        assert says in refusal(desk, tmp_path / name, capsys)
    shutil.copytree(folder / 'out' / 'bag_features', tmp_path / 'damaged')
    (storage,) = (tmp_path / 'damaged').glob('*.mcap')
    storage.write_bytes(storage.read_bytes()[:-1000])
    assert 'ros2 bag reindex' in refusal(desk, tmp_path / 'damaged', capsys)


def test_several_nodes_in_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [f'/{name}/fused_feature_stamped' for name in ('one', 'two')]
    write_features(tmp_path / 'bag', {nodes[0]: [8, 8, 8], nodes[1]: [8, 8]})
    bag = tmp_path / 'bag'
    assert f'of several nodes: {", ".join(nodes)}; choose one with --topic' in refusal(bag, bag, capsys)
    assert main(['compare', str(bag), str(bag), '--topic', nodes[0]]) == 0
    assert '3 sets in both are equal' in capsys.readouterr().out


def write_features(path: Path, sizes: dict[str, list[int]]) -> None:
    """A bag of features of these sizes, at 1, 2, 3 … ns."""
    with BagWriter(path, 'mcap', dict.fromkeys(sizes, IMAGE)) as writer:
        for topic, of_topic in sizes.items():
            for stamp_ns, size in enumerate(of_topic, 1):
                message = ros_messages.image(stamp_ns, np.ones((1, size), np.float32), '32FC1')
                writer.write(topic, message, stamp_ns)


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (['--max-difference', '-1'], '--max-difference: -1 is out of range; use 0 or more'),
        (['--max-difference', 'nan'], '--max-difference: nan is out of range'),
        (['--min-cosine', '1.5'], '--min-cosine: 1.5 is out of range; use -1 to 1'),
    ],
)
def test_limits_that_are_none(desk: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in refusal(desk, desk, capsys, *options)


def test_torch_is_not_needed(desk: Path) -> None:
    code = 'import sys; from fused_encoder_ros.cli import main; main(sys.argv[1:]); sys.exit("torch" in sys.modules)'
    command = [sys.executable, '-c', code, 'compare', str(desk), str(desk)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


# The page


@pytest.fixture
def page(desk: Path, changed: Callable[..., Path], tmp_path: Path) -> Path:
    """Of files that differ in all ways, one of them with an evil name."""
    features, stamps = features_of(desk), pq.read_table(desk)['left_wrist_stamp_ns'].to_numpy().copy()
    features[30:40] += 0.01
    features[2] = np.nan
    stamps[:9] -= 1_000_000
    about = {'engine': '<script>document.title=1</script>', 'threads': 3}
    rows = list(range(2, len(features) - 3))
    other = changed({'feature': features, 'left_wrist_stamp_ns': stamps}, rows, about)
    evil = other.rename(tmp_path / '<img src=x onerror=alert(1)>.parquet')
    out = tmp_path / 'page.html'
    assert main(['compare', str(desk), str(evil), '--html', str(out), '--max-difference', '1e-3']) == 1
    return out


def test_the_page_says_what_the_command_says(page: Path, desk: Path) -> None:
    text = check_page(page.read_text()).text
    for said in (
        'differ by 0.01',
        'above --max-difference',
        'hold NaN or infinity',
        'left_wrist_stamp_ns in',
        'only in A',
        'threads',
    ):
        assert said in text, said
    assert '<img src=x onerror=alert(1)>' in text and '<script>document.title=1' in text


def test_only_pages_of_its_own_are_replaced(
    page: Path, desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['compare', str(desk), str(desk), '--html', str(page)]) == 0
    assert 'are equal, bit for bit' in check_page(page.read_text()).text
    capsys.readouterr()
    precious = tmp_path / 'precious.parquet'
    shutil.copy(desk, precious)
    assert f'{precious} exists and is not a comparison of features' in refusal(desk, precious, capsys, '--html', str(precious))
    assert precious.read_bytes() == desk.read_bytes()


@needs_browser
def test_a_browser_shows_it_at_any_width(page: Path, tmp_path: Path) -> None:
    act = """({
        title: page.title,
        sideways: page.documentElement.scrollWidth - page.documentElement.clientWidth,
        lanes: [...page.querySelectorAll('.lane svg')].filter(lane => lane.getBoundingClientRect().width > 100).length,
    })"""
    for seen in in_browser(page.read_text(), act, tmp_path / 'browser'):
        assert seen['title'].startswith('Fail: desk.parquet and <img') and seen['sideways'] == 0
        assert seen['lanes'] == 4
