"""All that was examined, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fused_encoder_ros.diagnosis.facts.facts import Facts
from fused_encoder_ros.diagnosis.machine.libraries import Environment
from fused_encoder_ros.diagnosis.machine.parameters import Parameters
from fused_encoder_ros.diagnosis.machine.transport import Transport
from fused_encoder_ros.diagnosis.rules.findings import Finding, Verdict, worst_first, worst_of
from fused_encoder_ros.diagnosis.rules.rules import judge
from fused_encoder_ros.diagnosis.wording import capital


@dataclass(frozen=True)
class Diagnosis:
    """What was examined and found.

    Attributes:
        environment: this Python.
        parameters: the node's, with the checkpoint.
        facts: of the bag or the robot; None when none was examined.
        transport: how this process reaches DDS; None when nothing was examined live.
        verdict: on all of it.
    """

    environment: Environment
    parameters: Parameters
    facts: Facts | None
    transport: Transport | None
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: the verdict's, `environment`, `encoder`, `transport` and `facts`."""
        return {
            **self.verdict.to_dict(),
            'environment': {'python': self.environment.python, **self.environment.versions},
            'encoder': self.parameters.encoder,
            'transport': asdict(self.transport) if self.transport else None,
            'facts': self.facts.to_dict() if self.facts else None,
        }


def conclude(
    environment: Environment,
    parameters: Parameters,
    facts: Facts | None = None,
    transport: Transport | None = None,
    of_transport: Sequence[Finding] = (),
) -> Diagnosis:
    """Put everything together."""
    around = [*environment.findings, *parameters.findings, *of_transport]
    messages = judge(facts) if facts else None
    findings = worst_first([*around, *(messages.findings if messages else [])])
    worst = worst_of(findings)
    sentences = [messages.sentence] if messages else []
    if worst_of(around) < (messages.severity if messages else worst_of([])):
        sentences.insert(0, f'{capital(worst_first(around)[0].title)}.')
    if not sentences:
        sentences = ['No fault was found in this Python and these parameters.']
    return Diagnosis(environment, parameters, facts, transport, Verdict(worst, ' '.join(sentences), findings))
