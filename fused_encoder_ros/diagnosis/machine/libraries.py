"""Whether the libraries work here, and together. Each is tried in a process of its own: one that crashes is a finding too."""

from __future__ import annotations

import functools
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity
from fused_encoder_ros.diagnosis.wording import printable
from fused_encoder_ros.errors import in_one_line

_PATIENCE_S = 120.0
_AS_A_PROGRAM = 'import fused_encoder_ros._program\n'
_ABSENT = 'ModuleNotFoundError: No module named '
# Its telemetry would report the import to the vendor.
_OPENVINO = 'import sys; sys.modules["openvino_telemetry"] = None; import openvino; print(openvino.__version__)'
_NVIDIA_DEVICES = ('/dev/nvidia0', '/dev/nvhost-gpu', '/dev/nvgpu')


@dataclass(frozen=True)
class Trial:
    """What came of a piece of Python in a process of its own.

    Attributes:
        output: the last line that it printed; empty when it failed.
        problem: why it failed, in one line; empty when it did not.
    """

    output: str
    problem: str

    def lacks(self, module: str) -> bool:
        """Whether it failed because this module is not installed."""
        return self.problem.startswith(f'{_ABSENT}{module!r}')


def attempt(code: str, *arguments: str) -> Trial:
    """Run a piece of Python with this interpreter and environment."""
    command, nothing = [sys.executable, '-c', _AS_A_PROGRAM + code, *arguments], subprocess.DEVNULL
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors='replace',
            timeout=_PATIENCE_S,
            check=False,
            stdin=nothing,
        )
    except subprocess.TimeoutExpired:
        return Trial('', f'it did not finish within {_PATIENCE_S:g} s')
    if done.returncode == 0:
        return Trial(_last_line(done.stdout), '')
    if done.returncode < 0:
        return Trial('', f'the process was killed by {signal.Signals(-done.returncode).name}')
    return Trial('', _last_line(done.stderr) or f'exit code {done.returncode}')


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return printable(in_one_line(lines[-1])) if lines else ''


@dataclass(frozen=True)
class Library:
    """A library that is tried.

    Attributes:
        name: as it is imported.
        code: what must run; its last line of output is the version.
        purpose: what cannot be done without it.
        install: how it is installed.
        needed: whether its absence is a fault.
        repair: what to do when it is installed and does not work.
    """

    name: str
    code: str
    purpose: str
    install: str
    needed: bool = False
    repair: str = 'Install a version that works with the other libraries.'


_DESK = "pip install '.[desk]'"
_REBUILD = 'ROS works only with the Python that it was built for. Create the environment with that Python, and source ROS.'
_TORCH_HINT = 'pip install torch    # on a Jetson, the build from NVIDIA'
# Beyond the import: NumPy is asked across the border to C, where builds for another version of it fail.
_TORCH = (
    'import numpy, torch; torch.from_numpy(numpy.zeros(1)).numpy(); cuda = torch.cuda.is_available(); '
    'build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"; '
    'use = torch.cuda.get_device_name() if cuda else "no CUDA device"; print(f"{torch.__version__}, {build}, {use}")'
)
_TORCHVISION = 'from fused_encoder_ros.model._torchvision import import_torchvision; print(import_torchvision().__version__)'
_CV_BRIDGE = (
    'import numpy; from cv_bridge import CvBridge; CvBridge().cv2_to_imgmsg(numpy.zeros((1, 1), numpy.uint8), "mono8"); '
    'print("works")'
)
_RCLPY = 'import rclpy, sensor_msgs.msg; rclpy.init(); print(rclpy.utilities.get_rmw_implementation_identifier())'

LIBRARIES = (
    Library('numpy', 'import numpy; print(numpy.__version__)', 'nothing works', 'pip install numpy', needed=True),
    Library(
        'cv2', 'import cv2; print(cv2.__version__)', 'images cannot be decoded', 'pip install opencv-python-headless', True
    ),
    Library('torch', _TORCH, 'nothing can be encoded', _TORCH_HINT, needed=True),
    Library('torchvision', _TORCHVISION, 'the encoder cannot be built', 'pip install --no-deps torchvision', needed=True),
    Library('rclpy', _RCLPY, 'the node cannot run', 'source /opt/ros/$ROS_DISTRO/setup.bash', repair=_REBUILD),
    Library('cv_bridge', _CV_BRIDGE, 'bayer and YUV images need rosbags-image', _DESK),
    Library('openvino', _OPENVINO, 'the engine openvino is not available', 'pip install openvino'),
    Library('rosbags', 'import rosbags.highlevel; print("works")', 'bags cannot be read', _DESK),
    Library('pyarrow', 'import pyarrow; print(pyarrow.__version__)', 'Parquet files cannot be written', _DESK),
)


@dataclass(frozen=True)
class Environment:
    """What this Python has.

    Attributes:
        python: its version and place.
        versions: by library, what works here.
        broken: libraries that are installed and do not work, and needed ones that are not there.
        findings: about both.
    """

    python: str
    versions: dict[str, str]
    broken: frozenset[str]
    findings: list[Finding] = field(repr=False)


def examine_environment(needed: Sequence[str] = ()) -> Environment:
    """Try every library; `needed` names those that this use needs beyond the usual."""
    trials = _trials(os.environ.get('RMW_IMPLEMENTATION', ''))
    versions = {library.name: trial.output for library, trial in trials.items() if not trial.problem}
    findings, broken = [], set()
    for library, trial in trials.items():
        if library.name == 'torchvision' and 'torch' in broken:
            continue
        is_needed = library.needed or library.name in needed
        if trial.problem and (is_needed or not trial.lacks(library.name)):
            broken.add(library.name)
            findings.append(_broken(library, trial, is_needed, versions))
    findings += _cuda(versions.get('torch', ''))
    return Environment(f'{platform.python_version()} ({sys.prefix})', versions, frozenset(broken), findings)


@functools.cache
def _trials(rmw: str) -> dict[Library, Trial]:
    """What a program's libraries are does not change while it runs, but for the middleware that `rmw` asks for."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return dict(zip(LIBRARIES, pool.map(lambda library: attempt(library.code), LIBRARIES)))


def _broken(library: Library, trial: Trial, is_needed: bool, versions: dict[str, str]) -> Finding:
    severity = Severity.FAIL if is_needed else Severity.WARN
    if trial.lacks(library.name):
        title = f'{library.name} is not installed in this Python'
        evidence = f'{sys.executable} does not find it. Without it, {library.purpose}.'
        return Finding(severity, title, evidence, _where_to_install(), commands=(library.install,))
    title = f'{library.name} is installed but does not work'
    evidence = f'{trial.problem}. Without it, {library.purpose}.'
    numpy = versions.get('numpy', '')
    if library.name in ('cv_bridge', 'torch', 'pyarrow') and not numpy.startswith('1.') and _blames_numpy(library, trial):
        fix = f'This is NumPy {numpy}. Packages that were built for NumPy 1 do not work with it, so install NumPy 1.'
        return Finding(severity, title, evidence, fix, commands=("pip install 'numpy<2'",))
    rmw = os.environ.get('RMW_IMPLEMENTATION', '')
    if library.name == 'rclpy' and rmw and rmw in trial.problem:
        fix = f'The environment variable RMW_IMPLEMENTATION asks for {rmw}. Install it, or unset the variable.'
        return Finding(severity, title, evidence, fix, commands=(f'sudo apt install ros-$ROS_DISTRO-{rmw.replace("_", "-")}',))
    return Finding(severity, title, evidence, library.repair, commands=(library.install,))


def _blames_numpy(library: Library, trial: Trial) -> bool:
    # Boost's extension says nothing of NumPy in its last line, or ends the process.
    return library.name == 'cv_bridge' or 'numpy' in trial.problem.lower()


def _where_to_install() -> str:
    if sys.prefix == sys.base_prefix:
        return 'Install it, or start the program in the environment that has it.'
    return f'Install it into {sys.prefix}. Only environments made with --system-site-packages see packages from apt.'


def _cuda(torch: str) -> Iterator[Finding]:
    device = next((name for name in _NVIDIA_DEVICES if Path(name).exists()), '')
    if not device or not torch or 'no CUDA device' not in torch:
        return
    evidence = f'{device} exists, and torch is {torch}.'
    if 'without CUDA' in torch:
        fix = 'Install a torch build with CUDA (on a Jetson, the build from NVIDIA).'
        yield Finding(Severity.WARN, 'this torch cannot use the GPU', evidence, fix)
    else:
        fix = 'Check that the GPU driver is new enough for this version of CUDA.'
        yield Finding(Severity.WARN, 'torch finds no usable GPU', evidence, fix, commands=('nvidia-smi',))
