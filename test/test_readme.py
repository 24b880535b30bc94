"""The README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from fused_encoder_ros.settings import PARAMETERS, Parameter

README = Path(__file__).parent.parent / 'README.md'


def parameter_table() -> str:
    """The table of parameters, from the code."""
    rows = [(f'`{p.name}`', default(p), allowed(p), 'live' if p.live else '', p.description) for p in PARAMETERS]
    return '\n'.join(
        '| ' + ' | '.join(row) + ' |' for row in [('name', 'default', 'allowed', 'live', 'what it does'), ('---',) * 5, *rows]
    )


def default(parameter: Parameter) -> str:
    value = parameter.default
    if value == []:
        return 'empty'
    if parameter.name == 'joint_names':
        return '`left_joint_1` … `left_joint_7`, `left_gripper`, the same right'
    if isinstance(value, list):
        return ', '.join(f'`{item}`' for item in value)
    if isinstance(value, bool):
        return f'`{str(value).lower()}`'
    return f'`{value}`' if value != '' else '`""`'


def allowed(parameter: Parameter) -> str:
    if parameter.choices:
        return ', '.join(f'`{choice}`' if choice else '`""`' for choice in parameter.choices)
    if parameter.minimum is not None and parameter.maximum is not None:
        return f'{parameter.minimum:g} … {parameter.maximum:g}'
    return ''


def test_parameter_table_is_that_of_the_code() -> None:
    text = README.read_text()
    (table,) = re.findall(r'<!-- parameters:.*?-->\n(.*?)\n<!-- end of parameters -->', text, re.DOTALL)
    assert table == parameter_table(), f'put this table into README.md:\n{parameter_table()}'


def test_links_lead_to_files() -> None:
    for link in re.findall(r'\]\(([^)#]+)\)', README.read_text()):
        assert (README.parent / link).exists(), link
