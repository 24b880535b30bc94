"""Whether the node would take these parameters and load this checkpoint: by its own refusals, not by rules of another kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fused_encoder_ros.diagnosis.machine.libraries import attempt
from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity
from fused_encoder_ros.diagnosis.wording import capital
from fused_encoder_ros.errors import CheckpointError, ConfigError
from fused_encoder_ros.settings import NODE_NAME, Settings, sections_of, serves

_LOAD = """
import json, sys
from fused_encoder_ros.model import load_model
from fused_encoder_ros.settings import Settings
settings = Settings.from_values(json.loads(sys.argv[1]))
model = load_model(settings.model, settings.spec)
print(json.dumps({'description': model.description, 'is_described': model.is_described, 'is_random': model.is_random}))
"""
_OF_THE_MODEL = ('checkpoint', 'design', 'device', 'engine', 'precision')
_ERRORS = 'fused_encoder_ros.errors.'


@dataclass(frozen=True)
class Parameters:
    """What the parameters come to.

    Attributes:
        values: those that count, by name: what was stated, without a checkpoint that is refused.
        settings: what they make; None when they are refused.
        encoder: the encoder that was loaded, in words; empty when none was.
        findings: about them.
    """

    values: Mapping[str, Any]
    settings: Settings | None
    encoder: str
    findings: list[Finding]


def examine_parameters(values: Mapping[str, Any], has_torch: bool, config: Path | None = None) -> Parameters:
    """Check stated parameters, and load the encoder where they say anything about it.

    Args:
        values: the stated parameters, by name.
        has_torch: without torch no checkpoint is read.
        config: the parameter file that some of them are from.
    """
    stated_checkpoint = values.get('checkpoint')
    without = {name: value for name, value in values.items() if name != 'checkpoint'}
    if not has_torch:
        values = without
    try:
        settings = Settings.from_values(values)
    except (ConfigError, CheckpointError) as error:
        refusal = _refused('the node refuses these parameters', str(error))
        try:
            return Parameters(without, Settings.from_values(without), '', [refusal])
        except ConfigError:
            return Parameters(without, None, '', [refusal])
    encoder = ''
    findings = _of_namespaces(config) if config else []
    if has_torch and any(name in values for name in _OF_THE_MODEL):
        encoder, of_encoder = _load(values)
        findings += of_encoder
    if not stated_checkpoint:
        findings.append(_no_checkpoint())
    return Parameters(values, settings, encoder, findings)


def _of_namespaces(config: Path) -> list[Finding]:
    sections = sections_of(config)
    if any(serves(section, f'/{NODE_NAME}') for section in sections):
        return []
    evidence = f'Its sections are {", ".join(sections)}. A node with another name or namespace ignores them silently.'
    fix = 'Start the node in that namespace, or rename the section to /**, which every node reads.'
    return [Finding(Severity.NOTE, f'{config} is for a node in a namespace', evidence, fix)]


def _load(values: Mapping[str, Any]) -> tuple[str, list[Finding]]:
    trial = attempt(_LOAD, json.dumps(dict(values)))
    if trial.problem:
        return '', [_refused('the encoder does not load', trial.problem)]
    said = json.loads(trial.output)
    if said['is_described'] or said['is_random']:
        return said['description'], []
    evidence = 'Image size, camera order, scaling and joints come from the parameters, and nothing checks that they are right.'
    fix = 'Pack the checkpoint once, with the observation spec of the training.'
    command = f'fused-encoder pack {values["checkpoint"]} --spec spec.yaml --out packed.safetensors'
    title = 'the checkpoint contains no observation spec'
    return said['description'], [Finding(Severity.NOTE, title, evidence, fix, commands=(command,))]


def _refused(title: str, text: str) -> Finding:
    """Errors of this package end with the way out."""
    if text.startswith(_ERRORS):
        text = text.partition(': ')[2]
    told, _, fix = text.rpartition('; ')
    if not told:
        return Finding(Severity.FAIL, title, f'{capital(text)}.', 'Change the parameter that is named here.')
    return Finding(Severity.FAIL, title, f'{told}.', f'{capital(fix)}{"" if fix.endswith("?") else "."}')


def _no_checkpoint() -> Finding:
    evidence = 'Without a checkpoint the encoder has random weights, and its features mean nothing.'
    return Finding(
        Severity.NOTE, 'no checkpoint is given', evidence, 'Give the checkpoint of the training: --set checkpoint=FILE.'
    )
