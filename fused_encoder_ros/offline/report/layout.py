"""What the pages have in common: one file that needs nothing but itself, sections and tables."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity
from fused_encoder_ros.diagnosis.wording import capital
from fused_encoder_ros.errors import OutputError
from fused_encoder_ros.offline.report.html import Html, breakable, join, tag

NOTHING = '–'
WORDS = {Severity.PASS: 'Pass', Severity.WARN: 'Warning', Severity.FAIL: 'Fail', Severity.NOTE: 'Note'}

_SIGNS = {Severity.PASS: '✓', Severity.WARN: '!', Severity.FAIL: '✕', Severity.NOTE: 'i'}

# Nothing may be loaded or run, whatever a bag's strings say, but for the page's own script.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document(kind: str, title: str, body: Html, versions: Mapping[str, str], style: str = '', script: str = '') -> str:
    """The whole page.

    Args:
        kind: what wrote it.
        title: of the window.
        body: the content.
        versions: of the programs involved.
        style: CSS, added to that of all pages.
        script: JavaScript, which runs when the content is there.
    """
    policy = f"{_POLICY}; script-src 'sha256-{_hash(script)}'" if script else _POLICY
    head = join(
        Html('<meta charset="utf-8">'),
        Html(generator(kind)),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag('title', title),
        tag('style', Html(files(__package__).joinpath('style.css').read_text() + style)),
    )
    footer = tag('footer', ' · '.join(f'{program} {number}' for program, number in versions.items()))
    content = tag('body', body, footer, tag('script', Html(script)) if script else '')
    return f'<!DOCTYPE html>\n{tag("html", tag("head", head), content, lang="en")}\n'


def generator(kind: str) -> str:
    """The element that says what wrote a page."""
    return f'<meta name="generator" content="fused_encoder_ros {kind}">'


def banner(severity: Severity, sentence: str) -> Html:
    """What matters most, in a sentence."""
    sign = tag('span', _SIGNS[severity], class_='sign', aria_hidden='true')
    told = tag('p', tag('strong', WORDS[severity]), ' ', sentence)
    return tag('div', sign, told, class_=f'verdict {severity.name.lower()}')


def finding_list(findings: Iterable[Finding], names: Collection[str] = ()) -> Html:
    """Findings with what shows and what mends them. A title that begins with one of `names` keeps its small letter."""
    return tag('ol', *(_finding(finding, names) for finding in findings), class_='findings')


def tiles(figures: Iterable[tuple[str, str]]) -> Html:
    """Figures in large: value and label."""
    return tag('dl', *(tag('div', tag('dt', label), tag('dd', value)) for value, label in figures), class_='tiles')


def section(title: str, *content: object, lead: str = '') -> Html:
    """A part of the page with its title, and a sentence on what it shows."""
    return tag('section', tag('h2', title), tag('p', lead, class_='lead') if lead else '', *content)


def table(caption: str, header: Sequence[object], rows: Iterable[Sequence[object]], style: str = '') -> Html:
    """A table whose first column names the rows."""
    head = tag('tr', *(tag('th', breakable(cell), scope='col') for cell in header))
    body = [
        tag('tr', tag('th', breakable(row[0]), scope='row'), *(tag('td', breakable(cell)) for cell in row[1:])) for row in rows
    ]
    return tag('table', tag('caption', caption), tag('thead', head), tag('tbody', *body), class_=style or None)


def data_uri(kind: str, content: bytes) -> str:
    """A file as an address that holds it."""
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def check_replaceable(out: Path, kind: str) -> None:
    """Raises OutputError when something else than a page of that kind stands where one shall be written."""
    if not out.exists():
        return
    if not out.is_file() or generator(kind).encode() not in out.read_bytes()[:1000]:
        raise OutputError(f'{out} exists and is not a {kind}, so it is not replaced; choose another place')


def _finding(finding: Finding, names: Collection[str]) -> Html:
    state = finding.severity.name.lower()
    mark = tag('span', WORDS[finding.severity], class_='mark')
    options = [tag('code', option) for option in finding.options]
    told = tag('p', ' '.join(filter(None, (finding.evidence, finding.fix))))
    return tag('li', mark, tag('div', tag('h3', capital(finding.title, names)), told, *options), class_=state)


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
