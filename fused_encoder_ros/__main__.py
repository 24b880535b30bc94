"""`python -m fused_encoder_ros` is the command `fused-encoder`."""

import signal
import sys


def main() -> int:
    """As `cli.main`. Ctrl-C during its imports ends the process at once: nothing has begun that could be left incomplete."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fused_encoder_ros import cli

    return cli.main()


if __name__ == '__main__':
    sys.exit(main())
