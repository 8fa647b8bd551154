from tests.backends import tensorflow_only
from tests.docs import pages


@tensorflow_only
def test_code_runs(tmp_path, monkeypatch):
    """README's blocks of Python run, one after the other, as one program."""
    monkeypatch.chdir(tmp_path)
    assert [*pages.run("README.md")]
