"""YAML as ROS reads it in parameter files: what the node takes for a number, the bag tools take for the same number."""

from __future__ import annotations

import re
from typing import Any

import yaml

_BOOL, _INT, _FLOAT = (f'tag:yaml.org,2002:{kind}' for kind in ('bool', 'int', 'float'))
_OTHERS = ('tag:yaml.org,2002:null', 'tag:yaml.org,2002:merge')


def load_yaml(text: str, aliases: bool = False) -> Any:
    """The value that a YAML document stands for. ROS has no aliases; programs that dump one list twice write them.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: if it is not YAML, or has an alias, a list as a key, or a key twice.
    """
    return yaml.load(text, _Loader if aliases else _LoaderWithoutAliases)


class _Loader(yaml.SafeLoader):
    bool_values = {**yaml.SafeLoader.bool_values, 'y': True, 'n': False}  # noqa: RUF012  # as the base class has it
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in known if tag in _OTHERS]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f'a key in line {line} is a list or a mapping; give it a name')
            if key.value in keys:
                raise yaml.YAMLError(f'{key.value} in line {line} is there twice; remove one of them')
            keys.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class _LoaderWithoutAliases(_Loader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(f'ROS knows no aliases, as *{event.anchor} in line {event.start_mark.line + 1}; write it out')
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


for _tag, _pattern, _first in (
    (_BOOL, '(?:y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON|n|N|no|No|NO|false|False|FALSE|off|Off|OFF)$', 'yYnNtTfFoO'),
    (_INT, '[-+]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$', '-+0123456789'),
    (
        _FLOAT,
        r'[-+]?(?:\.[0-9]+|[0-9]+\.?[0-9]*)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$',
        '-+.0123456789',
    ),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))
