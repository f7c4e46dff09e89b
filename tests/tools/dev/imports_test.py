"""The structure: found as it is, and as it should be."""

import pytest

from hypergrid_mtf import errors
from tests import program
from tools.dev import imports


def _write(root, files):
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_circles_and_ways_up_are_found(tmp_path):
  _write(
    tmp_path,
    {
      "hypergrid_mtf/__init__.py": "",
      "hypergrid_mtf/a.py": "from hypergrid_mtf import b\nx = 1\n",
      "hypergrid_mtf/b.py": "def f():\n  import hypergrid_mtf.a\n",
      "hypergrid_mtf/main.py": "from t5_tasks import mixtures as m\n",
      "hypergrid_mtf/launch/gin.py": (
        "import importlib\nimportlib.import_module('tools.sweep')\n"
      ),
      "t5_tasks/mixtures.py": "from hypergrid_mtf.a import x\n",
      "tools/sweep.py": "import os\nfrom t5_tasks import mixtures\n",
    },
  )
  modules = imports.read(str(tmp_path))
  assert imports.circles(modules) == [("hypergrid_mtf.a", "hypergrid_mtf.b")]
  assert imports.upward(modules) == [
    ("hypergrid_mtf.launch.gin", "tools.sweep")
  ]
  assert modules["hypergrid_mtf.a"].lines == 2
  text = imports.to_text(modules)
  assert "hypergrid_mtf.a <-> hypergrid_mtf.b" in text
  assert "modules over 400 lines: 0" in text


def test_a_folder_without_the_packages_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match="holds none of hypergrid_mtf"):
    imports.read(str(tmp_path))


def test_this_project_has_no_circle_and_nothing_runs_back_up():
  modules = imports.read()
  assert not imports.circles(modules)
  assert not imports.upward(modules)


def test_the_command(monkeypatch, capsys):
  program.run("tools.structure", [], monkeypatch)
  assert "hypergrid_mtf.launch" in capsys.readouterr().out
