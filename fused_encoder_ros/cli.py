"""The command `fused-encoder`: parse, call, print.

Heavy imports stand in the functions that need them: torch takes seconds, and help should not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from fused_encoder_ros import __version__, _program  # noqa: F401  # before NumPy
from fused_encoder_ros.commands import (
    bench,
    checkpoints,
    companions,
    compare,
    demo,
    doctor,
    encode,
    export,
    profile,
    rig,
    run_report,
    sync_report,
)
from fused_encoder_ros.commands.common import EXIT_BAD_INPUT, EXIT_FAILED, interrupt_on_signals
from fused_encoder_ros.errors import EngineError, FusedEncoderError, in_one_line

_COMMANDS = (doctor, encode, export, compare, run_report, sync_report, profile, checkpoints, companions, bench, rig, demo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 2 bad usage or input, 1 otherwise; `doctor` has 3 for a warning."""
    options = _parser().parse_args(arguments)
    interrupt_on_signals()
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader has had enough, as `head` has. What is still in the buffer must not raise at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except FusedEncoderError as error:
        print(f'fused-encoder: {error}', file=sys.stderr)
        return EXIT_FAILED if isinstance(error, EngineError) else EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        print(f"fused-encoder: {error}; install what bags need: pip install '.[desk]'", file=sys.stderr)
        return EXIT_FAILED
    except ImportError as error:
        print(f'fused-encoder: {in_one_line(error)}', file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print('fused-encoder: interrupted; nothing incomplete was left behind', file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='fused-encoder',
        description='Encode, check and export recordings of a robot, and test the node that encodes live.',
    )
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')
    for command in _COMMANDS:
        command.add_commands(commands)
    return parser


if __name__ == '__main__':
    sys.exit(main())
