"""The run report: which bags it says stand out, and that its page is sound."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from faulty_bags import RIG, Times, as_it_is, write_bag
from pages import Page, check_page, in_browser, needs_browser
from ros_messages import image

from fused_encoder_ros import Observation, Settings, read_observations
from fused_encoder_ros.cli import main
from fused_encoder_ros.fleet.manifest import Record, read_manifest
from fused_encoder_ros.fleet.report.overview import Overview
from fused_encoder_ros.fleet.report.page import render
from fused_encoder_ros.offline.bag import Bag
from fused_encoder_ros.offline.preview import preview_name
from fused_encoder_ros.offline.report import gather
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.spec import CAMERAS
from fused_encoder_ros.synthetic import Event, Rig

HOSTILE = '<script>document.title="owned"<img src=x onerror=alert(1)>&amp;"\''
USUAL = ['a', 'b', 'c', 'd', HOSTILE]


def check(text: str) -> Page:
    return check_page(text, also=('ul', 'label', 'input', 'button', 'script'))


def thinned(event: Event) -> Times:
    """Of the right wrist every second frame is lost."""
    return None if event.source == 'right_wrist' and event.number % 2 else as_it_is(event)


def darkened(event: Event, stamp_ns: int) -> Any:
    picture = RIG.image(event.source, event.stamp_ns, event.number)
    return image(stamp_ns, picture // 10 if event.source == 'left_wrist' else picture)


@pytest.fixture(scope='module')
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Usual bags of half a second, one of them with an evil name, and three that something is wrong with."""
    folder = tmp_path_factory.mktemp('recordings')
    for seed, name in enumerate(USUAL):
        write_rig_bag(folder / name, Rig(width=64, height=48, seed=seed), 0.5)
    write_bag(folder / 'dark', image=darkened, duration_s=0.5)
    write_bag(folder / 'lossy', thinned, duration_s=0.5)
    write_rig_bag(folder / 'cut', RIG, 0.5)
    (storage,) = (folder / 'cut').glob('*.mcap')
    storage.write_bytes(storage.read_bytes()[:-1000])
    return folder


@pytest.fixture(scope='module')
def results(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `encode` makes of them, with the page beside it."""
    out = tmp_path_factory.mktemp('results') / 'features'
    arguments = ['encode', str(recordings), '--out', str(out), '--workers', '1', '--html', str(out.parent / 'page.html')]
    assert main(arguments) == 2  # one bag is cut
    return out


def overview_of(folder: Path) -> Overview:
    return Overview(str(folder), *read_manifest(str(folder)))


def summary_of(folder: Path, name: str) -> dict[str, Any]:
    return next(dict(record.summary) for record in overview_of(folder).records if record.bag.name == name)


def test_the_page_names_what_failed_and_what_stands_out(results: Path) -> None:
    page = check((results.parent / 'page.html').read_text())
    assert '7 of 8 bags are done, 1 failed, 2 stand out.' in page.text
    assert 'brightness of left_wrist 14, usually 146' in page.text and 'cannot be read' in page.text
    reasons = overview_of(results).comparison.reasons
    assert set(reasons) == {'dark', 'lossy'}
    assert any(re.match(r'rate of right_wrist 1[45]\..* Hz, usually (29|30)', reason.sentence) for reason in reasons['lossy'])
    assert HOSTILE in page.text


def test_a_summary_agrees_with_the_results_and_the_sync_report(recordings: Path, results: Path) -> None:
    settings = Settings.from_values({})
    for name in ('a', 'lossy'):
        summary, table = summary_of(results, name), pq.read_table(results / f'{name}.parquet')
        with Bag(recordings / name, settings.topics) as bag:
            facts = gather(bag, settings)
        for source, stream in facts.streams.items():
            assert summary['rates_hz'][source] == stream.rate_hz
            skews = np.abs(table[f'{source}_skew_ms'].to_numpy())
            expected = [np.percentile(skews, 50), np.percentile(skews, 95), facts.worst_skew_ms[source]]
            assert list(summary['skew_ms'][source].values()) == pytest.approx(expected)
        assert summary['still_s'] == pytest.approx({c: facts.streams[c].longest_still_s for c in CAMERAS})
        features = np.stack(table['feature'].to_numpy())
        mean = np.frombuffer(base64.b64decode(summary['features']['mean']), '<f4')
        np.testing.assert_allclose(mean, features.mean(axis=0), atol=1e-5)
        assert summary['features']['norm'] == pytest.approx(np.linalg.norm(features, axis=1).mean(), rel=1e-5)
        assert summary['features']['constant'] == (np.ptp(features, axis=0) == 0).sum()
        sets = [o for o in read_observations(recordings / name, settings) if isinstance(o, Observation)]
        images = np.stack([one.images for one in sets])
        brightness = [images[..., 3 * i : 3 * i + 3].mean() for i in range(3)]
        assert list(summary['brightness'].values()) == pytest.approx(brightness, abs=0.1)
        middle = sets[len(sets) // 2].images
        preview = cv2.imread(str(results / preview_name(name)))[..., ::-1].astype(float)
        assert np.abs(preview - np.hstack(np.split(middle, 3, axis=2))).mean() < 6


def test_the_preview_is_from_the_middle_of_a_long_bag(tmp_path: Path) -> None:
    """The picture tells its time: each frame is as grey as its number."""

    def numbered(event: Event, stamp_ns: int) -> Any:
        return image(stamp_ns, np.full((48, 64, 3), event.number, np.uint8))

    write_bag(tmp_path / 'bag', image=numbered, duration_s=3)
    assert main(['export', str(tmp_path / 'bag'), '--to', 'hdf5', '--out', str(tmp_path / 'out')]) == 0
    grey = cv2.imread(str(tmp_path / 'out' / preview_name('bag')))[:, 2 * 84 :].mean()
    assert 40 < grey < 50  # of 90


def test_a_run_that_goes_on_or_was_killed(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / 'features'
    shutil.copytree(results, folder)
    (begun,) = [r for r in overview_of(folder).records if r.bag.name == 'b']
    line = {**json.loads((folder / 'manifest.jsonl').read_text().splitlines()[1]), 'status': 'begun', 'summary': {}}
    line['bag'] = {**line['bag'], 'name': begun.bag.name}
    del line['crc32']
    with (folder / 'manifest.jsonl').open('a') as stream:
        stream.write(json.dumps(line) + '\n' + json.dumps(line)[:40])
    assert main(['run-report', str(folder), '--out', str(tmp_path / 'page.html')]) == 0
    assert '6 of 8 bags are done, 1 failed, 1 is begun and not finished' in capsys.readouterr().out
    assert 'Begun and not finished' in check((tmp_path / 'page.html').read_text()).text


def test_a_manifest_of_an_older_version_without_previews(results: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (results / 'manifest.jsonl').read_text().splitlines()]
    for line in lines[1:]:
        del line['crc32']
        for figure in ('rates_hz', 'skew_ms', 'brightness', 'still_s', 'features'):
            line['summary'].pop(figure, None)
    (tmp_path / 'manifest.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    assert main(['run-report', str(tmp_path), '--out', str(tmp_path / 'page.html')]) == 0
    page = (tmp_path / 'page.html').read_text()
    assert '7 of 8 bags are done' in check(page).text and 'data:image' not in page


def test_episodes_have_a_page_too(recordings: Path, tmp_path: Path) -> None:
    bags = [str(recordings / name) for name in ('a', 'dark')]
    arguments = ['export', *bags, '--to', 'hdf5', '--out', str(tmp_path / 'out'), '--html', str(tmp_path / 'page.html')]
    assert main([*arguments, '--workers', '1', '--set', 'image_size=120']) == 0
    page = (tmp_path / 'page.html').read_text()
    assert 'Export of 2 bags' in check(page).text and page.count('data:image/jpeg') == 2
    assert cv2.imread(str(tmp_path / 'out' / preview_name('a'))).shape == (112, 336, 3)
    assert summary_of(tmp_path / 'out', 'dark')['brightness']['left_wrist'] < 20


def test_a_bag_without_sets_stands_out_whatever_the_others_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bag(tmp_path / 'bag', lambda event: None if event.source == 'left_wrist' else as_it_is(event), duration_s=0.5)
    assert main(['export', str(tmp_path / 'bag'), '--to', 'hdf5', '--out', str(tmp_path / 'out')]) == 0
    assert main(['run-report', str(tmp_path / 'out'), '--out', str(tmp_path / 'page.html')]) == 0
    assert 'bag: no sets' in capsys.readouterr().out
    assert 'no picture' in check((tmp_path / 'page.html').read_text()).text


def test_only_run_reports_are_replaced(
    recordings: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / 'page.html'
    precious.write_text('precious')
    assert main(['run-report', str(results), '--out', str(precious)]) == 2
    assert main(['encode', str(recordings / 'a'), '--out', str(tmp_path / 'out'), '--html', str(precious)]) == 2
    assert capsys.readouterr().err.count(f'{precious} exists and is not a run report') == 2
    assert precious.read_text() == 'precious' and not (tmp_path / 'out').exists()
    for _ in range(2):
        assert main(['run-report', str(results), '--out', str(tmp_path / 'other.html')]) == 0


def test_what_is_no_folder_of_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / 'absent'):
        assert main(['run-report', str(folder), '--out', str(tmp_path / 'page.html')]) == 2
        assert f'{folder} has no manifest.jsonl' in capsys.readouterr().err
    for content, says in (('[1]\n', 'has no manifest.jsonl'), ('{"format": 99}\n', 'was written by another version')):
        (tmp_path / 'manifest.jsonl').write_text(content)
        assert main(['run-report', str(tmp_path), '--out', str(tmp_path / 'page.html')]) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / 'page.html').exists()


@pytest.fixture
def thousand(results: Path) -> Callable[..., Overview]:
    """A thousand bags that differ by chance alone, but for what `change(number, summary)` does to a summary."""
    overview = overview_of(results)
    (example,) = [record for record in overview.records if record.bag.name == 'a']

    def make(change: Callable[[int, dict[str, Any]], None]) -> Overview:
        chance = np.random.default_rng(0)
        records = []
        for number in range(1000):
            summary = json.loads(json.dumps(dict(example.summary)))
            mean = np.frombuffer(base64.b64decode(summary['features']['mean']), '<f4') + chance.normal(0, 0.01, 256)
            summary['features']['mean'] = base64.b64encode(mean.astype('<f4').tobytes()).decode()
            for camera in CAMERAS:
                summary['brightness'][camera] += chance.normal(0, 5)
                summary['rates_hz'][camera] += chance.normal(0, 0.01)
            summary |= {'anchors': 1000, 'drops': {'no_match:left_wrist': int(chance.poisson(10))}}
            summary['span_s'] = float(chance.normal(60, 5))
            change(number, summary)
            bag = replace(example.bag, name=f'day_{number // 100}/bag_{number:04d}', uri=f'/data/{number}')
            records.append(Record(bag, 'done', '', (f'{bag.name}.parquet',), summary))
        return Overview('features', overview.made_with, records)

    return make


def test_of_a_thousand_bags_those_with_a_fault_stand_out_and_no_others(thousand: Callable[..., Overview]) -> None:
    def change(number: int, summary: dict[str, Any]) -> None:
        if number == 17:
            summary['drops']['no_joints'] = 400
        elif number == 400:
            summary['brightness']['global'] = 20.0
        elif number == 401:
            summary['still_s']['left_wrist'] = 8.0
        elif number == 999:
            summary['skew_ms']['left_wrist']['p95_ms'] += 8
        elif number == 700:
            summary['features']['mean'] = base64.b64encode(np.full(256, 0.2, '<f4').tobytes()).decode()

    overview = thousand(change)
    assert {name[-4:] for name in overview.comparison.reasons} == {'0017', '0400', '0401', '0999', '0700'}
    page = check(render(overview, dict.fromkeys(overview.shown, b'x' * 9000)))
    assert '1,000 of 1,000 bags are done, 5 stand out.' in page.text and len(overview.shown) == 8


def test_the_page_is_bounded(thousand: Callable[..., Overview]) -> None:
    def change(number: int, summary: dict[str, Any]) -> None:
        if number % 3 == 0:
            summary['brightness']['global'] = float(number % 50)
            summary['drops'] = {f'no_match:{"&" * 900}{number}': 900}

    overview = thousand(change)
    assert len(overview.comparison.reasons) > 100 > len(overview.shown)
    check(render(overview, dict.fromkeys(overview.shown, b'x' * 9000)))


def test_bags_that_are_all_the_same_and_no_bag_at_all(results: Path) -> None:
    overview = overview_of(results)
    (one,) = [record for record in overview.records if record.bag.name == 'a']
    same = [replace(one, bag=replace(one.bag, name=str(number))) for number in range(8)]
    for records in (same, []):
        alike = replace(overview, records=records)
        assert not alike.comparison.reasons
        assert f'{len(records)} of {len(records)} bags are done.' in check(render(alike, dict.fromkeys(alike.shown))).text


@needs_browser
def test_a_browser_sorts_and_filters_the_table_and_runs_no_name(results: Path, tmp_path: Path) -> None:
    act = """(() => {
        const rows = () => [...page.querySelectorAll('table.bags tbody tr')].filter(row => !row.hidden);
        const names = () => rows().map(row => row.cells[0].textContent);
        const click = column => page.querySelectorAll('table.bags button')[column].click();
        const type = text => {
            const filter = page.querySelector('#filter');
            filter.value = text;
            filter.dispatchEvent(new Event('input'));
        };
        const seen = {title: page.title, first: names().slice(0, 3)};
        seen.sideways = page.documentElement.scrollWidth - page.documentElement.clientWidth;
        seen.pictures = [...page.images].filter(image => image.complete && image.naturalWidth === 252).length;
        click(3); seen.drops = rows().map(row => row.cells[3].textContent);
        click(3); seen.fewest = rows().map(row => row.cells[3].textContent);
        click(0); seen.names = names();
        type('STANDS dark'); seen.found = [names(), page.querySelector('#shown').textContent];
        type(''); seen.all = rows().length;
        return seen;
    })()"""
    for seen in in_browser((results.parent / 'page.html').read_text(), act, tmp_path / 'browser'):
        assert seen['title'] == 'Fail: run report of features' and seen['sideways'] == 0
        assert seen['first'][0] == 'cut' and set(seen['first'][1:]) == {'dark', 'lossy'}
        assert seen['pictures'] == 2 + 3  # those that stand out, and usual ones
        assert seen['drops'][-1] == seen['fewest'][-1] == '–'
        shares = [float(text.removesuffix(' %')) for text in seen['drops'][:-1]]
        assert shares == sorted(shares, reverse=True) and len(set(shares)) > 1
        assert [float(text.removesuffix(' %')) for text in seen['fewest'][:-1]] == sorted(shares)
        assert seen['names'] == [HOSTILE, 'a', 'b', 'c', 'cut', 'd', 'dark', 'lossy']
        assert seen['found'] == [['dark'], '1 of 8'] and seen['all'] == 8
