"""One HTML page that needs no other file."""

import base64
from html import escape

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1f; background: #fff;
       max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.2; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { text-align: left; font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.meaning { color: #5a5a64; }
.pictures { display: grid; gap: 1rem;
            grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
figure { margin: 0; }
img { width: 100%; height: auto; }
figcaption { font-size: 0.9rem; color: #5a5a64; }
"""


def html(facts, predictors, rows, pictures) -> str:
    """The page of an evaluation.

    Args:
        facts: A line of text.
        predictors: Titles of the columns.
        rows: (title, meaning, texts), a text for each column.
        pictures: (title, PNG).
    """
    head = "".join(f'<th class="number">{escape(x)}</th>' for x in predictors)
    body = "\n".join(_row(*each) for each in rows)
    figures = "\n".join(_figure(*each) for each in pictures)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Evaluation</h1>
<p>{escape(facts)}</p>
<div class="table">
<table>
<thead><tr><th>measure</th>{head}<th></th></tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>
<h2>Pictures</h2>
<div class="pictures">
{figures}
</div>
</body>
</html>
"""


def _row(title, meaning, texts):
    cells = "".join(f'<td class="number">{escape(x)}</td>' for x in texts)
    meaning = f'<td class="meaning">{escape(meaning)}</td>'
    return f"<tr><th>{escape(title)}</th>{cells}{meaning}</tr>"


def _figure(title, picture):
    data = base64.b64encode(picture).decode("ascii")
    title = escape(title)
    image = f'<img alt="{title}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{title}</figcaption></figure>"
