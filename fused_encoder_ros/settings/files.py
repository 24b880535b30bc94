"""Reads parameter files: the node's, and those with an observation spec alone."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fused_encoder_ros.errors import ConfigError, in_one_line
from fused_encoder_ros.settings.settings import NODE_NAME, Settings
from fused_encoder_ros.settings.table import OF_EVERY_NODE, SPEC_PARAMETERS, STAMP_OFFSET
from fused_encoder_ros.settings.yaml_of_ros import load_yaml
from fused_encoder_ros.spec import ObservationSpec


def read_parameter_file(path: str | os.PathLike[str], node_name: str = NODE_NAME) -> dict[str, Any]:
    """Read the node's parameters from a ROS parameter file, for `Settings.from_values`.

    It reads the sections `/**`, `/*` and `<node_name>`, each in any namespace. It ignores the sections of other nodes, and
    parameters that every ROS node has, such as `use_sim_time` and `qos_overrides`.

    Returns:
        Values by flat name, such as 'topics.global'.

    Raises:
        ConfigError: if the file cannot be read, or is not a ROS parameter file with such a section.
    """
    content = _read_yaml(path)
    found: dict[str, Any] = {}
    matched = False
    for section, body in content.items():
        if str(section).split('/')[-1] in ('*', '**', node_name):
            if not isinstance(body, dict) or not isinstance(body.get('ros__parameters'), dict):
                raise ConfigError(f'parameter file {path}: section {section} has no ros__parameters')
            matched = True
            _flatten(body['ros__parameters'], '', found)
    if not matched:
        raise ConfigError(f'parameter file {path} has no section for {node_name} {_other_sections(content, node_name)}')
    return {name: value for name, value in found.items() if name.split('.')[0] not in OF_EVERY_NODE}


def sections_of(path: str | os.PathLike[str]) -> list[str]:
    """The sections of a ROS parameter file: names of nodes, and patterns of them.

    Raises:
        ConfigError: when the file cannot be read or is no parameter file.
    """
    return list(map(str, _read_yaml(path)))


def serves(section: str, node: str) -> bool:
    """Whether ROS reads a section for the node of this full name; `*` stands for one part of it, `**` for any number."""
    pattern = re.escape(section if section.startswith('/') else f'/{section}')
    return re.fullmatch(pattern.replace(r'/\*\*', r'(/\w+)*').replace(r'/\*', r'/\w+'), node) is not None


def read_spec_file(path: str | os.PathLike[str]) -> ObservationSpec:
    """An observation spec out of a YAML file: of its fields alone, or a ROS parameter file with them among others.

    Raises:
        ConfigError: when the file cannot be read, or a field is unknown or unusable.
    """
    return _of_training(path).spec


def read_stamp_offsets(path: str | os.PathLike[str]) -> dict[str, float]:
    """`stamp_offset_ms` of each source that has one, ms, out of a file as `read_spec_file` takes it; raises as that does."""
    return _of_training(path).stamp_offset_ms


def _of_training(path: str | os.PathLike[str]) -> Settings:
    content = _read_yaml(path, aliases=True)
    if any(isinstance(body, dict) and 'ros__parameters' in body for body in content.values()):
        values = read_parameter_file(path)
        return Settings.from_values({name: value for name, value in values.items() if _is_of_training(name)})
    found: dict[str, Any] = {}
    try:
        _flatten(content, '', found)
    except RecursionError:
        raise ConfigError(f'{path} has an alias that contains itself; remove it') from None
    if unknown := [name for name in found if not _is_of_training(name)]:
        known = [*SPEC_PARAMETERS, f'{STAMP_OFFSET}SOURCE']
        raise ConfigError(f'{path}: {unknown[0]!r} is not a field of an observation spec; use {known}')
    # As `to_dict` writes it, no statistics are null; as a parameter, an empty list.
    return Settings.from_values({name: [] if value is None else value for name, value in found.items()})


def _is_of_training(name: str) -> bool:
    """Whether a parameter travels with a checkpoint."""
    return name in SPEC_PARAMETERS or name.startswith(STAMP_OFFSET)


def _other_sections(content: Mapping[Any, Any], node_name: str) -> str:
    names = list(map(str, content))
    close = difflib.get_close_matches(node_name, names, 1)
    fix = f'rename {close[0]}' if close else 'rename the section'
    has = f'it has {", ".join(names)}' if names else 'it is empty'
    return f'({has}); {fix} to {node_name}, or to /** for any node'


def _read_yaml(path: str | os.PathLike[str], aliases: bool = False) -> dict[Any, Any]:
    try:
        content = load_yaml(Path(path).read_text(), aliases)
    except OSError as error:
        raise ConfigError(f'parameter file {path} cannot be read: {error.strerror}') from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # no UTF-8, lists in lists in lists
        raise ConfigError(f'parameter file {path} is not YAML as ROS reads it: {in_one_line(error)}') from error
    if not isinstance(content, dict):
        raise ConfigError(f'parameter file {path} is not a ROS parameter file; begin it with "{NODE_NAME}: ros__parameters:"')
    return content


def _flatten(tree: Mapping[str, Any], prefix: str, into: dict[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            _flatten(value, f'{prefix}{key}.', into)
        else:
            into[f'{prefix}{key}'] = value
