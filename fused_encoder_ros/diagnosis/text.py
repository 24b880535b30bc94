"""A diagnosis for a terminal: what was examined, a block for each finding, and the verdict at the end."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from fused_encoder_ros.content.offsets import LEAST_S, Offset
from fused_encoder_ros.diagnosis.diagnosis import Diagnosis
from fused_encoder_ros.diagnosis.facts.facts import Facts
from fused_encoder_ros.diagnosis.facts.streams import Stream
from fused_encoder_ros.diagnosis.rules.findings import Finding
from fused_encoder_ros.diagnosis.wording import describe_offset, per_cent, printable, span

_WIDTH, _LABEL = 110, 14


def as_text(diagnosis: Diagnosis) -> str:
    """The lines of it, safe to print whatever a bag's strings hold."""
    lines = [*_examined(diagnosis), '']
    for finding in diagnosis.verdict.findings:
        lines += [*_block(finding), '']
    lines.append(f'{diagnosis.verdict.severity.name}: {diagnosis.verdict.sentence}')
    return '\n'.join(map(printable, lines))


def _examined(diagnosis: Diagnosis) -> Iterator[str]:
    yield from _labelled('python', diagnosis.environment.python)
    yield from _labelled('libraries', '; '.join(f'{name} {said}' for name, said in diagnosis.environment.versions.items()))
    if diagnosis.parameters.encoder:
        yield from _labelled('encoder', diagnosis.parameters.encoder)
    if transport := diagnosis.transport:
        profile = f'{transport.variable}={transport.profile}' if transport.profile else f'{transport.variable} is not set'
        yield from _labelled('middleware', f'{transport.rmw}, {profile}')
    if facts := diagnosis.facts:
        for source, stream in facts.streams.items():
            yield from _labelled(source, _stream(facts, source, stream))
        yield from _labelled('skew', _skew(facts))
        for camera, offset in facts.offsets.items():
            yield from _labelled('offset', f'{camera} {describe_offset(offset)}{_hint(facts, offset)}')


def _hint(facts: Facts, offset: Offset) -> str:
    is_short = facts.noun == 'robot' and offset.motion_s < LEAST_S
    return ': move the arms, and listen with --seconds 30' if is_short else ''


def _stream(facts: Facts, source: str, stream: Stream) -> str:
    told = [stream.topic, f'{stream.messages} messages']
    if stream.rate_hz:
        told.append(f'{stream.rate_hz:.1f} Hz')
    told += list(stream.contents)[:1]
    if stream.delay:
        told.append(f'{span(stream.delay.middle_ms)} ± {span(stream.delay.spread_ms / 2)} from stamp to arrival')
    told += sorted(set(facts.offered.get(source, ())))
    return ', '.join(told)


def _skew(facts: Facts) -> str:
    cell = facts.what_if.cell(facts.anchor, facts.tolerance_ms)
    if cell.p99_ms is None:
        return f'no frame of {facts.anchor} can become a set with tolerance_ms {facts.tolerance_ms:g}'
    share = f'{per_cent(cell.share)} of the frames of {facts.anchor} can become sets with tolerance_ms {facts.tolerance_ms:g}'
    return f'{share}, 99 % of them with a skew of at most {span(cell.p99_ms)}'


def _block(finding: Finding) -> Iterator[str]:
    yield f'{finding.severity.name}  {finding.title}'
    yield from _indented('seen', finding.evidence)
    yield from _indented('fix', finding.fix)
    yield from (f'      {line}' for line in finding.lines)
    yield from (f'      $ {command}' for command in finding.commands)


def _indented(label: str, text: str) -> list[str]:
    return wrap(text, _WIDTH, initial_indent=f'  {label}: ', subsequent_indent='      ') if text else []


def _labelled(label: str, text: str) -> list[str]:
    return wrap(text, _WIDTH, initial_indent=f'{label:<{_LABEL}}', subsequent_indent=' ' * _LABEL)
