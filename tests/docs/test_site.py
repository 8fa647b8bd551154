"""The site builds without a warning, and needs nothing that is not in it."""

import functools
import html.parser
import http.server
import os
import shutil
import subprocess
import sys
import threading
import urllib.parse

import pytest

from tests.backends import tensorflow_only
from tests.docs import pages

pytestmark = tensorflow_only  # a site has no backend
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# What a browser loads with a page: (tag, attribute)
RESOURCES = {
    ("img", "src"),
    ("script", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("link", "href"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for package in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([*command, folder], cwd=pages.ROOT, env=environment, check=True)
    return folder


class Page(html.parser.HTMLParser):
    """The links, the resources and the anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.resources, self.anchors = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values.get("id"), values.get("name")}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("canonical", "next", "prev"):
            return
        self.resources += [values[a] for t, a in RESOURCES if t == tag and a in values]


@pytest.fixture(scope="module")
def read(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_is_built(read, site):
    assert len(read) > 40
    assert site / "index.html" in read and site / "api/layers/index.html" in read


def test_links_lead_to_pages_and_anchors(read, site):
    broken = []
    for path, page in read.items():
        for link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or path.name == "404.html":
                continue
            target = path.parent / urllib.parse.unquote(url.path) if url.path else path
            target = (target / "index.html" if target.is_dir() else target).resolve()
            anchor = urllib.parse.unquote(url.fragment)
            there = target in read and anchor in read[target].anchors
            if not target.exists() or (anchor and not there):
                broken.append((path.relative_to(site).as_posix(), link))
    assert not broken


def test_nothing_comes_from_another_site(read, site):
    external = [
        (path.relative_to(site).as_posix(), resource)
        for path, page in read.items()
        for resource in page.resources
        if urllib.parse.urlsplit(resource).netloc
    ]
    assert not external
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert "@import" not in styles and "url(http" not in styles


def test_formulas_and_examples_are_rendered(site):
    concepts = (site / "concepts" / "index.html").read_text()
    assert "<math" in concepts and "arithmatex" not in concepts
    predictions = (site / "api" / "predictions" / "index.html").read_text()
    assert "<blockquote>" not in predictions  # what >>> is without a fence


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(site):
    """Where the site is served."""
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_pages_open_in_a_browser_without_a_message(read, site, address, tmp_path):
    """All in frames of one page; a script that fails would be a console message."""
    paths = sorted(path.relative_to(site).as_posix() for path in read)
    opened = "filter(frame => frame.contentDocument.body.innerText).length"
    report = f"document.title = [...document.querySelectorAll(`iframe`)].{opened}"
    frames = "".join(f'<iframe src="/{path}"></iframe>' for path in paths)
    page = site / "frames.html"
    page.write_text(f"<body onload='{report}'>{frames}</body>")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--enable-logging=stderr", f"--user-data-dir={tmp_path}"]
    command += ["--virtual-time-budget=60000", f"{address}/{page.name}"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    page.unlink()
    assert f"<title>{len(paths)}</title>" in result.stdout
    messages = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    assert not messages
