from tests import backends

# Exports are TensorFlow's, and so is what reads them
if backends.BACKEND != "tensorflow":
    collect_ignore = ["test_export.py", "test_server.py"]
