"""Formulas between dollar signs become MathML, which browsers draw without a script."""

import html
import re

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)


def on_page_content(content, **_):
    """Of MkDocs: a page as HTML."""

    def formula(display):
        return lambda match: convert(html.unescape(match[1]).strip(), display=display)

    return BLOCK.sub(formula("block"), INLINE.sub(formula("inline"), content))
