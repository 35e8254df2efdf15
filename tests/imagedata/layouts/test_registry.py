"""A layout is one file and one line, as CONTRIBUTING says: a toy one is added so, and works."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from imagedata.layouts.registry import LAYOUTS, layout_of_kind
from tests.imagedata.trees import noise

ROOT = Path(__file__).parents[3]

_RUN = """
import contextlib, json, sys
from pathlib import Path
from imagedata.decoding.decode import DecodeSettings
from imagedata.materialise import Folders, materialise
from imagedata.resolve import resolve_dataset
from imagedata.spec import DataSpec

@contextlib.contextmanager
def silent(what, total):
    class Bar:
        def advance(self): pass
    yield Bar()

folder = Path(sys.argv[1])
spec = DataSpec.model_validate(resolve_dataset(str(folder / "pets.yaml")).document)
manifest = materialise(spec, Folders(folder, folder / "runs"), DecodeSettings(16), 0, silent)
print(json.dumps([type(spec.layout).__name__, manifest.counts("train"), manifest.counts("test")]))
"""


def test_a_layout_is_one_file_and_one_line(tmp_path):
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Add a layout")[1]
    module, line = re.findall(r"```(?:python|text)\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    for package in ("contracts", "imagedata"):
        shutil.copytree(ROOT / package, tmp_path / package)
    layouts = tmp_path / "imagedata" / "layouts"
    (layouts / "named_files.py").write_text(module)
    registry = (layouts / "registry.py").read_text(encoding="utf-8")
    (layouts / "registry.py").write_text(registry.replace("_NAMES = (\n", f"_NAMES = (\n{line}"))
    for number in range(20):
        noise(tmp_path / "pets" / f"{'cat' if number % 5 == 0 else 'dog'}.{number}.png", number)
    document = {
        "name": "pets",
        "layout": {"kind": "named_files", "roots": ["pets"]},
        "classes": ["dog", "cat"],
        "minority": "cat",
        "test_share": 0.25,
    }
    (tmp_path / "pets.yaml").write_text(json.dumps(document))
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["NamedFiles", {"dog": 12, "cat": 3}, {"dog": 4, "cat": 1}]


def test_every_layout_is_found_by_its_kind():
    assert [layout_of_kind(each.model_fields["kind"].default) for each in LAYOUTS] == list(LAYOUTS)
    assert layout_of_kind("tarball") is None
