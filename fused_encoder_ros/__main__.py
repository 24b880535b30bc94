"""`python -m fused_encoder_ros` is the command `fused-encoder`."""

import sys

from fused_encoder_ros.cli import main

if __name__ == '__main__':
    sys.exit(main())
