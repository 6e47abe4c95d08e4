"""Other people's text, made harmless for whatever shows it: a terminal, a spreadsheet, Markdown, HTML.

What is escaped is still told: nobody sees a text that looks like another one.
"""

from __future__ import annotations

import html
import re
from typing import Final

# Printable by Unicode's word, and yet nothing to be seen: fillers, joiners, a Braille blank.
_BLANK: Final = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
_UNSEEN: Final = re.compile(f"[{_BLANK}]")
# Valid in JSON and invisible or worse on a terminal: C1 controls, what turns the direction of
# text, tags (letters that nobody sees).
_HIDDEN: Final = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    f"\U000e0000-\U000e007f{_BLANK}]"
)

# After OWASP's page on CSV injection and ASVS 5.0, 1.2.10: these begin a formula, the full-width
# and small forms too (some editions take them for the same) ...
_TRIGGERS: Final = r"=+\-@＝＋－＠﹦﹢﹣﹫"
# ... though blanks, quotes or what nobody sees may stand before them, ...
_PASSED_OVER: Final = r"\s\x00\xad\u200b-\u200f\u2060\ufeff'\"‘’“”"
# ... and one of these may begin a cell of its own, in a country whose lists are not parted by commas.
_SEPARATORS: Final = ";\t\r\n"
_FORMULA: Final = re.compile(
    rf"(?:^[{_PASSED_OVER};]*+|(?<![{_PASSED_OVER};])[{_PASSED_OVER};]++)(?=[{_TRIGGERS}])"
)

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]<>#|&~$@^=]|:(?=//)|(?<=[Ww]{3})\.)")
# A page may look for formulas (MathJax) between these; alone in an element they begin none.
_MATHS: Final = re.compile(r"[$\\]")


def shown(text: str) -> str:
    """Return `text` with control characters, and what hides or turns text, as escapes."""
    if text.isprintable() and not _UNSEEN.search(text):
        return text
    return "".join(
        char if char.isprintable() and char not in _BLANK else char.encode("unicode_escape").decode()
        for char in text
    )


def no_formula(text: str) -> str:
    """Return `text` with a `'` before everything in it that a spreadsheet would calculate."""
    guarded = _FORMULA.sub(
        lambda found: found[0] + "'" if found.start() == 0 or _parts(found[0]) else found[0], text
    )
    return "'" + guarded if guarded[:1] in ("\t", "\r", "\n", "\0") else guarded


def _parts(blank: str) -> bool:
    return any(char in _SEPARATORS for char in blank)


def markdown_text(text: str) -> str:
    """Return `text` as Markdown that shows it, in a cell of a table too: no markup, no link."""
    return _MARKUP.sub(r"\\\1", shown(text))


def json_text(text: str) -> str:
    """Return JSON text with what hides or turns text as `\\u` escapes; it means the same."""
    return _HIDDEN.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    pairs = found[0].encode("utf-16-be")
    return "".join(f"\\u{int.from_bytes(pairs[at : at + 2], 'big'):04x}" for at in range(0, len(pairs), 2))


def html_text(text: str) -> str:
    """Return `text` as HTML that shows it: no element, no formula that a page would typeset."""
    return _MATHS.sub(lambda found: f"<span>{found[0]}</span>", html.escape(shown(text)))
