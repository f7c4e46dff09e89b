"""The readers of local files against TFDS's own, and what they refuse."""

import json
import re

import pytest
from t5.data import glue_utils
from tensorflow_datasets.text import glue as tfds_glue
from tensorflow_datasets.text import super_glue as tfds_super_glue

from hypergrid_mtf import tfds_data
from hypergrid_mtf.errors import UserError
from tests.tools.data import benchmark_files as files
from tools.data import local_files, local_glue, local_super_glue, local_text

_CONFIGS = [
  *(("glue", config) for config in local_glue.CONFIGS),
  *(("super_glue", config) for config in local_super_glue.CONFIGS),
]


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
  """Made-up downloads of both benchmarks."""
  roots = {b: tmp_path_factory.mktemp(b) for b in local_files.BENCHMARKS}
  files.write_glue(roots["glue"])
  files.write_super_glue(roots["super_glue"])
  return roots


def _builder(benchmark, config, data_dir):
  cls = {
    "glue": tfds_glue.Glue,
    "super_glue": tfds_super_glue.SuperGlue,
  }[benchmark]
  with tfds_data.without_cloud_bucket():
    return cls(
      config=config,
      version=local_files.VERSIONS[benchmark],
      data_dir=str(data_dir),
    )


def _dataset(benchmark, config, root):
  found = local_files.find(benchmark, str(root)).datasets
  return next(d for d in found if d.config == config)


def _by_tfds(builder, dataset, split):
  """What TFDS itself reads from the same file."""
  path = dataset.files[split]
  if dataset.benchmark == "super_glue":
    return builder._generate_examples(path, split)
  mrpc_files = None
  if dataset.config == "mrpc":
    folder = local_text.files_of(dataset.folder)
    mrpc_files = {
      "dev_ids": folder["dev_ids.tsv"],
      "train": folder["msr_paraphrase_train.txt"],
      "test": folder["msr_paraphrase_test.txt"],
    }
  name = {"validation": "dev"}.get(split, split)
  return builder._generate_examples(path, name, mrpc_files)


def _same_rows(ours, theirs, features):
  """Compares keys and examples; TFDS may give a label by its name."""
  ours, theirs = list(ours), list(theirs)
  for _, example in theirs:
    if isinstance(example.get("label"), str):
      example["label"] = features["label"].str2int(example["label"])
  assert ours == theirs
  features.encode_example(ours[0][1])
  return len(ours)


@pytest.mark.parametrize(("benchmark", "config"), _CONFIGS)
def test_rows_are_those_of_tfds(benchmark, config, roots, tmp_path):
  builder = _builder(benchmark, config, tmp_path)
  dataset = _dataset(benchmark, config, roots[benchmark])
  assert set(dataset.splits) == set(local_files.OFFICIAL_ROWS[dataset.name])
  for split in dataset.splits:
    rows = _same_rows(
      dataset.examples(split),
      _by_tfds(builder, dataset, split),
      builder.info.features,
    )
    assert rows > 1


@pytest.mark.parametrize(
  ("benchmark", "config"),
  [
    ("glue", "cola"),
    ("glue", "sst2"),
    ("glue", "stsb"),
    ("glue", "rte"),
    ("super_glue", "boolq"),
    ("super_glue", "cb"),
    ("super_glue", "copa"),
    ("super_glue", "rte"),
    ("super_glue", "wic"),
  ],
)
def test_real_rows_are_those_of_tfds(benchmark, config, shared_data, tmp_path):
  builder = _builder(benchmark, config, tmp_path)
  dataset = _dataset(benchmark, config, shared_data / benchmark)
  official = local_files.OFFICIAL_ROWS[dataset.name]
  for split in dataset.splits:
    rows = _same_rows(
      dataset.examples(split),
      _by_tfds(builder, dataset, split),
      builder.info.features,
    )
    few_shot = benchmark == "super_glue" and split == "train"
    assert rows == (32 if few_shot else official[split])


def test_real_mrpc(shared_data):
  dataset = _dataset("glue", "mrpc", shared_data / "glue")
  rows = {s: list(dataset.examples(s)) for s in dataset.splits}
  assert {s: len(r) for s, r in rows.items()} == {
    "train": 3667,
    "validation": 408,
    "test": 1725,
  }
  assert rows["train"][0][1]["sentence1"].startswith("Amrozi accused his")
  assert {example["label"] for _, example in rows["test"]} == {-1}


def test_tables_are_those_of_tfds():
  for benchmark, module, cls in (
    ("glue", local_glue, tfds_glue.Glue),
    ("super_glue", local_super_glue, tfds_super_glue.SuperGlue),
  ):
    assert set(module.CONFIGS) == set(cls.builder_configs)
    for config, theirs in cls.builder_configs.items():
      ours = module.CONFIGS[config]
      if config != "record":
        assert tuple(theirs.label_classes or ()) == ours.classes
      assert f"{benchmark}/{config}" in local_files.OFFICIAL_ROWS
  published = glue_utils.get_glue_weight_mapping()
  for config in ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"):
    assert (
      local_files.OFFICIAL_ROWS[f"glue/{config}"]["train"]
      == published[f"glue_{config}_v002"]
    )


def test_folder_names(tmp_path):
  files.write_glue(tmp_path / "glue_data")
  root = tmp_path / "glue_data"
  (root / "SST-2").rename(root / "sst2")
  (root / "STS-B").rename(root / "STSB")
  (root / "diagnostic").rename(root / "AX")
  (root / "AX" / "diagnostic.tsv").rename(root / "AX" / "AX.tsv")
  (root / "SNLI").mkdir()
  (root / "CoLA" / "test.tsv").unlink()
  found = local_files.find("glue", str(tmp_path))
  assert [d.config for d in found.datasets] == list(local_glue.CONFIGS)
  assert found.notes == [
    f"{root}/SNLI: not a folder of glue, skipped",
    "glue/cola: no file for test",
  ]
  files.write_super_glue(tmp_path / "s")
  (tmp_path / "s" / "AX-b").rename(tmp_path / "s" / "AXb")
  found = local_files.find("super_glue", str(tmp_path / "s"))
  assert [d.config for d in found.datasets] == list(local_super_glue.CONFIGS)
  assert not found.notes


def test_refuses_two_folders_of_a_task(tmp_path):
  (tmp_path / "SST-2").mkdir()
  (tmp_path / "sst2").mkdir()
  with pytest.raises(UserError, match="keep one of the two folders"):
    local_files.find("glue", str(tmp_path))


def _sentences(tmp_path, config, folder, name, content, split="train"):
  path = tmp_path / folder / name
  path.parent.mkdir(exist_ok=True)
  path.write_bytes(content)
  dataset = _dataset("glue", config, tmp_path)
  return [
    (e["sentence"], e["label"], e["idx"]) for _, e in dataset.examples(split)
  ]


@pytest.mark.parametrize(
  "content",
  [
    b'\xef\xbb\xbfsentence\tlabel\na "b \t1\nc\t0',
    b'sentence\tlabel\r\na "b \t1\r\nc\t0\r\n\r\n\n',
    b'sentence\tlabel\t\na "b \t1\t\nc\t0\t\n',
  ],
)
def test_sst2_bytes(content, tmp_path):
  rows = _sentences(tmp_path, "sst2", "SST-2", "train.tsv", content)
  assert rows == [('a "b ', 1, 0), ("c", 0, 1)]


def test_a_lone_carriage_return_is_text(tmp_path):
  # TFDS would end the row there and lose both halves.
  content = b"sentence\tlabel\na\rb\t1\n"
  rows = _sentences(tmp_path, "sst2", "SST-2", "train.tsv", content)
  assert rows == [("a\rb", 1, 0)]


@pytest.mark.parametrize(
  ("name", "split", "content", "label"),
  [
    ("train.tsv", "train", b"\xef\xbb\xbfgj04\t0\t*\tA b.", 0),
    ("train.tsv", "train", b"s\tis_acceptable\tm\tsentence\nx\t0\t\tA b.\n", 0),
    ("test.tsv", "test", b"0\tA b.\n", -1),
    ("test.tsv", "test", b"\xef\xbb\xbfindex\tsentence\r\n0\tA b.\r\n", -1),
  ],
)
def test_cola_with_and_without_header(name, split, content, label, tmp_path):
  rows = _sentences(tmp_path, "cola", "CoLA", name, content, split)
  assert rows == [("A b.", label, 0)]


def test_qqp_rows_cut_in_two(roots):
  notes = []
  dataset = _dataset("glue", "qqp", roots["glue"])
  rows = list(dataset.examples("train", notes.append))
  assert [key for key, _ in rows] == [0, 1, 4, 5, 6]
  assert len(notes) == 1 and "2 rows" in notes[0] and "line 4" in notes[0]


def test_mrpc_of_the_download_script(tmp_path):
  header = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
  row = (1, 2, 3, 'a "', "b")
  folder = tmp_path / "MRPC"
  for name in ("train", "dev"):
    files.write_table(folder / f"{name}.tsv", [header, row], bom=True)
  # Without dev_ids, the original training file cannot be divided.
  files.write_table(folder / "msr_paraphrase_train.txt", [header, row, row])
  test_header = ("index", *header[1:])
  files.write_table(
    folder / "test.tsv", [test_header, (0, *row[1:])], last_end=False
  )
  dataset = _dataset("glue", "mrpc", tmp_path)
  expected = {"sentence1": 'a "', "sentence2": "b", "idx": 0}
  for split, label in (("train", 1), ("validation", 1), ("test", -1)):
    assert list(dataset.examples(split)) == [(0, expected | {"label": label})]


def test_diagnostic_with_labels_stays_unlabelled(tmp_path):
  files.write_table(
    tmp_path / "diagnostic" / "diagnostic-full.tsv",
    [("Logic", "Premise", "Hypothesis", "Label"), ("", "p", "h", "neutral")],
  )
  (_, example), *_ = _dataset("glue", "ax", tmp_path).examples("test")
  assert example == {"premise": "p", "hypothesis": "h", "label": -1, "idx": 0}


def test_wsc_fixed(roots):
  fixed = _dataset("super_glue", "wsc.fixed", roots["super_glue"])
  plain = _dataset("super_glue", "wsc", roots["super_glue"])
  spans = [
    [(e["span1_text"], e["span2_text"]) for _, e in d.examples("train")]
    for d in (plain, fixed)
  ]
  assert spans[0][1] == ("mark", "He") and spans[0][3] == ("Pete", "He.")
  assert spans[1][1] == ("Mark", "He") and spans[1][3] == ("Pete", "He")


def test_record_gives_an_example_a_query(roots):
  dataset = _dataset("super_glue", "record", roots["super_glue"])
  rows = list(dataset.examples("train"))
  assert [key for key, _ in rows] == [0, 1, 2, 3]
  for _, example in rows:
    assert example["entities"] == ["Paris", "\u00c9mil"]
    assert example["answers"] == ["Paris"]
  (_, example), *_ = dataset.examples("test")
  assert example["answers"] == []


_BAD_TABLES = {
  "too few columns": ("SST-2/train.tsv", b"sentence\tlabel\na\t1\nb\n", 3),
  "too many columns": ("SST-2/dev.tsv", b"sentence\tlabel\na\tb\t1\n", 2),
  "no such label": ("SST-2/train.tsv", b"sentence\tlabel\na\t2\n", 2),
  "no label": ("SST-2/train.tsv", b"sentence\tlabel\na\t\n", 2),
  "label -1 in train": ("SST-2/train.tsv", b"sentence\tlabel\na\t-1\n", 2),
  "no label column": ("SST-2/train.tsv", b"index\tsentence\n0\ta\n", 1),
  "no text column": ("SST-2/train.tsv", b"text\tlabel\na\t1\n", 1),
  "empty line inside": ("SST-2/dev.tsv", b"sentence\tlabel\n\na\t1\n", 2),
  "not UTF-8": ("SST-2/dev.tsv", b"sentence\tlabel\n\xe9\t1\n", 2),
  "UTF-16": ("SST-2/dev.tsv", "sentence\tlabel\n".encode("utf-16"), 1),
  "empty file": ("SST-2/dev.tsv", b"", None),
  "only a header": ("SST-2/dev.tsv", b"sentence\tlabel\n", None),
  "cola by commas": ("CoLA/train.tsv", b"gj04,1,,A b.\n", 1),
  "score too high": (
    "STS-B/train.tsv",
    b"sentence1\tsentence2\tscore\na\tb\t5.1\n",
    2,
  ),
  "score is not a number": (
    "STS-B/train.tsv",
    b"sentence1\tsentence2\tscore\na\tb\t1\na\tb\tnan\n",
    3,
  ),
  "qqp too many columns": (
    "QQP/test.tsv",
    b"id\tquestion1\tquestion2\n0\ta\tb\tc\n",
    2,
  ),
}

_CB = {"premise": "p", "hypothesis": "h", "label": "neutral", "idx": 0}
_RECORD = {
  "idx": 0,
  "passage": {"text": "Paris", "entities": [{"start": 0, "end": 4}]},
  "qas": [{"idx": 0, "query": "q", "answers": [{"text": "Paris"}]}],
}
_WSC = {
  "text": "Mark lies.",
  "idx": 0,
  "label": True,
  "target": {
    "span1_text": "Mark",
    "span1_index": 0,
    "span2_text": "nobody",
    "span2_index": 1,
  },
}


def _lines(*rows):
  return "\n".join(json.dumps(row) for row in rows).encode()


_BAD_OBJECTS = {
  "not JSON": ("CB/train.jsonl", _lines(_CB) + b"\n{'premise'", 2),
  "not an object": ("CB/train.jsonl", b"[1]", 1),
  "missing key": ("CB/train.jsonl", _lines({"premise": "p", "idx": 0}), 1),
  "missing label": (
    "CB/val.jsonl",
    _lines({"premise": "p", "hypothesis": "h", "idx": 0}),
    1,
  ),
  "bad label": ("CB/train.jsonl", _lines(_CB | {"label": "maybe"}), 1),
  "number for three": ("CB/train.jsonl", _lines(_CB | {"label": 1}), 1),
  "list as label": ("CB/test.jsonl", _lines(_CB | {"label": []}), 1),
  "wrong type": ("CB/train.jsonl", _lines(_CB | {"premise": 3}), 1),
  "idx too big": ("CB/train.jsonl", _lines(_CB | {"idx": 2**31}), 1),
  "idx is text": ("CB/train.jsonl", _lines(_CB | {"idx": "0"}), 1),
  "idx twice": ("CB/train.jsonl", _lines(_CB, _CB), 2),
  "half a character": ("CB/val.jsonl", _lines(_CB | {"premise": "\ud800"}), 1),
  "empty file": ("CB/train.jsonl", b"\n", None),
  "not UTF-8": ("CB/train.jsonl", b'{"premise": "\xe9"}', 1),
  "no answers": (
    "ReCoRD/train.jsonl",
    _lines(_RECORD | {"qas": [{"idx": 0, "query": "q"}]}),
    1,
  ),
  "entity outside": (
    "ReCoRD/train.jsonl",
    _lines(
      _RECORD | {"passage": {"text": "P", "entities": [{"start": 0, "end": 1}]}}
    ),
    1,
  ),
  "no queries": ("ReCoRD/train.jsonl", _lines(_RECORD | {"qas": []}), None),
  "span not in text": ("WSC/train.jsonl", _lines(_WSC), 1),
}


@pytest.mark.parametrize(
  ("benchmark", "case"),
  [
    *(("glue", case) for case in _BAD_TABLES.values()),
    *(("super_glue", case) for case in _BAD_OBJECTS.values()),
  ],
  ids=[*_BAD_TABLES, *_BAD_OBJECTS],
)
def test_names_file_and_line_of_a_bad_row(benchmark, case, tmp_path):
  name, content, line = case
  path = tmp_path / name
  path.parent.mkdir()
  path.write_bytes(content)
  datasets = local_files.find(benchmark, str(tmp_path)).datasets
  with pytest.raises(UserError) as error:
    for dataset in datasets:
      for split in dataset.splits:
        list(dataset.examples(split))
  where = str(path) if line is None else f"{path}, line {line}"
  assert re.fullmatch(re.escape(where) + r": [^\n]+\.", str(error.value))


def test_qqp_with_many_broken_rows_is_refused(tmp_path):
  files.write_table(
    tmp_path / "QQP" / "train.tsv",
    [("id", "question1", "question2", "is_duplicate"), *[(1, "a")] * 300],
  )
  with pytest.raises(UserError, match="line 202: 2 tab-separated columns"):
    list(_dataset("glue", "qqp", tmp_path).examples("train"))
