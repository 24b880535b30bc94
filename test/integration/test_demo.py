"""`make demo`, shortened: two processes on DDS, and files that a person opens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pyarrow.parquet as pq


def test_demo(tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'fused_encoder_ros.cli', 'demo', '--out', str(tmp_path), '--duration', '3']
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    for word in ('anchor frames', 'sets', 'drops', 'p50', 'p99', 'transport', 'encode', 'total'):
        assert word in result.stdout, result.stdout
    table = pq.read_table(tmp_path / 'features.parquet')
    assert table.num_rows > 0 and table.schema.field('feature').type.list_size == 256
    for picture in ('observation.png', 'features.png'):
        pixels = cv2.imread(str(tmp_path / picture))
        assert pixels.shape[1] > 1000 and pixels.std() > 20
