"""A link that leaves `docs/` leads to the file in the repository.

In the repository such links are relative, as `../examples/serve.py`.
"""

import re
from pathlib import Path

from mkdocs.plugins import get_plugin_logger

REPOSITORY = "https://github.com/keras-variance/keras_variance/blob/main"
LINK = re.compile(r"(\]\()(\.\./[^)\s]+)(\))")
log = get_plugin_logger(__name__)


def on_page_markdown(markdown, page, config, **_):
    """Of MkDocs: the source of a page, before it is rendered."""
    docs = Path(config.docs_dir)
    root = docs.parent

    def absolute(match):
        path, hash_, anchor = match[2].partition("#")
        target = (docs / page.file.src_uri).parent.joinpath(path).resolve()
        if target.is_relative_to(docs):
            return match[0]
        if not target.exists():
            log.warning(f"{page.file.src_uri} links to {path}, which does not exist")
        where = target.relative_to(root).as_posix()
        return f"{match[1]}{REPOSITORY}/{where}{hash_}{anchor}{match[3]}"

    return LINK.sub(absolute, markdown)
