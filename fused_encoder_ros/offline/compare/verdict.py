"""What a comparison means: whether it is within the limits that were given, and what explains the differences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity, Verdict, worst_first
from fused_encoder_ros.diagnosis.wording import count, some
from fused_encoder_ros.offline.compare.comparison import Comparison, InputDifference, Side
from fused_encoder_ros.offline.compare.recorded import JOINT_POSITIONS

_LONGEST = 40
"""Characters of a value: lists of joints are long."""


@dataclass(frozen=True)
class Limits:
    """What two files must keep to; None and False ask for nothing.

    Attributes:
        max_difference: largest absolute difference of any value; 0 asks for equal values.
        min_cosine: smallest cosine of any set.
        same_sets: whether both must have the same stamps.
    """

    max_difference: float | None = None
    min_cosine: float | None = None
    same_sets: bool = False

    @property
    def are_given(self) -> bool:
        """Whether anything is asked for."""
        return self != Limits()


def judge(comparison: Comparison, limits: Limits) -> Verdict:
    """FAIL beyond a limit and for NaN; PASS within the limits or where all is equal; else NOTE, which judges nothing."""
    findings = worst_first((*_held_against(comparison, limits), *_reasons(comparison)))
    if findings and findings[0].severity is Severity.FAIL:
        severity = Severity.FAIL
    else:
        is_same = comparison.equal == comparison.a.sets == comparison.b.sets
        severity = Severity.PASS if limits.are_given or is_same else Severity.NOTE
    return Verdict(severity, _sentence(comparison), findings)


def number(value: float | None) -> str:
    """A difference as a person reads it."""
    return 'not known' if value is None else f'{value:.3g}'


def cosine(value: float) -> str:
    """A cosine; close to 1 as its distance from there."""
    return f'1 − {1 - value:.2g}' if 0 < 1 - value < 1e-4 else f'{value:.6f}'


def _sentence(comparison: Comparison) -> str:
    figures = comparison.figures
    if comparison.equal == comparison.sets:
        return f'The features of {_sets(comparison.sets)} in both are equal, bit for bit.'
    if figures is None:
        return f'{_sets(comparison.sets)} are in both, and none of them has finite features in both.'
    return (
        f'The features of {_sets(figures.sets)} in both differ by {number(figures.largest)} at most, with a median of '
        f'{number(figures.median)}; the smallest cosine is {cosine(figures.cosine_least)}.'
    )


def _held_against(comparison: Comparison, limits: Limits) -> Iterator[Finding]:
    figures = comparison.figures
    for side in (comparison.a, comparison.b):
        if side.not_finite:
            yield Finding(
                Severity.FAIL,
                'features hold NaN or infinity',
                f'{side.file}: {_sets(side.not_finite)}, which no figure includes.',
                'The node and `encode` never write such features. Find out which program wrote or changed the file.',
            )
    if limits.max_difference is not None and figures and figures.largest > limits.max_difference:
        yield Finding(
            Severity.FAIL,
            'the largest difference is above --max-difference',
            f'It is {figures.largest:.6g}, but only {limits.max_difference:g} is allowed.',
        )
    if limits.min_cosine is not None and figures and figures.cosine_least < limits.min_cosine:
        yield Finding(
            Severity.FAIL,
            'the smallest cosine is below --min-cosine',
            f'It is {cosine(figures.cosine_least)}, but at least {limits.min_cosine:g} is required.',
        )
    for side in (comparison.a, comparison.b):
        if side.alone:
            severity = Severity.FAIL if limits.same_sets else Severity.NOTE
            yield Finding(severity, f'{_sets(side.alone)} only in {side.file}', _where(side))


def _reasons(comparison: Comparison) -> Iterator[Finding]:
    if comparison.other_inputs:
        yield _other_inputs(comparison)
    if comparison.made_with:
        told = [f'{name} {_short(a)} and {_short(b)}' for name, a, b in comparison.made_with]
        yield Finding(Severity.NOTE, 'the files were made differently', f'{some(told, 12)}.')
    if comparison.equal == comparison.sets:
        return
    if not comparison.inputs_known:
        yield Finding(
            Severity.NOTE,
            'it is not known whether the sets are made of the same frames and joints',
            'At least one file does not contain this.',
            "To include it in a bag, record the node's topic `sets` too.",
        )
    elif _say_all_the_same(comparison) and (same := comparison.figures_same_inputs) and same.largest:
        yield Finding(
            Severity.NOTE,
            'sets of the same frames and joints differ, though both files were made in the same way',
            f'{_sets(same.sets)} differ by up to {number(same.largest)}. Another processor, GPU or version of a library may '
            'be the cause: these change the last bits, and the files do not contain them.',
        )


def _say_all_the_same(comparison: Comparison) -> bool:
    return not comparison.made_with and comparison.a.made_with.keys() == comparison.b.made_with.keys()


def _where(side: Side) -> str:
    if side.alone_outside == side.alone:
        return 'All are before the first or after the last set of the other file.'
    outside = f', {count(side.alone_outside)} before or after' if side.alone_outside else ''
    return f'{count(side.alone - side.alone_outside)} between sets of the other file{outside}.'


def _other_inputs(comparison: Comparison) -> Finding:
    same = comparison.figures_same_inputs
    rest = f' Sets of the same inputs differ by {number(same.largest)} at most.' if same else ''
    return Finding(
        Severity.NOTE,
        f'{_sets(comparison.other_inputs)} in both are made of other frames or joints',
        f'They differ in {some([_input(one) for one in comparison.inputs], 12)}.{rest}',
    )


def _input(difference: InputDifference) -> str:
    unit = 'rad or m' if difference.name == JOINT_POSITIONS else 'ms'
    by = f'by up to {number(difference.largest)} {unit}' if difference.largest is not None else 'in number'
    return f'{difference.name} in {_sets(difference.sets)} {by}'


def _sets(number: int) -> str:
    return f'{count(number)} set{"" if number == 1 else "s"}'


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…'
