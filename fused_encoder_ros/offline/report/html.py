"""HTML by functions: what is not marked as HTML is escaped, so that no string of a bag can become markup."""

from __future__ import annotations

from html import escape

from fused_encoder_ros.diagnosis.wording import printable

_LONGEST = 600
"""Characters kept of one string: a bag may hold names of any length."""

_VOID = ('img', 'input')
"""Elements without content, which have no end."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Any text as HTML: escaped, cut where it is endless, without control characters and reversals of direction."""
    if isinstance(value, Html):
        return value
    plain = str(value)
    return Html(escape(printable(f'{plain[:_LONGEST]}…' if len(plain) > _LONGEST else plain)))


def breakable(value: object) -> Html:
    """Text; in a name, which has no spaces, a line may end after a slash or underscore, as narrow columns need it."""
    plain = text(value)
    is_name = not isinstance(value, Html) and ' ' not in plain
    return Html(plain.replace('/', '/<wbr>').replace('_', '_<wbr>')) if is_name else plain


def join(*children: object) -> Html:
    """Children one after the other."""
    return Html(''.join(map(text, children)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element. `class_` gives the attribute `class`, `aria_label` gives `aria-label`; None leaves one out."""
    given = {key.rstrip('_').replace('_', '-'): value for key, value in attributes.items() if value is not None}
    opening = ''.join(f' {key}="{text(value)}"' for key, value in given.items())
    return Html(f'<{name}{opening}>' + ('' if name in _VOID else f'{join(*children)}</{name}>'))


def picture(source: str, **attributes: object) -> Html:
    """An `img` of a data: URI, which is as long as it is."""
    return tag('img', src=Html(escape(source)), **attributes)
