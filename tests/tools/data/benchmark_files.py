"""Small invented files of every GLUE and SuperGLUE task, in official layout."""

import json
import pathlib
from collections.abc import Iterable, Sequence

# What such files contain: quotes that open and never close, accents, a line
# separator that is not a line end, spaces at the end.
_TEXTS = (
  'He said " yes and left .',
  "it 's a caf\u00e9 \u2014 really",
  '"Quoted" from end to "end"',
  "one\u2028line ",
  "plain",
)

MNLI_COLUMNS = (
  "index",
  "promptID",
  "pairID",
  "genre",
  "sentence1",
  "sentence2",
)


def text(n: int) -> str:
  """A text; another one for each n."""
  return f"{n} {_TEXTS[n % len(_TEXTS)]}"


def _write(
  path: pathlib.Path,
  lines: Iterable[str],
  bom: bool = False,
  end: str = "\n",
  last_end: bool = True,
) -> None:
  """Writes lines, byte for byte as asked."""
  text = end.join(lines) + end * last_end
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(b"\xef\xbb\xbf" * bom + text.encode("utf-8"))


def write_table(path: pathlib.Path, rows: Iterable[Sequence], **quirks) -> None:
  """Writes tab-separated rows; quirks are those of `_write`."""
  _write(path, ("\t".join(map(str, row)) for row in rows), **quirks)


def write_objects(path: pathlib.Path, rows: Iterable[dict], **quirks) -> None:
  """Writes JSON lines; quirks are those of `_write`."""
  _write(path, (json.dumps(row, ensure_ascii=False) for row in rows), **quirks)


def _pairs(folder, columns, labels, label, rows=4, test_label=False, **quirks):
  """train, dev and test with an index, two texts and a label."""
  for name in ("train", "dev", "test"):
    has_label = name != "test" or test_label
    table = [("index", *columns, *([label] if has_label else []))]
    for i in range(rows):
      row = [i, *(text(i + k) for k in range(len(columns)))]
      table.append(row + [labels[i % len(labels)]] * has_label)
    write_table(folder / f"{name}.tsv", table, **quirks)


def write_glue(root: pathlib.Path) -> None:
  """Writes every task of GLUE; MRPC in its original form."""
  cola = [("gj04", i % 2, "*" * (i % 2), text(i)) for i in range(5)]
  write_table(root / "CoLA" / "train.tsv", cola, last_end=False)
  write_table(root / "CoLA" / "dev.tsv", cola[:3], end="\r\n")
  write_table(
    root / "CoLA" / "test.tsv",
    [("index", "sentence"), *((i, text(i)) for i in range(4))],
  )
  sst2 = [("sentence", "label"), *((text(i), i % 2) for i in range(4))]
  write_table(root / "SST-2" / "train.tsv", sst2, end="\r\n")
  write_table(root / "SST-2" / "dev.tsv", sst2)
  write_table(
    root / "SST-2" / "test.tsv",
    [("index", "sentence"), *((i, text(i)) for i in range(4))],
  )
  columns = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
  mrpc = [(i % 2, 10 + i, 20 + i, text(i), text(i + 1)) for i in range(6)]
  folder = root / "MRPC"
  write_table(
    folder / "msr_paraphrase_train.txt",
    [columns, *mrpc],
    bom=True,
    end="\r\n",
    last_end=False,
  )
  write_table(
    folder / "msr_paraphrase_test.txt", [columns, *mrpc[:4]], bom=True
  )
  write_table(folder / "dev_ids.tsv", [(11, 21), (14, 24)])
  folder = root / "STS-B"
  middle = ("genre", "filename", "year", "old_index", "source1", "source2")
  header = ("index", *middle, "sentence1", "sentence2", "score")
  stsb = [
    (i, *middle, text(i), text(i + 1), score)
    for i, score in enumerate(("5.000", "0", "3.25", "2.6"))
  ]
  for name in ("train", "dev"):
    write_table(folder / f"{name}.tsv", [header, *stsb])
  write_table(folder / "test.tsv", [r[:-1] for r in (header, *stsb)])
  folder = root / "QQP"
  columns = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
  qqp = [(i, 10 + i, 20 + i, text(i), text(i + 1), i % 2) for i in range(5)]
  broken = [(9, 8, 7, "a question that goes"), ("on here", "another", 1)]
  write_table(folder / "train.tsv", [columns, *qqp[:2], *broken, *qqp[2:]])
  write_table(folder / "dev.tsv", [columns, *qqp[:3]])
  write_table(
    folder / "test.tsv",
    [("id", "question1", "question2"), *((r[0], r[3], r[4]) for r in qqp)],
  )
  nli = ("entailment", "neutral", "contradiction")
  mnli = [
    (i, f"{i}n", f"{i}e", "fiction", text(i), text(i + 1)) for i in range(5)
  ]
  folder = root / "MNLI"
  write_table(
    folder / "train.tsv",
    [
      (*MNLI_COLUMNS, "label1", "gold_label"),
      *((*r, nli[i % 3], nli[i % 3]) for i, r in enumerate(mnli)),
    ],
  )
  for kind, rows in (("matched", 4), ("mismatched", 3)):
    write_table(
      folder / f"dev_{kind}.tsv",
      [
        (*MNLI_COLUMNS, "label1", "label2", "gold_label"),
        *((*r, nli[0], nli[1], nli[i % 3]) for i, r in enumerate(mnli[:rows])),
      ],
    )
    write_table(folder / f"test_{kind}.tsv", [MNLI_COLUMNS, *mnli[:rows]])
  entailment = ("entailment", "not_entailment")
  _pairs(root / "QNLI", ("question", "sentence"), entailment, "label")
  _pairs(
    root / "RTE", ("sentence1", "sentence2"), entailment, "label", bom=True
  )
  _pairs(root / "WNLI", ("sentence1", "sentence2"), (0, 1), "label")
  ax = [(i, text(i), text(i + 1)) for i in range(3)]
  write_table(
    root / "diagnostic" / "diagnostic.tsv",
    [("index", "sentence1", "sentence2"), *ax],
    end="\r\n",
  )


def _splits(folder, rows, label, **quirks):
  """train, val and test of rows that have their label apart."""
  for name in ("train", "val", "test"):
    labelled = [
      row | ({label: value} if name != "test" else {}) for row, value in rows
    ]
    write_objects(folder / f"{name}.jsonl", labelled, **quirks)


def write_super_glue(root: pathlib.Path) -> None:
  """Writes every task of SuperGLUE."""
  n = 4

  def flat(folder, keys, labels, extra=None, **quirks):
    rows = [
      (
        {key: text(i + k) for k, key in enumerate(keys)}
        | {"idx": n - 1 - i}  # not the order of the rows
        | (extra or {}),
        labels[i % len(labels)],
      )
      for i in range(n)
    ]
    _splits(root / folder, rows, "label", **quirks)

  nli = ("entailment", "contradiction", "neutral")
  flat("BoolQ", ("question", "passage"), (True, False), end="\r\n")
  flat("CB", ("premise", "hypothesis"), nli, last_end=False)
  flat("COPA", ("premise", "choice1", "choice2"), (0, 1), {"question": "cause"})
  flat("RTE", ("premise", "hypothesis"), (nli[0], "not_entailment"))
  places = {"start1": 0, "start2": 1, "end1": 2, "end2": 3, "version": 1.1}
  flat("WiC", ("word", "sentence1", "sentence2"), (True, False), places)

  sentence = "Mark told Pete many lies about himself and He should be truthful."
  spans = (
    ("Mark", 0, "He", 8),
    ("mark", 0, "He", 8),  # Corrected in wsc.fixed.
    ("Pete", 2, "himself", 6),
    ("Pete", 2, "He.", 8),  # Corrected in wsc.fixed.
  )
  wsc = [
    (
      {
        "text": sentence,
        "idx": i,
        "target": {
          "span1_text": a,
          "span1_index": a_at,
          "span2_text": b,
          "span2_index": b_at,
        },
      },
      i % 2 == 0,
    )
    for i, (a, a_at, b, b_at) in enumerate(spans)
  ]
  _splits(root / "WSC", wsc, "label")

  for name in ("train", "val", "test"):
    multirc = [_multirc(i, name != "test") for i in range(2)]
    write_objects(root / "MultiRC" / f"{name}.jsonl", multirc)
    record = [_record(i, name != "test") for i in range(2)]
    write_objects(root / "ReCoRD" / f"{name}.jsonl", record, end="\r\n")
  for name, keys in (
    ("AX-b", ("sentence1", "sentence2")),
    ("AX-g", ("premise", "hypothesis")),
  ):
    write_objects(
      root / name / f"{name}.jsonl",
      [
        {key: text(i) for key in keys}
        | {"idx": i, "label": (nli[0], "not_entailment")[i % 2], "logic": "x"}
        for i in range(3)
      ],
    )


def _multirc(i: int, has_label: bool) -> dict:
  """A line of MultiRC: a paragraph, two questions, three answers each."""

  def answer(a):
    label = {"label": a % 2} if has_label else {}
    return {"idx": 9 + a, "text": text(a)} | label

  questions = [
    {
      "idx": 2 * i + q,
      "question": text(q),
      "answers": [answer(a) for a in range(3)],
    }
    for q in range(2)
  ]
  passage = {"text": text(i), "questions": questions}
  return {"idx": i, "version": 1.1, "passage": passage}


def _record(i: int, has_label: bool) -> dict:
  """A line of ReCoRD: a passage that names an entity twice, two queries."""
  places = ((0, 3), (6, 10), (16, 20))
  entities = [{"start": start, "end": end} for start, end in places]
  answers = {"answers": [{"start": 6, "end": 10, "text": "Paris"}] * 2}
  queries = [
    {"idx": 2 * i + q, "query": f"Is it @placeholder {q} ?"}
    | (answers if has_label else {})
    for q in range(2)
  ]
  passage = {"text": "\u00c9mil, Paris and Paris", "entities": entities}
  return {"idx": i, "source": "news", "passage": passage, "qas": queries}
