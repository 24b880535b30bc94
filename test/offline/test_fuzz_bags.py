"""A damaged bag is refused or fully accounted for, and leaves no half of a result; within bounded memory and time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import hypothesis

FUZZ = Path(__file__).with_name('fuzz_bags.py')


def test_mutated_bags(tmp_path: Path) -> None:
    """`pytest --hypothesis-profile=thorough` takes many more."""
    count = hypothesis.settings.default.max_examples
    command = [sys.executable, str(FUZZ), str(tmp_path), str(count)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    tally = json.loads(result.stdout)
    assert tally['sound: encoded'] == 5 and tally['refused'] + tally['encoded'] == count
    assert tally['refused'] > count / 5 and tally['encoded'] > count / 5
