"""What a finding is: what is so, what shows it, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from shlex import quote
from typing import Any

import yaml

from fused_encoder_ros.diagnosis.wording import printable
from fused_encoder_ros.settings import Value

_TOPICS = 'topics.'


class Severity(IntEnum):
    """How bad it is, the worst first."""

    FAIL = 0
    WARN = 1
    NOTE = 2
    PASS = 3


@dataclass(frozen=True)
class Finding:
    """One fault or remark.

    Attributes:
        severity: how bad it is.
        title: what is so, in a clause.
        evidence: what shows it, in sentences.
        fix: what to do, in sentences; empty where a remark asks for nothing.
        parameters: values of the node's parameters that mend it.
        commands: shell commands that mend it.
    """

    severity: Severity
    title: str
    evidence: str
    fix: str = ''
    parameters: Mapping[str, Value] = field(default_factory=dict)
    commands: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """The parameters as options of `fused-encoder`."""
        return [option for name, value in self.parameters.items() for option in _options(name, value)]

    @property
    def lines(self) -> list[str]:
        """The parameters as lines of a parameter file."""
        return [f'{name}: {as_yaml(value)}' for name, value in self.parameters.items()]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            'severity': self.severity.name.lower(),
            'title': self.title,
            'evidence': self.evidence,
            'fix': self.fix,
            'parameters': dict(self.parameters),
            'commands': list(self.commands),
        }


def as_yaml(value: Value) -> str:
    """A parameter's value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=2**20, allow_unicode=True)
    return text.removesuffix('\n').removesuffix('\n...')


def _options(name: str, value: Value) -> list[str]:
    if name.startswith(_TOPICS):
        topics = value if isinstance(value, list) else [value]
        return [f'--topic {quote(f"{name.removeprefix(_TOPICS)}={topic}")}' for topic in topics]
    return [f'--set {quote(f"{name}={as_yaml(value)}")}']


@dataclass(frozen=True)
class Verdict:
    """The outcome in one sentence, and all that it rests on, the worst first."""

    severity: Severity
    sentence: str
    findings: list[Finding]

    def __str__(self) -> str:
        lines = [f'{self.severity.name}: {self.sentence}']
        for finding in self.findings:
            told = ' '.join(filter(None, (finding.evidence, finding.fix)))
            lines.append(f'  {finding.severity.name.lower()}  {finding.title}: {told}')
            lines += [f'        {option}' for option in finding.options]
        return '\n'.join(map(printable, lines))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        findings = [finding.to_dict() for finding in self.findings]
        return {'verdict': self.severity.name.lower(), 'sentence': self.sentence, 'findings': findings}


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sorted by severity; of equally bad ones the first stays first."""
    return sorted(findings, key=lambda finding: finding.severity)


def worst_of(findings: Iterable[Finding]) -> Severity:
    """The severity of all together; remarks do not count."""
    return min((f.severity for f in findings if f.severity is not Severity.NOTE), default=Severity.PASS)
