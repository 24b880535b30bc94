"""Configure, activate, deactivate and clean up the node again and again: does anything stay behind?

python benchmarks/lifecycle.py --cycles 100 --out benchmarks/results/lifecycle.json
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import threading
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from torch import cuda

from fused_encoder_ros.bench.measuring import describe_machine
from fused_encoder_ros.ros.monitor import resident_bytes
from fused_encoder_ros.ros.node import FusedEncoderNode
from fused_encoder_ros.settings.dds import keep_to_this_host

WARM_UP = 10


def cycle(node: FusedEncoderNode, executor: SingleThreadedExecutor) -> dict[str, float]:
    """One round; what the process holds after it."""
    for transition in (node.trigger_configure, node.trigger_activate, node.trigger_deactivate, node.trigger_cleanup):
        if transition() != TransitionCallbackReturn.SUCCESS:
            raise SystemExit(f'{transition.__name__} failed')
        for _ in range(5):
            executor.spin_once(timeout_sec=0.01)
    return {
        'resident_mib': resident_bytes() / 2**20,
        'gpu_mib': cuda.memory_allocated() / 2**20 if cuda.is_available() else 0.0,
        'threads': len(os.listdir('/proc/self/task')),
        'python_threads': threading.active_count(),
        'file_descriptors': len(os.listdir('/proc/self/fd')),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cycles', type=int, default=100)
    parser.add_argument('--engine', default='auto', help="the node's parameter")
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    keep_to_this_host()
    rclpy.init()
    node = FusedEncoderNode(parameter_overrides=[Parameter('engine', value=options.engine)])
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    rounds = []
    for number in range(WARM_UP + options.cycles):
        rounds.append(cycle(node, executor))
        print(f'{number + 1:>4}  ' + '  '.join(f'{name} {value:.1f}' for name, value in rounds[-1].items()), file=sys.stderr)
    node.destroy_node()
    rclpy.shutdown()
    kept = rounds[WARM_UP:]
    slopes = {name: float(np.polyfit(range(len(kept)), [one[name] for one in kept], 1)[0]) for name in kept[0]}
    result = {
        'command': shlex.join(['python', *sys.argv]),
        'machine': describe_machine(),
        'engine': options.engine,
        'cycles': options.cycles,
        'warm_up': WARM_UP,
        'growth_per_cycle': slopes,
        'first': kept[0],
        'last': kept[-1],
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + '\n')


if __name__ == '__main__':
    main()
