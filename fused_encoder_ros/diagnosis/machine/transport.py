"""Whether camera images fit through Fast DDS's shared memory, as far as this end can tell."""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity
from fused_encoder_ros.settings.dds import LARGE_IMAGES_PROFILE, PROFILE_VARIABLES

FAST_DDS = 'rmw_fastrtps'
_DEFAULT_SEGMENT = 512 * 1024
_BEFORE_FAST_DDS_3 = ('foxy', 'galactic', 'humble', 'iron', 'jazzy')
_SHARED_MEMORY = Path('/dev/shm')
_INSTALLED_PROFILE = '$(ros2 pkg prefix fused_encoder_ros)/share/fused_encoder_ros/config/fastdds_large_images.xml'


@dataclass(frozen=True)
class Transport:
    """How this process reaches DDS.

    Attributes:
        rmw: the middleware.
        variable, profile: the environment variable that names Fast DDS's profile, and the file it names; '' for none.
        segment_bytes: shared-memory segment of a program that is started with this profile.
        problem: why the profile does not count, or an empty string.
        free_bytes: free shared memory of this machine; None where there is none.
    """

    rmw: str
    variable: str
    profile: str
    segment_bytes: int
    problem: str
    free_bytes: int | None


def read_transport(rmw: str, environment: Mapping[str, str] = os.environ) -> Transport:
    """What the environment says."""
    variable = PROFILE_VARIABLES[_is_fast_dds_3(environment)]
    profile, segment, problem = environment.get(variable, ''), _DEFAULT_SEGMENT, ''
    if profile:
        try:
            sizes = [int(size.text or 0) for size in ET.parse(profile).iter() if size.tag.endswith('segment_size')]
            segment = max([_DEFAULT_SEGMENT, *sizes])
        except (OSError, ET.ParseError, ValueError) as error:
            problem = f'{variable} names {profile}, which cannot be read: {error}'
    free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else None
    return Transport(rmw, variable, profile, segment, problem, free)


def _is_fast_dds_3(environment: Mapping[str, str]) -> bool:
    distribution = environment.get('ROS_DISTRO')
    if distribution is None:  # ROS out of Python wheels does not say
        return PROFILE_VARIABLES[0] not in environment and PROFILE_VARIABLES[1] in environment
    return distribution not in _BEFORE_FAST_DDS_3


def judge_transport(transport: Transport, cameras: int, largest_image: int, is_losing: bool) -> Iterator[Finding]:
    """Findings for so many cameras with images of up to so many bytes, of which some are lost or not."""
    if not transport.rmw.startswith(FAST_DDS):
        return
    if transport.problem:
        evidence, fix = f'{transport.problem}.', 'Name a file that is there.'
        yield Finding(Severity.WARN, "Fast DDS's profile is not in use", evidence, fix, commands=(_export(transport),))
    elif largest_image > transport.segment_bytes:
        title = f'images of {_kib(largest_image)} do not fit into the shared memory of Fast DDS'
        said = f'{transport.variable} is {transport.profile or "not set"}'
        segment = f'the segment of each program started so is {_kib(transport.segment_bytes)}'
        evidence = f'{said}: {segment}. What the drivers were started with is not seen from here.'
        fix = 'It belongs to the sender: start the camera drivers with a larger one, and the encoder too.'
        severity = Severity.WARN if is_losing else Severity.NOTE
        yield Finding(severity, title, evidence, fix, commands=(_export(transport),))
    needed = (cameras + 1) * transport.segment_bytes  # a camera driver's each, and the encoder's
    if transport.free_bytes is not None and transport.free_bytes < needed:
        title = f'{_SHARED_MEMORY} is nearly full'
        evidence = f'{_kib(transport.free_bytes)} are free; {cameras} camera(s) and the encoder take {_kib(needed)}.'
        fix = 'Remove what ended programs left, or give a container more.'
        yield Finding(Severity.WARN, title, evidence, fix, commands=('fastdds shm clean', 'docker run --shm-size=1g ...'))


def _export(transport: Transport) -> str:
    return f'export {transport.variable}={LARGE_IMAGES_PROFILE or _INSTALLED_PROFILE}'


def _kib(number: int) -> str:
    return f'{number / 1024:,.0f} KiB'
