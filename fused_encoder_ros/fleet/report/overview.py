"""What a folder of results says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fused_encoder_ros.diagnosis.rules.findings import Severity
from fused_encoder_ros.diagnosis.wording import count
from fused_encoder_ros.fleet.manifest import BEGUN, DONE, FAILED, Record
from fused_encoder_ros.fleet.report.comparison import Comparison, compare

_PICTURED = 24
"""Bags that stand out and are shown with a picture: a page has a few MB at most."""

_TYPICAL = 3


@dataclass(frozen=True)
class Overview:
    """What a folder of results says of itself.

    Attributes:
        folder: a path or an address.
        made_with: what the results are made with.
        records: what became of each bag.
    """

    folder: str
    made_with: Mapping[str, Any]
    records: Sequence[Record]

    def of(self, status: str) -> list[Record]:
        """The records of a status."""
        return [record for record in self.records if record.status == status]

    @cached_property
    def comparison(self) -> Comparison:
        """The bags that are done against each other."""
        return compare(self.of(DONE))

    @property
    def shown(self) -> list[str]:
        """Names of the bags that are shown with a picture: those that stand out furthest, and some usual ones."""
        return [*list(self.comparison.reasons)[:_PICTURED], *self.comparison.typical[:_TYPICAL]]

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        if self.of(FAILED):
            return Severity.FAIL
        return Severity.WARN if self.comparison.reasons or self.of(BEGUN) else Severity.PASS

    @property
    def sentence(self) -> str:
        """What became of the bags."""
        begun, failed, standing = len(self.of(BEGUN)), len(self.of(FAILED)), len(self.comparison.reasons)
        parts = [f'{count(len(self.of(DONE)))} of {bags(len(self.records))} {are(len(self.of(DONE)))} done']
        if failed:
            parts.append(f'{count(failed)} failed')
        if begun:
            parts.append(f'{count(begun)} {are(begun)} begun and not finished')
        if standing:
            parts.append(f'{count(standing)} {"stands" if standing == 1 else "stand"} out')
        return ', '.join(parts) + '.'


def bags(number: int) -> str:
    """So many bags."""
    return f'{count(number)} bag{"" if number == 1 else "s"}'


def are(number: int) -> str:
    """The verb for so many."""
    return 'is' if number == 1 else 'are'
