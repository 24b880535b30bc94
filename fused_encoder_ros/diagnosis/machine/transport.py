"""Whether the middleware is set up for camera images, as far as this end can tell: Fast DDS and Zenoh."""

from __future__ import annotations

import os
import re
import shutil
import socket
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity
from fused_encoder_ros.settings.dds import LARGE_IMAGES_PROFILE, PROFILE_VARIABLES

FAST_DDS = 'rmw_fastrtps'
ZENOH = 'rmw_zenoh'
_DEFAULT_SEGMENT = 512 * 1024
_BEFORE_FAST_DDS_3 = ('foxy', 'galactic', 'humble', 'iron', 'jazzy')
_SHARED_MEMORY = Path('/dev/shm')
_INSTALLED_PROFILE = '$(ros2 pkg prefix fused_encoder_ros)/share/fused_encoder_ros/config/fastdds_large_images.xml'
_SESSION, _OVERRIDE = 'ZENOH_SESSION_CONFIG_URI', 'ZENOH_CONFIG_OVERRIDE'
_POOL = 'transport/shared_memory/transport_optimization/pool_size'
_DEFAULT_POOL = 48 * 1024**2
_DEFAULT_ROUTER = 'tcp/localhost:7447'
_ROUTER_PATIENCE_S = 2.0


@dataclass(frozen=True)
class Transport:
    """How this process reaches the others.

    Attributes:
        rmw: the middleware.
        variable, profile: the environment variable that configures it, and what it holds: Fast DDS's profile, or Zenoh's
            session file or overrides; '' for nothing.
        segment_bytes: shared memory of a program that is started with this configuration; 0 where Zenoh's is off.
        problem: why the profile does not count, or which Zenoh router does not answer; or an empty string.
        free_bytes: free shared memory of this machine; None where there is none.
    """

    rmw: str
    variable: str
    profile: str
    segment_bytes: int
    problem: str
    free_bytes: int | None


def read_transport(rmw: str, environment: Mapping[str, str] = os.environ) -> Transport:
    """What the environment says; and whether a Zenoh router answers, where one is needed."""
    free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else None
    return Transport(rmw, *(_read_zenoh if rmw.startswith(ZENOH) else _read_fast_dds)(environment), free)


def judge_transport(transport: Transport, cameras: int, largest_image: int, is_losing: bool) -> Iterator[Finding]:
    """Findings for so many cameras with images of up to so many bytes (0: none came), of which some are lost or not."""
    if transport.rmw.startswith(FAST_DDS):
        yield from _judge_fast_dds(transport, largest_image, is_losing)
    elif transport.rmw.startswith(ZENOH):
        yield from _judge_zenoh(transport, largest_image, is_losing)
    else:
        return
    needed = (cameras + 1) * transport.segment_bytes  # a camera driver's each, and the encoder's
    if transport.free_bytes is not None and transport.free_bytes < needed:
        title = f'{_SHARED_MEMORY} is nearly full'
        evidence = f'{_kib(transport.free_bytes)} are free; {cameras} camera(s) and the encoder need {_kib(needed)}.'
        fix = 'Remove what programs that ended have left there, or give the container more.'
        clean = ('fastdds shm clean',) if transport.rmw.startswith(FAST_DDS) else ()
        yield Finding(Severity.WARN, title, evidence, fix, commands=(*clean, 'docker run --shm-size=1g ...'))


# Fast DDS


def _read_fast_dds(environment: Mapping[str, str]) -> tuple[str, str, int, str]:
    variable = PROFILE_VARIABLES[_is_fast_dds_3(environment)]
    profile, segment, problem = environment.get(variable, ''), _DEFAULT_SEGMENT, ''
    if profile:
        try:
            sizes = [int(size.text or 0) for size in ET.parse(profile).iter() if size.tag.endswith('segment_size')]
            segment = max([_DEFAULT_SEGMENT, *sizes])
        except (OSError, ET.ParseError, ValueError) as error:
            problem = f'{variable} names {profile}, which cannot be read: {error}'
    return variable, profile, segment, problem


def _is_fast_dds_3(environment: Mapping[str, str]) -> bool:
    distribution = environment.get('ROS_DISTRO')
    if distribution is None:  # ROS out of Python wheels does not say
        return PROFILE_VARIABLES[0] not in environment and PROFILE_VARIABLES[1] in environment
    return distribution not in _BEFORE_FAST_DDS_3


def _judge_fast_dds(transport: Transport, largest_image: int, is_losing: bool) -> Iterator[Finding]:
    if transport.problem:
        evidence, fix = f'{transport.problem}.', 'Set it to a file that exists and is valid.'
        yield Finding(Severity.WARN, 'the profile of Fast DDS is not used', evidence, fix, commands=(_export(transport),))
    elif largest_image > transport.segment_bytes:
        title = f'images of {_kib(largest_image)} do not fit into the shared memory of Fast DDS'
        said = f'{transport.variable} is {transport.profile or "not set"}'
        segment = f'a program started in this environment has {_kib(transport.segment_bytes)} of shared memory'
        evidence = f'{said}, so {segment}. What the drivers were started with cannot be seen from here.'
        fix = 'The sender needs more shared memory: start the camera drivers with this profile, and the encoder too.'
        severity = Severity.WARN if is_losing else Severity.NOTE
        yield Finding(severity, title, evidence, fix, commands=(_export(transport),))


def _export(transport: Transport) -> str:
    return f'export {transport.variable}={LARGE_IMAGES_PROFILE or _INSTALLED_PROFILE}'


# Zenoh


def _read_zenoh(environment: Mapping[str, str]) -> tuple[str, str, int, str]:
    pairs = (pair.partition('=') for pair in environment.get(_OVERRIDE, '').split(';'))
    override = {key.strip(): value.strip() for key, _, value in pairs}
    is_shared = override.get('transport/shared_memory/enabled') == 'true'
    pool = environment.get('ZENOH_SHM_ALLOC_SIZE') or override.get(_POOL, '')
    segment = (int(pool) if pool.isdigit() else _DEFAULT_POOL) if is_shared else 0
    variable = _SESSION if environment.get(_SESSION) else _OVERRIDE
    return variable, environment.get(variable, ''), segment, _router_problem(environment, override)


def _router_problem(environment: Mapping[str, str], override: Mapping[str, str]) -> str:
    """Which router does not answer; empty where one does, or where none is needed or its place is not known."""
    endpoints = override.get('connect/endpoints', '' if environment.get(_SESSION) else _DEFAULT_ROUTER)
    routers = re.findall(r'tcp/(\[[^\]]+\]|[^:"/]+):(\d+)', endpoints)
    if not routers or override.get('scouting/multicast/enabled') == 'true' or _any_answers(routers):
        return ''
    return 'no Zenoh router answers at ' + ' or '.join(f'{host}:{port}' for host, port in routers)


def _any_answers(routers: Sequence[tuple[str, str]]) -> bool:
    for host, port in routers:
        try:
            socket.create_connection((host.strip('[]'), int(port)), _ROUTER_PATIENCE_S).close()
            return True
        except (OSError, OverflowError):
            continue
    return False


def _judge_zenoh(transport: Transport, largest_image: int, is_losing: bool) -> Iterator[Finding]:
    if transport.problem:
        evidence = 'Programs that start without a router do not find each other. Those that are connected stay connected.'
        fix = 'Start the router before the robot and the node, or give the address of the router that runs.'
        commands = ('ros2 run rmw_zenoh_cpp rmw_zenohd', f'export {_OVERRIDE}=\'connect/endpoints=["tcp/HOST:7447"]\'')
        yield Finding(Severity.WARN if largest_image else Severity.FAIL, transport.problem, evidence, fix, commands=commands)
    elif is_losing and largest_image and not transport.segment_bytes and transport.variable == _OVERRIDE:
        evidence = (
            f'Images of {_kib(largest_image)} go through sockets, and publishers drop what a socket does not take in time.'
        )
        fix = 'Enable it for the router, the camera drivers and the encoder. Each program then takes 48 MiB of /dev/shm.'
        settings = [part for part in (transport.profile, 'transport/shared_memory/enabled=true') if part]
        command = f"export {_OVERRIDE}='{';'.join(settings)}'"
        yield Finding(Severity.WARN, 'the shared memory of Zenoh is off', evidence, fix, commands=(command,))


def _kib(number: int) -> str:
    return f'{number / 1024:,.0f} KiB'
