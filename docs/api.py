"""Build the Python reference as HTML pages, from the docstrings of the public names.

python docs/api.py            # into build/api
python docs/api.py --out DIR
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import pdoc
import pdoc.render

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MODULES = ('fused_encoder_ros', 'fused_encoder_ros.model')
"""The modules that are public; what each exports is its `__all__`."""


def build(out: Path) -> None:
    """Write one page for each public module."""
    for name in MODULES:
        module = importlib.import_module(name)
        # pdoc looks into the module itself, where a lazy name is not found before its first use.
        vars(module).update({exported: getattr(module, exported) for exported in module.__all__})
    pdoc.render.configure(docformat='google', show_source=False, footer_text=f'fused_encoder_ros {_version()}')
    pdoc.pdoc(*MODULES, output_directory=out)


def _version() -> str:
    return str(importlib.import_module(MODULES[0]).__version__)


if __name__ == '__main__':
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('--out', type=Path, default=ROOT / 'build' / 'api', metavar='DIR', help='default: build/api')
    build(options.parse_args().out)
