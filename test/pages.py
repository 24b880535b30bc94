"""Pages that the package writes, checked as text and looked at with a browser."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)

WIDTHS = (360, 400, 768, 1280)

needs_browser = pytest.mark.skipif(
    BROWSER is None, reason='no Chromium here; `apt install chromium` brings the browser that this test looks with'
)


class Page(HTMLParser):
    """Reads a page and objects to what is not sound."""

    ELEMENTS = frozenset(
        re.findall(
            r'\w+',
            'html head meta title style body main header footer section div dl dt dd p h1 h2 h3 ol li span strong small i '
            'code figure figcaption img table caption thead tbody tr th td svg path rect line wbr',
        )
    )

    def __init__(self, also: frozenset[str]) -> None:
        super().__init__()
        self.allowed = self.ELEMENTS | also
        self.open: list[str] = []
        self.text = ''
        self.tables = 0
        self.captions = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag in self.allowed, tag
        assert not [name for name in given if name.startswith('on')], given
        if tag == 'img':
            assert given['alt'] and (given['src'] or '').startswith(('data:image/png;base64,', 'data:image/jpeg;base64,'))
        else:
            assert not {'src', 'href'} & set(given)
        if tag == 'svg':
            assert given['role'] == 'img' and given['aria-label']
        if tag == 'th':
            assert given['scope'] in ('row', 'col')
        self.tables += tag == 'table'
        self.captions += tag == 'caption'
        if tag not in ('meta', 'img', 'wbr', 'input'):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def check_page(text: str, also: Sequence[str] = ()) -> Page:
    """The page is well-formed, accessible, small, and asks for nothing from elsewhere. `also`: elements that it may have."""
    page = Page(frozenset(also))
    page.feed(text)
    page.close()
    assert not page.open and page.tables == page.captions >= 2
    without_pictures = re.sub(r'data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+', '', text)
    assert not re.search(r'https?:|url\(|@import|//', re.sub(r'<wbr>|/', '', without_pictures).replace('text/html', ''))
    assert len(text.encode()) < 2_000_000
    return page


def in_browser(text: str, expression: str, folder: Path) -> list[Any]:
    """What JavaScript says of the page, which it knows as `page`, at each of the `WIDTHS`."""
    frames = ''.join(f'<iframe width="{width}" height="900" srcdoc="{html.escape(text)}"></iframe>' for width in WIDTHS)
    ask = f"""addEventListener('load', () => {{
        document.title = JSON.stringify([...document.querySelectorAll('iframe')].map(frame => {{
            const page = frame.contentDocument;
            return {expression};
        }})) }})"""
    folder.mkdir()
    (folder / 'frames.html').write_text(f'<!DOCTYPE html><title></title><script>{ask}</script><body>{frames}</body>')
    flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync']
    flags += ['--disable-background-networking', '--disable-component-update', f'--user-data-dir={folder / "profile"}']
    command = [str(BROWSER), *flags, '--dump-dom', (folder / 'frames.html').as_uri()]
    home = {**os.environ, 'HOME': str(folder)}  # a browser leaves its things there
    home = {name: value for name, value in home.items() if not name.startswith('XDG_')}
    dumped = subprocess.run(command, env=home, capture_output=True, text=True, timeout=120, check=True).stdout
    (title,) = re.findall('<title>(.*?)</title>', dumped)[:1]
    return list(json.loads(html.unescape(title)))
