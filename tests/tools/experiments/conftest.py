"""What the tests of this folder share."""

import json

import pytest


@pytest.fixture
def folder(tmp_path):
  def write(found):
    for i, result in enumerate(found):
      (tmp_path / f"{i}.json").write_text(json.dumps(result))
    return str(tmp_path)

  return write
