"""Files of inputs and targets: what is refused, and how lines are read."""

import types

import pytest
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors
from hypergrid_mtf.run import input_files


@pytest.fixture
def write(tmp_path):
  def call(content: bytes, name="in"):
    (tmp_path / name).write_bytes(content)
    return str(tmp_path / name)

  return call


@pytest.mark.parametrize(
  ("content", "lines"),
  [
    (b"a\nb\n", ["a", "b"]),
    (b"a\nb", ["a", "b"]),
    (b"a\n\n\n\n", ["a", "", "", ""]),
    (b"\na\n", ["", "a"]),
    (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
    (b"a\r\nb\r\n", ["a", "b"]),
    (
      "a\u2028b\nc\u0085d\ne\x0cf\ng\rh\n".encode(),
      ["a\u2028b", "c\u0085d", "e\x0cf", "g\rh"],
    ),
  ],
)
def test_one_line_in_is_one_line(write, content, lines):
  path = write(content)
  input_files.check_files([("--input_file", path)])
  assert utils.get_inputs_from_file(path) == lines


def test_comments_are_left_out_where_they_are_asked_for(write):
  path = write(b"#a\nb\n")
  assert utils.get_inputs_from_file(path) == ["#a", "b"]
  assert utils.get_inputs_from_file(path, ignore_comments=True) == ["b"]


@pytest.mark.parametrize(
  ("content", "words"),
  [
    (b"", "is empty"),
    (b"\n", "is blank"),
    (b" \n\t\n", "is blank"),
    ("a\n".encode("utf-16"), "UTF-16"),
    ("a\nb".encode("utf-16-le"), "line 1: byte 2 is NUL"),
    (b"a\nb\xff\n", "line 2: byte 2 is not UTF-8"),
    (b"a\nb\nc\xe9", "line 3: byte 2 is not UTF-8"),
  ],
)
def test_what_holds_no_lines_of_text_is_refused(write, content, words):
  path = write(content)
  with pytest.raises(errors.UserError, match=words) as e:
    input_files.check_files([("--input_file", path)])
  assert path in str(e.value) and "--input_file" in str(e.value)


@pytest.mark.parametrize(
  ("inputs", "targets", "fits"),
  [(3, 3, True), (2, 6, True), (3, 1, True), (3, 2, False), (2, 3, False)],
)
def test_each_target_has_its_input(write, inputs, targets, fits):
  files = [
    ("inputs", write(b"a\n" * inputs, "in")),
    ("targets", write(b"b\n" * targets, "out")),
  ]
  lists = [(name, ["a"] * n) for name, n in (("i", inputs), ("t", targets))]
  if fits:
    input_files.check_files(files)
    input_files.check_files(lists)
    return
  for given in (files, lists):
    with pytest.raises(
      errors.UserError, match=f"has {targets} lines.*{inputs}"
    ):
      input_files.check_files(given)


@pytest.mark.parametrize("given", [[], [1], [["a"]]])
def test_a_list_holds_texts(given):
  with pytest.raises(errors.UserError, match="not a list of texts"):
    input_files.check_files([("score_from_strings.targets", given)])


def test_lines_that_are_cut_are_counted():
  texts = ["ab", "abcd", "abc", "abcdef"]
  letters = types.SimpleNamespace(encode=list)
  assert input_files.describe_cut(texts, letters, 5) == (
    "1 of 4 lines are longer than 5 tokens and will be cut; the first is line "
    "4, 'abcdef'"
  )
  assert input_files.describe_cut(texts[:3], letters, 5) is None
  assert input_files.describe_cut(texts, letters, 6, eos=False) is None
