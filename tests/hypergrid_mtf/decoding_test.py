"""Decoding and scoring against one teacher-forced pass of the same model.

`python -m tests.hypergrid_mtf.decoding_test` prints the figures for all
settings, each on 200 real inputs.
"""

import functools
import itertools
import os
import pathlib
import tempfile
from unittest import mock

import gin
import mesh_tensorflow as mtf
import numpy as np
import pytest
import seqio
import t5.models.mtf_model
import tensorflow.compat.v1 as tf

import t5_tasks  # noqa: F401  (registers the tasks)
from hypergrid_mtf import gate
from tools.data import local_files

from . import mtf_testing

GLUE = ("cola", "sst2", "mrpc", "stsb", "rte")
VOCABULARY = seqio.ByteVocabulary(extra_ids=0)
LENGTH, STEPS = 64, 16  # of the real inputs, and of what is decoded from them
EOS = 1
# The size of models/micro, under the variables of `mtf_testing.small_model`.
MICRO = """
d_model = 64
d_ff = 256
num_heads = 4
d_kv = 16
HyperGrid.grid_rows = 16
HyperGrid.grid_cols = 16
"""

# (variant, condition_on, gated_kernel)
SETTINGS = [
  *((variant, "first_token", "wo") for variant in gate.VARIANTS),
  ("L2", "task_token", "wo"),
  ("L2", "first_token", "wi"),
]
ALL_SETTINGS = list(
  itertools.product(gate.VARIANTS, ("first_token", "task_token"), ("wo", "wi"))
)


def bindings(condition_on, gated_kernel, contraction=None):
  """Gin bindings of one setting of the layer."""
  lines = [
    f"HyperGrid.condition_on = '{condition_on}'",
    f"HyperGrid.gated_kernel = '{gated_kernel}'",
  ]
  if contraction is not None:
    lines.append(f"HyperGrid.contraction = '{contraction}'")
  return "\n".join(lines) + "\n"


@functools.cache
def real_texts(shared_data, count):
  """Real GLUE examples in T5's text format, the tasks taking turns.

  Args:
    shared_data: the folder of the benchmark files, a pathlib.Path
    count: how many

  Returns:
    a list of (inputs, targets), strings
  """
  each = -(-count // len(GLUE))  # of a task
  found = local_files.find_datasets("glue", str(shared_data / "glue")).datasets
  by_task = {}
  for dataset in found:
    if dataset.config not in GLUE:
      continue
    rows = itertools.islice(dataset.examples("validation"), each)
    label = dataset.builder.info.features["label"]  # may be names in files
    rows = [
      {**row, "label": label.encode_example(row["label"])} for _, row in rows
    ]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    task = seqio.TaskRegistry.get(f"glue_{dataset.config}_v002")
    with tf.Graph().as_default(), tf.Session() as sess:
      texts = task.preprocessors[0](tf.data.Dataset.from_tensor_slices(columns))
      example = tf.data.make_one_shot_iterator(texts.batch(each)).get_next()
      got = sess.run({key: example[key] for key in ("inputs", "targets")})
    by_task[dataset.config] = [
      (i.decode(), t.decode())
      for i, t in zip(got["inputs"], got["targets"], strict=True)
    ]
  assert sorted(by_task) == sorted(GLUE)
  mixed = itertools.chain(*zip(*by_task.values(), strict=True))
  return list(mixed)[:count]


def encode(text, length):
  """Token ids, cut to `length` with the end of the sequence, as t5 does it."""
  return np.array([*VOCABULARY.encode(text)[: length - 1], EOS], np.int32)


def log_softmax(logits):
  """In float64, over the last axis."""
  logits = logits.astype(np.float64)
  logits -= logits.max(-1, keepdims=True)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def example_losses(logits, targets, segments=None):
  """Sum of cross entropies of each example, in order, in float64.

  Args:
    logits: [rows, length, vocab]
    targets: [rows, length]; 0 is padding
    segments: None, one example a row, or of each token, [rows, length]

  Returns:
    [examples]
  """
  losses = -np.take_along_axis(log_softmax(logits), targets[..., None], -1)
  losses = np.where(targets > 0, losses[..., 0], 0.0)
  if segments is None:
    return losses.sum(-1)
  return np.array(
    [
      row[ids == segment].sum()
      for row, ids in zip(losses, segments, strict=True)
      for segment in range(1, ids.max() + 1)
    ]
  )


class Model(mtf_testing.Model):
  """One small model that is teacher-forced and decodes, in one graph."""

  def __init__(
    self,
    layers="L2",
    bindings="",
    vocab_size=VOCABULARY.vocab_size,
    layout="",
    mesh_shape="",
  ):
    super().__init__(layers, bindings, layout, mesh_shape, vocab_size)

  def forced(
    self, batch, length, targets_length, prefix="", packed=False, train=False
  ):
    """One teacher-forced pass: logits [batch, length, vocab], and the loss.

    The placeholders are `<prefix>inputs` and `<prefix>targets`, packed also
    `<prefix>inputs_segmentation` and so on.
    """
    given = {
      name + suffix: self.feature(prefix + name + suffix, batch, size)
      for name, size in (("inputs", length), ("targets", targets_length))
      for suffix in (("", "_segmentation", "_position") if packed else ("",))
    }
    if packed:
      return self.call(given, train)
    # An untrained model also says 0, which must not be taken for padding.
    no_padding = mtf.ones(self.mesh, given["targets"].shape, tf.int32)
    return self.call(given, train, decoder_sequence_id=no_padding)

  def decode(self, batch, length, steps, **kwargs):
    """Bitransformer.decode of the placeholder `inputs`, [batch, steps]."""
    return self.model.decode(
      self.feature("inputs", batch, length),
      variable_dtype=mtf_testing.FLOAT32,
      max_decode_length=steps,
      **kwargs,
    )

  def decode_with_logits(self, batch, length, steps, **kwargs):
    """Greedy decoding or sampling that also returns what it chose from.

    The decoder's steps are those of `sample_autoregressive`. They carry one
    more state, into which each step writes the logits it is about to choose
    from; it leaves the loop with the ids.

    Returns:
      ids [batch, steps], logits [batch, steps, vocab] and the number of steps
      that were run [batch]
    """
    decoder = self.model.decoder
    call = decoder._call_internal

    def call_and_record(context, inputs, targets=None):
      logits = call(context, inputs, targets)
      if context.mode == "first_part":
        context.record_new_states([mtf.zeros_like(logits)])
      else:
        (record,) = context.get_states(1)
        here = mtf.one_hot(
          context.position, context.length_dim, dtype=logits.dtype
        )
        context.record_new_states(
          [record + mtf.einsum([logits, here], output_shape=record.shape)]
        )
      return logits

    with mock.patch.object(decoder, "_call_internal", call_and_record):
      ids = self.decode(batch, length, steps, **kwargs)
    steps_run, loop_ids, *_, logits = ids.operation.outputs
    assert loop_ids is ids
    return ids, logits, steps_run

  def beam_search(self, batch, length, steps, width, alpha):
    """Bitransformer.decode by beam search, and what the search itself found.

    Returns:
      best [batch, steps], beams [batch, beam, steps], scores [batch, beam]
    """
    found = []
    search = mtf.beam_search.beam_search

    def search_and_keep(*args, **kwargs):
      found.append(search(*args, **kwargs))
      return found[-1]

    with mock.patch.object(mtf.beam_search, "beam_search", search_and_keep):
      best = self.decode(batch, length, steps, beam_size=width, alpha=alpha)
    ((beams, scores),) = found
    return best, beams, scores


def _compare_greedy(inputs, batch, setting, contraction=None):
  """Greedy decoding of `inputs` in batches, and the teacher-forced pass.

  Returns:
    {figure: value}
  """
  variant, *others = setting
  micro = Model(variant, MICRO + bindings(*others, contraction))
  with micro.tf_graph.as_default():
    ids, logits, steps = micro.decode_with_logits(batch, LENGTH, STEPS)
    forced, _ = micro.forced(batch, LENGTH, STEPS, "forced_")
    fetches = {"ids": ids, "logits": logits, "steps": steps, "forced": forced}
    decoded, errors, equal, gaps = [], [], [], []
    with micro.start(fetches) as run:
      for rows in np.split(inputs, len(inputs) // batch):
        ids, logits, steps = run(["ids", "logits", "steps"], inputs=rows)
        n = int(steps.max())  # the loop also goes on past the end of a sequence
        assert n == STEPS or (ids == EOS).any(-1).all()
        (forced,) = run(["forced"], forced_inputs=rows, forced_targets=ids)
        ids, logits, forced = ids[:, :n], logits[:, :n], forced[:, :n]
        decoded += ids.tolist()
        errors.append(np.abs(logits - forced).max())
        equal.append(ids == forced.argmax(-1))
        chosen = np.take_along_axis(forced, ids[..., None], -1)[..., 0]
        gaps.append((forced.max(-1) - chosen).max())
  equal = np.concatenate([e.ravel() for e in equal])
  return {
    "inputs": len(inputs),
    "different outputs": len({tuple(row) for row in decoded}),
    "tokens": equal.size,
    "tokens equal": int(equal.sum()),
    "largest logit difference": float(max(errors)),
    "largest gap to the best": float(max(gaps)),
  }


def _real_inputs(shared_data, count):
  texts = real_texts(shared_data, count)
  return mtf_testing.pad([encode(i, LENGTH) for i, _ in texts], LENGTH)


@pytest.mark.parametrize(
  ("setting", "contraction"),
  [
    *((setting, None) for setting in SETTINGS),
    (SETTINGS[0], "plain"),
    (SETTINGS[-1], "plain"),
  ],
  ids=str,
)
def test_every_step_of_decoding_is_the_teacher_forced_one(
  setting, contraction, shared_data, record_property
):
  count = 200 if (setting, contraction) == (SETTINGS[0], None) else 50
  inputs = _real_inputs(shared_data, count)
  figures = _compare_greedy(inputs, 50, setting, contraction)
  for name, value in figures.items():
    record_property(name, float(value))
  assert figures["inputs"] == count
  assert figures["different outputs"] > count // 2  # not one answer for all
  assert figures["largest logit difference"] < 1e-4
  assert figures["tokens equal"] == figures["tokens"] >= count * STEPS // 2


SMALL_VOCAB = 6


def _small_inputs(count):
  """Token ids of a tiny vocabulary, [count, 7]; all rows differ."""
  rng = np.random.default_rng(0)
  rows = [
    np.append(rng.integers(2, SMALL_VOCAB, rng.integers(3, 7)), EOS)
    for _ in range(count)
  ]
  rows = mtf_testing.pad(rows, 7)
  assert len(np.unique(rows, axis=0)) == count
  return rows


def _chi_square(counts, probabilities):
  """The statistic in standard deviations from its mean: about normal.

  Args:
    counts: how often each case was seen
    probabilities: of the cases

  Returns:
    a number; about 0 if the counts have these probabilities
  """
  expected = probabilities.ravel() * counts.sum()
  order = np.argsort(expected)
  counts, expected = counts.ravel()[order], expected[order]
  rare = max(int((np.cumsum(expected) < 8).sum()) + 1, 1)  # seen as one case
  counts = np.append(counts[:rare].sum(), counts[rare:])
  expected = np.append(expected[:rare].sum(), expected[rare:])
  statistic = ((counts - expected) ** 2 / expected).sum()
  degrees = len(expected) - 1
  return (statistic - degrees) / np.sqrt(2 * degrees)


def _sample(setting, temperature=0.7, each=1000, runs=4):
  """Samples two tokens for each of four inputs, many times.

  Returns:
    {figure: value}: the chi square of the pairs of tokens (`_chi_square`), the
    worst input's; the same against the softmax without the temperature, and
    against that of the next input; whether a temperature near 0 gives the
    greedy tokens
  """
  variant, *others = setting
  small = Model(variant, bindings(*others), SMALL_VOCAB)
  inputs = _small_inputs(4)
  tokens = np.arange(SMALL_VOCAB)
  with small.tf_graph.as_default():
    tf.set_random_seed(0)
    shape = (4 * each, inputs.shape[1], 2)
    forced, _ = small.forced(
      4 * SMALL_VOCAB, inputs.shape[1], 2, prefix="forced_"
    )
    ids, logits, _ = small.decode_with_logits(*shape, temperature=temperature)
    fetches = {
      "warm": ids,
      "logits": logits,
      "cold": small.decode(*shape, temperature=1e-6),
      "forced": forced,
    }
    with small.start(fetches, scale=3.0) as run:
      many = np.tile(inputs, (each, 1))  # neighbours differ
      warm, logits = zip(
        *(run(["warm", "logits"], inputs=many) for _ in range(runs)),
        strict=True,
      )
      (cold,) = run(["cold"], inputs=many)
      # Row (n, t) is input n with the first token t.
      (forced,) = run(
        ["forced"],
        forced_inputs=np.repeat(inputs, SMALL_VOCAB, axis=0),
        forced_targets=np.stack(
          [np.tile(tokens, 4), np.zeros_like(np.tile(tokens, 4))], -1
        ),
      )
  forced = forced.reshape(4, SMALL_VOCAB, 2, SMALL_VOCAB)

  first = forced[:, 0, 0].argmax(-1)
  second = forced[np.arange(4), first, 1].argmax(-1)
  greedy = np.tile(np.stack([first, second], -1), (each, 1))

  def pairs(temperature):
    first = log_softmax(forced[:, 0, 0] / temperature)
    second = log_softmax(forced[:, :, 1] / temperature)
    return np.exp(first[:, :, None] + second)  # [input, first, second]

  warm = np.reshape(warm, [runs * each, 4, 2])
  logits = np.reshape(logits, [runs * each, 4, 2, SMALL_VOCAB])
  then = forced[np.arange(4), warm[:, :, 0], 1]  # [sample, input, vocab]
  error = max(
    np.abs(logits[:, :, 0] - forced[:, 0, 0]).max(),
    np.abs(logits[:, :, 1] - then).max(),
  )
  counts = np.zeros((4, SMALL_VOCAB, SMALL_VOCAB))
  for n in range(4):
    np.add.at(counts[n], tuple(warm[:, n].T), 1)
  want, other = pairs(temperature), pairs(1.0)
  frequencies = counts / counts.sum((1, 2), keepdims=True)
  return {
    "samples": int(counts[0].sum()),
    "largest logit difference": error,
    "z": max(_chi_square(counts[n], want[n]) for n in range(4)),
    "z untempered": min(_chi_square(counts[n], other[n]) for n in range(4)),
    "z of another": min(
      _chi_square(counts[n], want[(n + 1) % 4]) for n in range(4)
    ),
    "total variation": np.abs(frequencies - want).sum((1, 2)).max() / 2,
    "cold equal": bool((cold == greedy).all()),
  }


def test_sampling_draws_from_the_teacher_forced_softmax(record_property):
  figures = _sample(SETTINGS[0])
  for name, value in figures.items():
    record_property(name, float(value))
  assert figures["largest logit difference"] < 1e-4
  assert figures["cold equal"]
  assert figures["z"] < 4
  assert figures["z untempered"] > 20
  assert figures["z of another"] > 20
  assert figures["total variation"] < 0.05


BEAM_STEPS = 4
BEAM_SEED = 1  # of weights with which four hypotheses of each input finish


def _penalty(length, alpha):
  """Length penalty of Wu et al. 2016, equation 14."""
  return ((5 + length) / 6) ** alpha


def _search(log_probs, width, alpha):
  """Beam search as mtf.beam_search documents it, without tensors.

  Of the `2 width` best continuations of the hypotheses that are alive, the
  finished ones compete by their penalised score with those found before, and
  the `width` best of the others stay alive. All inputs stop together: when for
  none an alive hypothesis could still beat its worst finished one.

  Args:
    log_probs: for each input, {prefix: log probabilities [vocab]}
    width: the number of hypotheses that are kept
    alpha: of the length penalty

  Returns:
    for each input, a sorted list of at most `width` (score, tokens)
  """
  alive = [[(0.0, ())] for _ in log_probs]
  finished = [[] for _ in log_probs]
  for step in range(1, BEAM_STEPS + 1):
    for n, table in enumerate(log_probs):
      grown = []
      for log_prob, prefix in alive[n]:
        grown += [
          (log_prob + more, (*prefix, token))
          for token, more in enumerate(table[prefix])
        ]
      grown = sorted(grown, reverse=True)[: 2 * width]
      alive[n] = [g for g in grown if g[1][-1] != EOS][:width]
      finished[n] += [
        (log_prob / _penalty(step, alpha), tokens)
        for log_prob, tokens in grown
        if tokens[-1] == EOS
      ]
      finished[n] = sorted(finished[n], reverse=True)[:width]
    if all(
      f and f[-1][0] > a[0][0] / _penalty(BEAM_STEPS, alpha)
      for a, f in zip(alive, finished, strict=True)
    ):
      break
  return [f or a for a, f in zip(alive, finished, strict=True)]


def _all_finished(table, alpha):
  """Every sequence that ends in time, best first, as `_search` gives them."""
  out = []
  for prefix in table:
    log_prob = sum(table[prefix[:i]][token] for i, token in enumerate(prefix))
    if EOS not in prefix:
      score = (log_prob + table[prefix][EOS]) / _penalty(len(prefix) + 1, alpha)
      out.append((score, (*prefix, EOS)))
  return sorted(out, reverse=True)


def _hypotheses(beams, scores):
  """What a search of the graph found, as `_search` gives it."""
  out = []
  for tokens, score in zip(beams.tolist(), scores.tolist(), strict=True):
    end = tokens.index(EOS) + 1 if EOS in tokens else BEAM_STEPS
    # mtf asks for a width below the vocabulary's: past that it also goes on
    # with sequences that have ended, and fills up with ones of -1e7.
    if score > -1e6 and not any(tokens[end:]):
      out.append((score, tuple(tokens[:end])))
  return out


# mtf takes another path on a mesh; of its shortcut, the two best tokens of each
# shard of the vocabulary, it takes only the mesh's own part here.
MESH = ("batch:2", "batch:batch", "beam_search.num_prefilter = 0\n")
WIDE = 128  # no fewer than the prefixes that can be alive, (6 - 1) ** 3
SEARCHES = ((4, 0.6), (4, 0.0), (WIDE, 0.6))  # width, alpha


def _beams(setting, contraction=None, mesh=None, searches=SEARCHES):
  """Beam search and its independent implementation.

  Args:
    setting: as in SETTINGS
    contraction: of HyperGrid; None: as the gin files have it
    mesh: None, or MESH
    searches: (width, alpha) of each; those as wide as WIDE are held against the
      enumeration of all sequences

  Returns:
    {figure: value}
  """
  mesh_shape, layout, more = mesh or (None, None, "")
  variant, *others = setting
  vocab_size = 8 if mesh else SMALL_VOCAB  # no fewer than 2 x 4 for the mesh
  small = Model(
    variant,
    bindings(*others, contraction) + more,
    vocab_size,
    layout,
    mesh_shape,
  )
  count = 4
  inputs = _small_inputs(count)
  ends = list(itertools.product(range(vocab_size), repeat=BEAM_STEPS - 1))
  shape = (count, inputs.shape[1], BEAM_STEPS)
  with small.tf_graph.as_default():
    forced, _ = small.forced(
      count * len(ends), inputs.shape[1], BEAM_STEPS, prefix="forced_"
    )
    fetches = {"forced": forced}
    for search in searches:
      parts = small.beam_search(*shape, *search)
      fetches |= {f"{search} {i}": part for i, part in enumerate(parts)}
    with small.start(fetches, seed=BEAM_SEED) as run:
      (forced,) = run(
        ["forced"],
        forced_inputs=np.repeat(inputs, len(ends), axis=0),
        forced_targets=np.tile(mtf_testing.pad(ends, BEAM_STEPS), (count, 1)),
      )
      found = {
        search: run([f"{search} {i}" for i in range(3)], inputs=inputs)
        for search in searches
      }
  forced = log_softmax(forced).reshape(count, len(ends), BEAM_STEPS, -1)
  tables = [
    {
      prefix[:i]: forced[n, at, i]
      for at, prefix in enumerate(ends)
      for i in range(BEAM_STEPS)
    }
    for n in range(count)
  ]
  hypotheses, equal, errors, best_of_all = 0, 0, [], 0
  for (width, alpha), (best, beams, scores) in found.items():
    np.testing.assert_array_equal(best, beams[:, 0])
    everything = [_all_finished(table, alpha) for table in tables]
    if width >= WIDE:
      want = [sequences[:32] for sequences in everything]
    else:
      want = _search(tables, width, alpha)
    for n in range(count):
      got = _hypotheses(beams[n], scores[n])[: len(want[n])]
      assert len(got) == len(want[n])
      hypotheses += len(want[n])
      equal += sum(g == w for (_, g), (_, w) in zip(got, want[n], strict=True))
      errors += [
        abs(g - w) for (g, _), (w, _) in zip(got, want[n], strict=True)
      ]
      best_of_all += got[0][1] == everything[n][0][1]
  return {
    "inputs": count,
    "searches": len(searches) * count,
    "smallest difference of two inputs": min(
      np.abs(a[()] - b[()]).max() for a, b in itertools.combinations(tables, 2)
    ),
    "hypotheses": hypotheses,
    "hypotheses equal": equal,
    "largest score difference": max(errors),
    "best of all sequences found": best_of_all,
  }


@pytest.mark.parametrize(
  ("setting", "contraction", "mesh", "searches"),
  [
    (("L2", "first_token", "wo"), None, None, SEARCHES[::2]),
    (("GL", "task_token", "wi"), None, None, SEARCHES[1:2]),
    (("L2", "first_token", "wo"), None, MESH, SEARCHES[:1]),
    pytest.param(
      *(("L2", "first_token", "wo"), "plain", MESH, SEARCHES[:1]),
      marks=pytest.mark.slow,
    ),
  ],
  ids=["L2", "GL", "mesh", "plain"],
)
def test_beam_search_is_that_of_the_teacher_forced_scores(
  setting, contraction, mesh, searches, record_property
):
  figures = _beams(setting, contraction, mesh, searches)
  for name, value in figures.items():
    record_property(name, float(value))
  # Mixing inputs up would show.
  assert figures["smallest difference of two inputs"] > 0.01
  assert figures["hypotheses equal"] == figures["hypotheses"] >= 8
  assert figures["largest score difference"] < 1e-4


def _scores(folder, setting, texts, batch=10):
  """MtfModel.score on texts, and the teacher-forced sums.

  Args:
    folder: for the checkpoint
    setting: as in SETTINGS
    texts: a list of (inputs, targets), a multiple of `batch`
    batch: how many are scored at a time

  Returns:
    both, [len(texts)]
  """
  variant, *others = setting
  micro = Model(variant, MICRO + bindings(*others))
  with micro.tf_graph.as_default():
    forced, _ = micro.forced(len(texts), LENGTH, STEPS)
    tf.train.create_global_step()
    with micro.start({"forced": forced}) as run:
      tf.train.Saver().save(
        micro.session, os.path.join(folder, "model.ckpt"), global_step=0
      )
      with open(os.path.join(folder, "operative_config.gin"), "w") as f:
        f.write(gin.config_str())
      ids = [
        mtf_testing.pad(
          [[*VOCABULARY.encode(t.strip()), EOS][:n] for t in column], n
        )
        for column, n in zip(
          zip(*texts, strict=True), (LENGTH, STEPS), strict=True
        )
      ]
      (forced,) = run(["forced"], inputs=ids[0], targets=ids[1])
  model = t5.models.mtf_model.MtfModel(
    model_dir=str(folder),
    tpu=None,
    mesh_shape="model:1,batch:1",
    mesh_devices=["cpu:0"],
    batch_size=batch,
    sequence_length={"inputs": LENGTH, "targets": STEPS},
  )
  got, _ = model.score(
    *map(list, zip(*texts, strict=True)), vocabulary=VOCABULARY
  )
  return np.array(got), -example_losses(forced, ids[1])


def test_scores_are_the_teacher_forced_sums(
  tmp_path, shared_data, record_property
):
  texts = real_texts(shared_data, 50)
  got, want = _scores(tmp_path, SETTINGS[0], texts)
  record_property("largest difference", float(np.abs(got - want).max()))
  assert len(np.unique(want.round(3))) > 40
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def main():
  """Prints the figures of the closing note."""
  shared_data = shared_data_folder()
  inputs = _real_inputs(shared_data, 200)

  def show(what, figures):
    values = [
      f"{key} {value:.2g}" if isinstance(value, float) else f"{key} {value}"
      for key, value in figures.items()
    ]
    print(what, "; ".join(values), sep=": ", flush=True)

  for setting in ALL_SETTINGS:
    show("greedy " + " ".join(setting), _compare_greedy(inputs, 50, setting))
  for setting in SETTINGS:
    show("sampling " + " ".join(setting), _sample(setting))
  for setting in SETTINGS:
    show("beam " + " ".join(setting), _beams(setting))
  show("beam on a mesh", _beams(SETTINGS[0], mesh=MESH, searches=SEARCHES[:2]))
  texts = real_texts(shared_data, 200)
  for setting in SETTINGS:
    with tempfile.TemporaryDirectory() as folder:
      got, want = _scores(folder, setting, texts)
    error = float(np.abs(got - want).max())
    figures = {"inputs": len(want), "largest difference": error}
    show("scores " + " ".join(setting), figures)


def shared_data_folder():
  """Where the programs look for real files: from the project's folder."""
  return pathlib.Path(os.environ.get("HYPERGRID_TEST_DATA", "../shared/data"))


if __name__ == "__main__":  # python -m tests.hypergrid_mtf.decoding_test
  main()
