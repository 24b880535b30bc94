"""Pictures of observations and features. Needs matplotlib; draws to files, without a display."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fused_encoder_ros.content.profile import Profile
from fused_encoder_ros.pipeline.data import JOINTS

_PALETTE = ('#3b75af', '#c8553d', '#3a8f5c', '#b8862d', '#4aa3a2', '#a14d8b', '#7d6b52', '#5a6f8f')
_JOINTS_COLOR = '#8a6fb0'
_TEXT, _MUTED = '#222222', '#777777'


def draw_observation(
    path: Path, images: NDArray[np.uint8], cameras: Sequence[str], stamps_ns: Mapping[str, int], anchor: str
) -> None:
    """Draw one set: its views, uint8 [S,S,3*cameras], and when each source's data is from, relative to the anchor."""
    width = max(3.3 * len(cameras), 6.6)
    colors = _colors(stamps_ns)
    figure = Figure(figsize=(width, 5.2), layout='constrained', facecolor='white')
    grid = figure.add_gridspec(2, len(cameras), height_ratios=(5, 1.3))
    size = images.shape[0]
    for column, camera in enumerate(cameras):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(images[..., 3 * column : 3 * column + 3], interpolation='nearest')
        axes.set_axis_off()
        role = 'anchor' if camera == anchor else f'{_skew_ms(stamps_ns, camera, anchor):+.1f} ms'
        axes.set_title(f'{camera}   {role}', color=colors[camera], fontsize=12, fontweight='bold')
        axes.text(
            0.5,
            -0.03,
            f'stamp {stamps_ns[camera] / 1e9:.6f} s',
            transform=axes.transAxes,
            ha='center',
            va='top',
            fontsize=9,
            color=_MUTED,
        )
    timeline = figure.add_subplot(grid[1, :])
    for row, source in enumerate(reversed(list(stamps_ns))):
        skew = _skew_ms(stamps_ns, source, anchor)
        timeline.hlines(row, min(skew, 0), max(skew, 0), color=colors[source], alpha=0.4, linewidth=4)
        timeline.plot(skew, row, 'o', color=colors[source], markersize=9)
    timeline.set_yticks(range(len(stamps_ns)), list(reversed(list(stamps_ns))), fontsize=9)
    timeline.set_ylim(-0.7, len(stamps_ns) - 0.3)
    timeline.axvline(0, color=_MUTED, linewidth=1)
    timeline.set_xlabel('time of the data relative to the anchor (ms)', fontsize=9)
    _tidy(timeline)
    views = f'{len(cameras)} cameras' if len(cameras) > 1 else 'one camera'
    figure.suptitle(f'One observation: {views} at {size}×{size} and the joints', fontsize=14, color=_TEXT)
    figure.savefig(path, dpi=130)


def draw_features(
    path: Path,
    stamps_ns: NDArray[np.int64],
    features: NDArray[np.float32],
    skew_ms: Mapping[str, NDArray[np.float64]],
    latency_ms: NDArray[np.float64],
    drop_stamps_ns: Sequence[int],
    title: str,
) -> None:
    """Draw features float32 [N,D] over time, with the skew and the latency of each set and where anchors were dropped."""
    seconds = (stamps_ns - stamps_ns[0]) / 1e9
    figure = Figure(figsize=(11, 7.5), layout='constrained', facecolor='white')
    heat, skews, latency = figure.subplots(3, 1, sharex=True, gridspec_kw={'height_ratios': (4, 1.4, 1.4)})
    spread = features.std(axis=0)
    deviation = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    # Rows that move alike stand together, so that the eye sees the motion and not the numbering.
    phase = np.angle(np.fft.rfft(deviation, axis=0)[1:4].sum(axis=0))
    order = np.argsort(np.where(spread > 0, phase, -np.inf))
    edges = np.append(seconds, 2 * seconds[-1] - seconds[-2] if len(seconds) > 1 else 1.0)
    mesh = heat.pcolormesh(
        edges, np.arange(features.shape[1] + 1), deviation[:, order].T, cmap='RdBu_r', vmin=-2.5, vmax=2.5, rasterized=True
    )
    constant = f', {(spread == 0).sum()} constant ones first' if (spread == 0).any() else ''
    heat.set_ylabel(f'feature dimension\n(ordered by phase{constant})')
    figure.colorbar(mesh, ax=heat, pad=0.01, label="deviation from the dimension's mean\n(standard deviations)")
    colors = _colors(skew_ms)
    for source, values in skew_ms.items():
        skews.plot(seconds, values, '.', markersize=4, color=colors[source], label=source)
    skews.set_ylabel('skew to the\nanchor (ms)')
    skews.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    latency.plot(seconds, latency_ms, '.', markersize=4, color='#444444', label='sets')
    latency.set_ylim(0, max(1.0, float(np.percentile(latency_ms, 99.5)) * 1.15))
    for stamp in drop_stamps_ns:
        latency.axvline((stamp - stamps_ns[0]) / 1e9, color='#d62728', alpha=0.6, linewidth=1)
    if len(drop_stamps_ns):
        latency.plot([], [], color='#d62728', label='dropped')
    latency.set_ylabel('stamp to\npublish (ms)')
    latency.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    latency.set_xlabel('time (s)')
    latency.set_xlim(edges[0], edges[-1])
    for axes in (heat, skews, latency):
        _tidy(axes)
    figure.suptitle(title, fontsize=14, color=_TEXT)
    figure.savefig(path, dpi=130)


def _colors(sources: Iterable[str]) -> dict[str, str]:
    """A colour for each source: cameras in their order, and the joints."""
    cameras = [source for source in sources if source != JOINTS]
    return {**dict(zip(cameras, _PALETTE)), JOINTS: _JOINTS_COLOR}


def _skew_ms(stamps_ns: Mapping[str, int], source: str, anchor: str) -> float:
    return (stamps_ns[source] - stamps_ns[anchor]) / 1e6


def _tidy(axes: Axes) -> None:
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=_TEXT, labelsize=9)
    axes.grid(axis='x', color='#eeeeee')
    axes.set_axisbelow(True)


def draw_engines(path: Path, result: Mapping[str, Any]) -> None:
    """Draw what `bench engines` measured: how much faster each engine is than the three-stream design in eager torch."""
    where, tables = list(result['results'].items())[-1]
    table = tables['batch 1, paced']
    names = sorted(table, key=lambda name: table[name]['times_faster_than_three_stream_eager'])
    figure = Figure(figsize=(9, 0.42 * len(names) + 1.3), layout='constrained', facecolor='white')
    axes = figure.add_subplot()
    ratios = [table[name]['times_faster_than_three_stream_eager'] for name in names]
    colors = [_PALETTE[0] if name.startswith('single') else _JOINTS_COLOR for name in names]
    axes.barh(names, ratios, color=colors, height=0.65)
    for row, (name, ratio) in enumerate(zip(names, ratios)):
        figures = table[name]
        label = f' {ratio:.1f} x   {figures["ms"]:.1f} ms   error {result["relative_error"][name]:.0e}'
        axes.text(ratio, row, label, va='center', fontsize=9, color=_TEXT)
    axes.set_xlim(0, max(ratios) * 1.35)
    axes.set_xlabel('times faster than the three-stream design in eager torch', color=_MUTED)
    title = f'One set each 33 ms, {where}: {result["machine"]["gpu"] or result["machine"]["cpu"]}'
    axes.set_title(title, loc='left', fontsize=11, color=_TEXT)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=130)


def draw_profile(path: Path, profile: Profile) -> None:
    """Draw a profile: each camera's median picture, some samples and its measures, and the range of each joint."""
    cameras, joints = profile.fed['cameras'], profile.fed['joint_names']
    rows = profile.rows
    samples = np.linspace(0, len(rows) - 1, 5).astype(int)
    figure = Figure(figsize=(13, 2.1 * len(cameras) + 3.2), layout='constrained', facecolor='white')
    grid = figure.add_gridspec(len(cameras) + 1, 8, height_ratios=[1] * len(cameras) + [1.5])
    for row, (camera, color) in enumerate(zip(cameras, _PALETTE)):
        pictures = [np.median(rows['grids'][:, row], axis=0).astype(np.uint8), *rows['grids'][samples, row]]
        for column, picture in enumerate(pictures):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture, interpolation='nearest')
            axes.set_axis_off()
            if column == 0:
                axes.set_title(f'{camera}: median', color=color, fontsize=10, fontweight='bold')
        for column, (number, name) in enumerate(((0, 'brightness'), (2, 'sharpness')), len(pictures)):
            axes = figure.add_subplot(grid[row, column])
            axes.hist(rows['measures'][:, row, number], bins=30, color=color)
            axes.set_title(name, fontsize=9)
            axes.set_yticks([])
            _tidy(axes)
    axes = figure.add_subplot(grid[len(cameras), :])
    axes.violinplot(list(rows['joints'].T.astype(float)), widths=0.8, showextrema=False)
    positions = np.arange(1, len(joints) + 1)
    axes.vlines(positions, profile.lowest, profile.highest, color=_JOINTS_COLOR, linewidth=2)
    axes.set_xticks(positions, joints, rotation=30, ha='right', fontsize=8)
    axes.set_ylabel('position', fontsize=9)
    _tidy(axes)
    duration = f'{profile.duration_ns / 60e9:.1f} minutes'
    figure.suptitle(
        f'What {profile.bags} bags of training data show: {profile.sets} sets, {duration}', fontsize=13, color=_TEXT
    )
    figure.savefig(path, dpi=110)
