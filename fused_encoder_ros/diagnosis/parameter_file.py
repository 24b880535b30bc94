"""A parameter file for the node out of what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from fused_encoder_ros.diagnosis.facts.facts import Facts
from fused_encoder_ros.diagnosis.facts.streams import Stream
from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity, Verdict, as_yaml
from fused_encoder_ros.diagnosis.rules.rules import judge
from fused_encoder_ros.diagnosis.wording import capital, per_cent, printable, span
from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.settings import Settings

_ROUNDS = 3
"""Topics first, then the joints on them, then the tolerance."""
_WIDTH = 110


@dataclass(frozen=True)
class Mended:
    """Parameters after the findings have been followed.

    Attributes:
        values: the stated parameters and the changed ones.
        reasons: the finding behind each changed one.
        facts, verdict: what they give.
    """

    values: dict[str, Any]
    reasons: dict[str, Finding]
    facts: Facts
    verdict: Verdict


def mend(stated: Mapping[str, Any], facts: Facts, examine: Callable[[Settings], Facts]) -> Mended:
    """Follow the findings, and examine again until they ask for nothing more that a parameter could mend."""
    values, verdict = dict(stated), judge(facts)
    reasons: dict[str, Finding] = {}
    for _ in range(_ROUNDS):
        asked = {name: finding for finding in verdict.findings for name in _asked(finding) if name not in reasons}
        if not asked:
            break
        changed = {**values, **{name: finding.parameters[name] for name, finding in asked.items()}}
        try:
            settings = Settings.from_values(changed)
        except ConfigError:
            break  # a packed checkpoint contradicts it, and is right
        values, reasons = changed, {**reasons, **asked}
        facts = examine(settings)
        verdict = judge(facts)
    return Mended(values, reasons, facts, verdict)


def _asked(finding: Finding) -> Mapping[str, Any]:
    return finding.parameters if finding.severity < Severity.NOTE else {}


def write_parameters(mended: Mended, origin: str) -> str:
    """The text of a ROS parameter file; `origin` says where the figures come from."""
    lines = [
        f'# Written by `fused-encoder doctor` from {origin}.',
        f'# {mended.verdict.severity.name}: {mended.verdict.sentence}',
    ]
    for finding in mended.verdict.findings:
        if finding.severity < Severity.NOTE:
            lines += _comment(f'Not corrected: {_because(finding, mended.facts)}')
    lines += ['/**:', '  ros__parameters:']
    for name, value, reason in _entries(mended):
        lines += ['', *(f'    {line}' for line in _comment(reason)), f'    {name}: {as_yaml(value)}']
    return '\n'.join(map(printable, lines)) + '\n'


def _entries(mended: Mended) -> Iterator[tuple[str, Any, str]]:
    """Name, value and reason of every parameter that the robot decides or the user stated."""
    facts, chosen = mended.facts, mended.facts.settings.values
    reasons = {name: _because(finding, facts) for name, finding in mended.reasons.items()}
    for source, stream in facts.streams.items():
        told = f'{reasons.get(f"topics.{source}", "")} {_describe(stream)}'.strip()
        yield f'topics.{source}', chosen[f'topics.{source}'], told
    yield 'image_transport', chosen['image_transport'], reasons.get('image_transport', '')
    if 'joint_names' in mended.values or not chosen['checkpoint']:
        told = reasons.get('joint_names', '')
        order = "The order is that of the encoder's input, as in training."
        yield 'joint_names', list(facts.settings.spec.joint_names), f'{told} {order}'.strip()
    yield 'tolerance_ms', chosen['tolerance_ms'], reasons.get('tolerance_ms') or _achieved(facts)
    yield 'anchor', chosen['anchor'], _advice(mended, 'anchor')
    done = {*(f'topics.{source}' for source in facts.streams), 'image_transport', 'joint_names', 'tolerance_ms', 'anchor'}
    for name, value in mended.values.items():
        if name not in done:
            yield name, value, reasons.get(name, '')


def _because(finding: Finding, facts: Facts) -> str:
    return f'{capital(finding.title, facts.streams)}. {finding.evidence} {finding.fix}'


def _describe(stream: Stream) -> str:
    told = [f'{stream.rate_hz:.1f} Hz'] if stream.rate_hz else []
    told += list(stream.contents)[:1]
    if stream.delay:
        told.append(f'{span(stream.delay.middle_ms)} from stamp to arrival')
    return f'Seen: {", ".join(told)}.' if told else ''


def _achieved(facts: Facts) -> str:
    cell = facts.what_if.cell(facts.anchor, facts.tolerance_ms)
    if cell.p99_ms is None:
        return ''
    return f'{per_cent(cell.share)} of the anchor frames become sets, 99 % of them with a skew of at most {span(cell.p99_ms)}.'


def _advice(mended: Mended, name: str) -> str:
    """Of the remarks: what could be changed, and is not."""
    return ' '.join(
        _because(f, mended.facts) for f in mended.verdict.findings if f.severity is Severity.NOTE and name in f.parameters
    )


def _comment(text: str) -> list[str]:
    return [f'# {line}' for line in wrap(text, _WIDTH)]
