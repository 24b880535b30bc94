"""What the data show, as the profile of the training data judges it."""

from __future__ import annotations

from collections.abc import Iterator

from fused_encoder_ros.content.watch import Told
from fused_encoder_ros.diagnosis.facts.facts import Facts
from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity
from fused_encoder_ros.diagnosis.wording import span
from fused_encoder_ros.settings import Value

_DOUBTFUL = ('too_dark', 'too_bright', 'blurred', 'moved', 'unlike', 'beyond_training')
"""The encoder may still make something of these. The others give features of something else."""


def faults(facts: Facts) -> Iterator[Finding]:
    """A finding for each fault of content; a remark where nothing was there to judge by."""
    if facts.content is None:
        if facts.settings.values['checkpoint'] and facts.settings.values['content_faults'] != 'off':
            yield _nothing_to_judge_by()
        return
    for told in facts.content:
        lasted = (told.last_ns - told.first_ns) / 1e6
        when = f', for {span(lasted)} or longer' if lasted else ''
        evidence = f'{told.evidence[:1].upper()}{told.evidence[1:]}{when}.'
        severity = Severity.WARN if told.fault in _DOUBTFUL else Severity.FAIL
        yield Finding(severity, told.title, evidence, told.fix, _parameters(facts, told))


def _parameters(facts: Facts, told: Told) -> dict[str, Value]:
    """The topics of two cameras that show each other's pictures, exchanged."""
    of = {one.source: one.about for one in facts.content or () if one.fault == 'exchanged'}
    if told.fault != 'exchanged' or of.get(told.about) != told.source:
        return {}
    values = facts.settings.values
    return {f'topics.{told.source}': values[f'topics.{told.about}'], f'topics.{told.about}': values[f'topics.{told.source}']}


def _nothing_to_judge_by() -> Finding:
    evidence = (
        'If cameras are exchanged or turned, colours are wrong or joints are in another unit, the features still look normal. '
        'The checkpoint has no profile of its training data, so such faults cannot be found.'
    )
    fix = 'Make a profile of the recordings that the policy was trained on, and pack it with the checkpoint.'
    commands = (
        'fused-encoder profile RECORDINGS --checkpoint packed.safetensors --out profile',
        'fused-encoder pack CKPT --spec spec.yaml --profile profile/profile.npz --out packed.safetensors',
    )
    title = 'pictures and joint positions are not compared with the training data'
    return Finding(Severity.NOTE, title, evidence, fix, commands=commands)
