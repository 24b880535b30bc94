"""Programs of the package that start at once: forked from a process that has imported torch already.

That import takes a second of CPU, and the tests start some two hundred programs. After its imports such a program is one
like any other: a process with arguments, environment, output and signals of its own. Tests of what happens while a program
starts run a Python of their own.

    python test/preloaded.py serve SOCKET            # the process that is forked; it ends with its standard input
    python test/preloaded.py run SOCKET MODULE ...   # a client that stands for a program, for scripts
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ('fused_encoder_ros.model.model', 'fused_encoder_ros.offline.bag', 'fused_encoder_ros.cli')
_LARGEST = 1 << 17
_server: subprocess.Popen[bytes] | None = None


class Program:
    """As much of `subprocess.Popen` as the tests use."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self._connection = connection
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._await(0.0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._await(timeout)
        if code is None:
            raise TimeoutError(f'process {self.pid} has not ended after {timeout} s')
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _await(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = json.loads(self._connection.recv(_LARGEST))
            except (BlockingIOError, TimeoutError):
                return None
            self._connection.close()
        return self.returncode


def address() -> str:
    """Where this process's server listens; starts it."""
    global _server
    name = f'fused-encoder-tests-{os.getpid()}'
    if _server is None:
        command = [sys.executable, __file__, 'serve', name]
        _server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert _server.stdout is not None and _server.stdout.readline() == b'ready\n', 'the server has not started'
    return name


def start(module: str, *arguments: object, stdout: IO[Any], stderr: IO[Any]) -> Program:
    """As `python -m MODULE ...`, in the environment of this process and with nothing to read."""
    with open(os.devnull) as nothing:
        return _ask(address(), module, [str(argument) for argument in arguments], [nothing, stdout, stderr])


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with `capture_output` and `text`."""
    with tempfile.TemporaryFile('w+') as stdout, tempfile.TemporaryFile('w+') as stderr:
        code = start(module, *arguments, stdout=stdout, stderr=stderr).wait(120)
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(arguments, code, stdout.read(), stderr.read())


def client(module: str) -> str:
    """A command line that stands for `python -m MODULE` in a script."""
    return shlex.join([sys.executable, '-S', __file__, 'run', address(), module])


def _ask(name: str, module: str, arguments: list[str], files: Sequence[IO[Any]]) -> Program:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(f'\0{name}')
    job = {'module': module, 'arguments': arguments, 'folder': os.getcwd(), 'environment': dict(os.environ)}
    socket.send_fds(connection, [json.dumps(job).encode()], [file.fileno() for file in files])
    return Program(connection, json.loads(connection.recv(_LARGEST)))


def serve(name: str) -> dict[str, Any]:
    """Fork for every job that is asked for; returns in the children."""
    for module in HEAVY:
        __import__(module)
    # rclpy and pyarrow start threads when they are imported, so each program imports them for itself.
    assert len(os.listdir('/proc/self/task')) == 1, 'what has threads cannot be forked'
    gc.freeze()  # or each program's collector would touch, and so copy, all the memory that it shares with this process
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f'\0{name}')
    listener.listen(16)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.write(1, b'ready\n')
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    running: dict[int, socket.socket] = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                text, files, _, _ = socket.recv_fds(connection, _LARGEST, 3)
                pid = os.fork()
                if not pid:
                    selector.close()
                    for inherited in (listener, connection, *running.values()):
                        inherited.close()
                    job: dict[str, Any] = json.loads(text)
                    _become(job, files)
                    return job
                for file in files:
                    os.close(file)
                connection.send(json.dumps(pid).encode())
                running[pid] = connection
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                selector.register(connection, selectors.EVENT_READ, pid)
            elif isinstance(key.fileobj, socket.socket):  # whoever asked has gone
                selector.unregister(key.fileobj)
                os.kill(key.data, signal.SIGTERM)
            elif key.data:
                selector.unregister(key.fileobj)
                os.close(key.fd)
                connection = running.pop(key.data)
                status = os.waitstatus_to_exitcode(os.waitpid(key.data, 0)[1])
                if connection in {other.fileobj for other in selector.get_map().values()}:
                    selector.unregister(connection)
                    connection.send(json.dumps(status).encode())
                connection.close()
            else:  # standard input has ended
                for pid in running:
                    os.kill(pid, signal.SIGTERM)
                sys.exit()


def _become(job: dict[str, Any], files: list[int]) -> None:
    """What a new process would have."""
    import faulthandler

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(job['environment'])
    os.chdir(job['folder'])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable()
    sys.modules.pop(job['module'], None)
    sys.argv = [job['module'], *job['arguments']]


def main() -> None:
    if sys.argv[1] == 'run':
        name, module, *arguments = sys.argv[2:]
        code = _ask(name, module, arguments, [sys.stdin, sys.stdout, sys.stderr]).wait()
        sys.exit(code if code >= 0 else 128 - code)
    sys.path[0] = str(ROOT)
    job = serve(sys.argv[2])
    import runpy

    runpy.run_module(job['module'], run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    main()
