"""A table of what is refused before a graph is built, and in which words.

Each row is one parse and one run, settled and checked as main does it.
"""

import re

import gin
import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import checks, devices, settle
from hypergrid_mtf.run.checks import mode, sizes
from t5_tasks import vocabularies
from tests import command, testing
from tests.hypergrid_mtf import command_line, wrong_runs
from tests.hypergrid_mtf.run import configuration
from tests.hypergrid_mtf.run.configuration import EMBEDDED

STEPS = "--model_dir={steps}"  # has checkpoints of the steps 20, 60 and 100
TPU = "--tpu=a-tpu"


def _shape(value):
  return f"run.mesh_shape = {value!r}"


def _layout(value):
  return f"run.layout_rules = {value!r}"


def _devices(value):
  return f"run.mesh_devices = {value!r}"


def _topology(value, *more):
  return (
    TPU,
    f"tpu_mesh_shape.tpu_topology = {value!r}",
    *(f"tpu_mesh_shape.{binding}" for binding in more),
  )


# A binding, and what it must be; the sentence ends in the flag.
VALUES = (
  ("run.train_steps = '5'", "run.train_steps = '5' must be a positive integer"),
  ("run.train_steps = 1e3", "= 1000.0 must be a positive integer"),
  ("run.train_steps = 0", "= 0 must be a positive integer"),
  ("run.train_steps = True", "= True must be a positive integer"),
  ("run.save_checkpoints_steps = 0", "= 0 must be a positive integer"),
  ("run.save_checkpoints_steps = None", "= None must be a positive integer"),
  ("run.keep_checkpoint_max = -1", "= -1 must be an integer of 0 or more or"),
  ("run.iterations_per_loop = 2.5", "= 2.5 must be a positive integer"),
  ("run.perplexity_eval_steps = '9'", "= '9' must be a positive integer"),
  ("run.total_run_steps = 'all'", "must be a positive integer or None"),
  ("run.learning_rate_schedule = '0.1'", "must be a number of 0 or more"),
  ("run.learning_rate_schedule = [0.1, 'x']", "must be a number of 0 or more"),
  ("run.learning_rate_schedule = -0.1", "= -0.1 must be a number of 0 or"),
  ("run.optimizer = 'Adafactor'", "= 'Adafactor' must be a reference"),
  ("run.dataset_split = 'validation'", "must be 'train', the split of mode"),
  ("run.skip_seen_data = 'no'", "= 'no' must be True or False"),
  ("dropout_rate = 1.0", "must be None or a number in [0, 1)"),
  ("dropout_rate = -0.1", "must be None or a number in [0, 1)"),
  ("dropout_rate = '0.1'", "must be None or a number in [0, 1)"),
  ("d_model = 0", "Unitransformer.d_model = 0 must be a positive integer"),
  ("num_layers = 0", "num_layers = 0 must be a positive integer"),
  ("num_heads = 1.5", "SelfAttention.num_heads = 1.5 must be a positive"),
  ("d_kv = -4", "key_value_size = -4 must be a positive integer"),
  ("d_ff = '64'", "hidden_size = '64' must be a positive integer"),
  ("decoder/Unitransformer.label_smoothing = 2", "decoder/Unitransformer"),
  (
    "serialize_num_microbatches.tokens_per_microbatch_per_replica = -5",
    "= -5 must be a number of 0 or more or None",
  ),
  ("tpu_estimator_model_fn.outer_batch_size = 'x'", "a positive integer"),
  ("Bitransformer.decode.beam_size = 0", "Bitransformer.decode.beam_size"),
  ("Bitransformer.decode.sampling_keep_top_k = 0", "must be -1 or a positive"),
  ("Bitransformer.decode.max_decode_length = 0", "positive integer or None"),
  ("beam_search.num_prefilter = -1", "= -1 must be an integer of 0 or more"),
  ("linear_decay.steps_or_fraction = 'half'", "must be a number of 0 or more"),
  # Known by the default alone.
  ("AdafactorOptimizer.beta1 = '0.9'", "beta1 = '0.9' must be a number"),
  ("Bitransformer.shared_embedding = 'False'", "must be True or False"),
)
SIZES = (
  ("run.batch_size = 0", "= 0 is not a batch size", "positive integer"),
  ("run.batch_size = 'many'", "= 'many' is not a batch size"),
  ("run.batch_size = True", "= True is not a batch size"),
  ("run.batch_size = ('tokens_per_batch', 0)", "is not a batch size"),
  ("run.batch_size = ('token_per_batch', 24)", "is not a batch size"),
  ("run.batch_size = ('tokens_per_batch', 24.0)", "is not a batch size"),
  (
    "run.batch_size = ('tokens_per_batch', 1000)",
    "not a multiple of the length",
    "is 24; give",
    "('tokens_per_batch', 984) or ('tokens_per_batch', 1008)",
    "('sequences_per_batch', 41)",
  ),
  (
    "run.batch_size = ('tokens_per_replica', 10)",
    "give ('tokens_per_replica', 24), or ('sequences_per_replica', 1)",
  ),
  (
    "run.sequence_length = {'input': 24, 'targets': 16}",
    "embedded_v1 has no feature 'input'",
    "'inputs', 'targets'",
  ),
  ("run.sequence_length = {'inputs': 24}", "no length", "'targets'"),
  ("run.sequence_length = {'inputs': 0, 'targets': 4}", "not a length"),
  ("run.sequence_length = -1", "= -1 is not a length"),
  ("run.sequence_length = '24'", "= '24' is not a length"),
  ("run.sequence_length = None", 'mode "train" cannot'),
)
# Flags and bindings => words of the sentence.
MESHES = r"""
run.mesh_shape = 'batch:2' | run.mesh_devices = ['cpu:0', 'cpu:1']
  => run.mesh_devices names cpu:1, which this machine does not have: it has
    cpu:0.
run.mesh_shape = 'batch:2' | run.mesh_devices = ['cpu:0']
  => run.mesh_devices names 1 device, and run.mesh_shape = 'batch:2' has 2:
    name as many as the mesh has.
run.mesh_shape = 'batch:2' | run.mesh_devices = ['cpu:0', 'cpu:0', 'cpu:0']
  => run.mesh_devices names 3 devices, and run.mesh_shape = 'batch:2' has 2
run.mesh_shape = 'batch:2' | run.mesh_devices = 'cpu:0'
  => run.mesh_devices = 'cpu:0' is not a list of devices
run.mesh_devices = ['cpu 0']
  => run.mesh_devices = ['cpu 0'] is not a list
run.mesh_devices = [0]
  => run.mesh_devices = [0] is not a list of devices
run.mesh_devices = ['/job:worker/device:GPU:0']
  => names /job:worker/device:GPU:0, but TF_CONFIG, which says where the job
    worker runs, is not set
run.mesh_shape = 'modle:2'
  => run.mesh_shape = 'modle:2': no rule of run.layout_rules =
    'ensemble:ensemble,batch | vocab:model,experts:batch' names the axis
    modle, so its 2 devices would all do the same work (did you mean model?):
    the rules name batch, ensemble, model.
run.mesh_shape = 'ensemble:2'
  => run.mesh_shape = 'ensemble:2': the axis ensemble splits nothing of this
    model, so its 2 devices would all do the same work: no tensor has the
    dimension of the rule ensemble:ensemble.
run.mesh_shape = 'model:2,batch:2' | run.layout_rules = 'batch:batch,d_f:model'
  => the axis model splits nothing of this model
run.mesh_shape = 'model:2,batch:2' | run.layout_rules =
    'd_ff:model,batch:batch,d_ff:batch'
  => splits d_ff over two axes of the mesh, model and batch: keep one
run.mesh_shape = 'model:2' | run.layout_rules = 'd_model:model,d_ff:model'
  => run.layout_rules = 'd_model:model,d_ff:model' splits both d_model and
    d_ff of encoder/block_000/layer_001/DenseReluDense/wi/kernel [d_model=16,
    d_ff=64] over the axis model: leave one of these rules out.
run.mesh_shape = 'batch:5'
  => run.batch_size = ('sequences_per_batch', 64), 64 sequences, does not
    divide among the 5 devices of the axis batch (run.mesh_shape = 'batch:5'):
    give a multiple of 5.
run.mesh_shape = 'batch:2' | run.batch_size = 7
  => run.batch_size = 7 does not divide among the 2 devices of the axis batch
    (run.mesh_shape = 'batch:2'): give a multiple of 2.
run.mesh_shape = 'batch:2' | tpu_estimator_model_fn.outer_batch_size = 3
  => 64 sequences, does not divide among 3 outer batches and the 2 devices of
    the axis batch (run.mesh_shape = 'batch:2'): give a multiple of 6.
run.mesh_shape = 'model:8' | run.layout_rules = 'heads:model'
  => heads = 4 does not divide among the 8 devices of the axis model
    (run.mesh_shape = 'model:8'): choose a divisor of 4, or leave heads:model
    out of the rules.
run.mesh_shape = 'model:3' | run.layout_rules = 'd_ff:model'
  => d_ff = 64 does not divide among the 3 devices of the axis model
run.mesh_shape = 'model:3' | run.layout_rules = 'grid_rows:model'
  => grid_rows = 16 does not divide among the 3 devices of the axis model
run.mesh_shape = 'model:7' | run.layout_rules = 'length:model'
  => length = 1 does not divide among the 7 devices of the axis model
    (run.mesh_shape = 'model:7'): leave length:model out of the rules.
run.ensemble_inputs = 2 | Unitransformer.ensemble = 3
  => run.ensemble_inputs = 2, and Unitransformer.ensemble is 3: give both the
    same number
encoder/Unitransformer.ensemble = 2
  => Unitransformer.ensemble is 2 in the encoder and None in the decoder
run.mesh_shape = 'ensemble:2' | Unitransformer.ensemble = 3
  => ensemble = 3 does not divide among the 2 devices of the axis ensemble
--tpu=a-tpu
  => --tpu needs the topology of the TPU: give tpu_mesh_shape.
--tpu=a-tpu | tpu_mesh_shape.tpu_topology = '4x4' |
    tpu_mesh_shape.model_parallelism = 3
  => model_parallelism = 3 does not divide the 32 cores of
    tpu_mesh_shape.tpu_topology = '4x4'
--tpu=a-tpu | tpu_mesh_shape.tpu_topology = 'v3-8' |
    tpu_mesh_shape.ensemble_parallelism = 2 | tpu_mesh_shape.model_parallelism =
    8
  => tpu_mesh_shape.model_parallelism = 8 and
    tpu_mesh_shape.ensemble_parallelism = 2 do not divide the 8 cores of
    tpu_mesh_shape.tpu_topology = 'v3-8': give a divisor of 8.
--tpu=a-tpu | tpu_mesh_shape.tpu_topology = 'v3-8' |
    tpu_mesh_shape.model_parallelism = [['model', [3]]]
  => model_parallelism = [['model', [3]]] does not divide the 8 cores
--tpu=a-tpu | tpu_mesh_shape.tpu_topology = 'v3-32' | run.batch_size = 24
  => run.batch_size = 24 does not divide among the 32 devices of the axis
    batch (tpu_mesh_shape.tpu_topology = 'v3-32',
    tpu_mesh_shape.model_parallelism = 1): give a multiple of 32.
--tpu=a-tpu | tpu_mesh_shape.tpu_topology = 'v5litepod-8'
  => only the PJRT runtime
--tpu=a-tpu | tpu_mesh_shape.tpu_topology = 'v4-8'
  => TensorFlow sees 4: give the chips, '4x1', and --logical_cores_per_chip
--tpu=a-tpu | tpu_mesh_shape.tpu_topology = 'v3-32' | --logical_cores_per_chip=1
  => does not fit tpu_mesh_shape.tpu_topology = 'v3-32'
--tpu=a-tpu | tpu_mesh_shape.tpu_topology = 'v3-32' | --tpu=local
  => one host, but tpu_mesh_shape.tpu_topology = 'v3-32' has 4
--tpu=a-tpu | tpu_mesh_shape.tpu_topology = 'v3-32' | --model_dir=runs/x
  => --model_dir=runs/x is only on this machine
--tpu=a-tpu | tpu_mesh_shape.tpu_topology = 'v3-32' | --tpu=pod |
    --model_dir=gs://b/run | --additional_task_cache_dirs=gs://b/c,cache |
    run.skip_seen_data = False
  => --additional_task_cache_dirs=cache is only on this machine
"""
REPEATED = (
  *(
    ([_shape(value)], f"run.mesh_shape = {value!r} is not a mesh: give AXIS:")
    for value in (
      *("model=2", "model:0", "model:-2", "model:two", "model:2,model:4"),
      *("model", ":2", {"model": 2}, [("model", 2.0)], [["model", 2]], 4),
    )
  ),
  *(
    (
      [_shape("model:2"), _layout(rules)],
      f"run.layout_rules = {rules!r} is not a layout: give DIMENSION:AXIS",
    )
    for rules in (
      *("d_ff=model", {"d_ff": "model"}, ["d_ff:model"]),
      *([["d_ff", "model"]], None),
    )
  ),
  *(
    (_topology(text), f"tpu_mesh_shape.tpu_topology = {text!r} is not a topol")
    for text in ("v3", "v3-", "4*4", "", "4x", 8)
  ),
  *(
    (
      _topology("v3-8", f"model_parallelism = {value!r}"),
      f"tpu_mesh_shape.model_parallelism = {value!r} does not divide the 8 "
      "cores of tpu_mesh_shape.tpu_topology = 'v3-8': give a divisor of 8.",
    )
    for value in (3, 16, 0, "2", 2.0, None)
  ),
)
TASK_TOKENS = "MIXTURE_NAME = 'embedded_v1_task_token'"
# File of peers/, bindings, words.
PEERS = (
  (
    "ia3",
    "",
    "_v1 begin with ",
    "<extra_id_0> to <extra_id_23>",
    "_task_token",
  ),
  ("ia3", "num_tasks.count = 0", "= 0 must be a positive integer"),
  ("ia3", "num_tasks.count = 20", "begin with 33", "to <extra_id_19>"),
  ("ia3", "SelfAttention.shared_kv = True", "(IA)³ scales keys and values"),
  ("ia3", "Unitransformer.ensemble = 2", "ensemble = 2 is an ensemble"),
  ("ia3", "DenseReluDense.activation = 'gelo'", "'gelo' is unknown"),
  ("adapter", "Adapter.activation = 'gelo'", "'gelo' is unknown"),
  ("adapter", "Adapter.bottleneck = 0", "Adapter.bottleneck = 0 must be"),
  (
    "hyperprompt_sep",
    "HyperPrompt.variant = 'all'",
    "'all' is unknown",
    "'sep'",
  ),
  ("hyperprompt_sep", "SelfAttention.num_memory_heads = 1", "every head"),
  ("hyperprompt_sep", "SelfAttention.shared_kv = True", "every head"),
  ("hyperprompt_sep", "SelfAttention.num_heads = 1", "of 2 or more"),
  ("frozen", "run.variable_filter = '/adaptor/'", "matches no variable"),
  ("frozen", "run.variable_filter = '('", "is not a regular expression"),
)
OTHERS = (
  *(
    (
      [f"--gin_file=peers/{peer}.gin"]
      + [b for b in (binding, TASK_TOKENS) if binding and b],
      *words,
    )
    for peer, binding, *words in PEERS
  ),
  # Flags of another program.
  (["--train_steps=4"], "--train_steps=4 belongs to t5's model API"),
  (["--use_model_api"], "--use_model_api belongs to t5's model API"),
  # Gin.
  (["run.train_steps = %STEPS"], "refers to the macro STEPS", "--gin_param"),
  (
    ["d_modl = 32"],
    'd_modl (--gin_param="d_modl = 32"): did you mean d_model?',
  ),
  (
    ["encodr/DenseReluDense.dropout_rate = 0.5"],
    "never enters the scope encodr/ (",
    "did you mean encoder/?",
  ),
  (
    ["N = %gin.REQUIRED", "run.train_steps = %N"],
    '--gin_param="N = %gin.REQUIRED": N is required',
  ),
  (["run.mode = 'trian'"], "'trian' is unknown", "'train'"),
  (
    ["Bitransformer.decode.beam_size = 4", "run.mode = 'infer'"]
    + ["Bitransformer.decode.temperature = 1.0"],
    'beam_size = 4 (--gin_param="Bitransformer.decode.beam_size = 4") uses',
    "temperature = 1.0 (",
    "t5 cannot do both: give Bitransformer.decode.beam_size = 1, or",
  ),
  # The layer and the model.
  (["HyperGrid.variant = 'LL'"], "variant", "'LL'", "'L2'"),
  (["HyperGrid.gate = 'relu'"], "gate = 'relu' is unknown"),
  (["HyperGrid.grid_rows = 7"], "grid_rows", "7", "64"),
  (["HyperGrid.grid_cols = 7"], "grid_cols", "7", "16"),
  (["HyperGrid.grid_rows = True"], "grid_rows", "True"),
  (["HyperGrid.grid_rows = '8'"], "grid_rows", "'8'", "integer"),
  (["HyperGrid.zero_init = 'no'"], "zero_init", "'no'"),
  (["DenseReluDense.activation = 'rellu'"], "'rellu'"),
  (["HyperGrid.contraction = 'row'"], "contraction", "'row'", "'rows'"),
  (
    ["HyperGrid.contraction = 'weights'", "mesh_train_dataset_fn.pack = True"],
    *("'weights'", "packed", "'rows'", "'cols'", "'auto'", "pack = False"),
  ),
  (["run.model_type = 'bitrans'"], "'bitrans'"),
  (
    ["run.model_type = 'lm'"]
    + ["transformer.make_layer_stack.layers = [@HyperGrid]"],
    "'lm'",
    "bitransformer",
  ),
  *(
    (
      [f"run.model_type = '{kind}'"]
      + [
        "transformer.make_layer_stack.layers = "
        "[@transformer_layers.DenseReluDense]"
      ],
      "coder/transformer.make_layer_stack.layers has HyperGrid (",
      f"layers.gin, line 15), and run.model_type = '{kind}' has no stack",
      "'bitransformer'",
    )
    for kind in ("lm", "delimited_lm", "aligned", "bi_student_teacher")
  ),
  # Data and vocabulary.
  (["MIXTURE_NAME = 'glou'"], "glou"),
  (["--vocabulary="], "vocabulary"),
  (["--vocabulary=/nowhere/sp.model"], "/nowhere/sp.model"),
  ([f"--vocabulary={testing.PIECES}"], "cannot be used: the task 'embed"),
  (
    ["MIXTURE_NAME = 'glue_cola_v002'", "--vocabulary=bytes"]
    + ["--t5_tfds_data_dir={steps}"],
    "glue/cola:1.0.0",
  ),
  # Steps.
  *(
    (
      [STEPS, f"run.mode = '{mode_}'", f"run.eval_checkpoint_step = {value}"],
      f'step = {value} (--gin_param="run.eval_checkpoint_step = {value}"): '
      "there is no checkpoint of step 33 in",
      "which has steps 20, 60, 100",
    )
    for mode_, value in (
      ("infer", "[33]"),
      ("perplexity_eval", "(20, 33)"),
      ("score_from_strings", "33"),
    )
  ),
  *(
    (
      [STEPS, "run.mode = 'infer'", f"run.eval_checkpoint_step = {value}"],
      "is not a step (",
      "'all', or -1 for the last",
    )
    for value in ("-2", "[]", "'last'", "40.0", "True", "[-1]", "[20, 'all']")
  ),
  *(
    (
      [STEPS, "run.mode = 'export_infer'"]
      + [f"run.export_checkpoint_step = {value}"],
      words,
    )
    for value, words in (
      ("33", "no checkpoint of step 33"),
      ("'all'", "is not a step"),
      ("[20, 60]", "one can be exported"),
      ("0", "no checkpoint of step 0"),
    )
  ),
  # Checkpoints to start from.
  (["run.init_checkpoint = 5"], "init_checkpoint = 5 is not the path"),
)


def _rows():
  for text, words in VALUES:
    yield [text], words, f'(--gin_param="{text}")'
  for text, *words in SIZES:
    yield [text], *words, f'(--gin_param="{text}")'
  for row in re.split(r"\n(?! )", MESHES.strip()):
    given, words = " ".join(row.split()).split(" => ")
    yield given.split(" | "), *words.split(" | ")
  yield from REPEATED
  yield from OTHERS


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
  folder = tmp_path_factory.mktemp("steps")
  for step in (60, 20, 100):
    (folder / f"model.ckpt-{step}.index").touch()
    (folder / f"model.ckpt-{step}.data-00000-of-00001").touch()
  return str(folder)


@pytest.mark.parametrize("row", _rows(), ids=lambda row: " ".join(row[0])[-50:])
def test_what_cannot_work_is_refused(row, monkeypatch, tmp_path, steps):
  monkeypatch.setattr(devices, "present", lambda: ["cpu:0"])
  monkeypatch.delenv("TF_CONFIG", raising=False)
  given, *words = row
  given = [g.replace("{steps}", steps) for g in given]
  run = configuration.make_run(*given, model_dir=tmp_path / "run")
  with pytest.raises(errors.UserError) as e:
    configuration.check(run)
  message = errors.sentence(e.value)
  for word in words:
    assert word in message, message
  assert "In call to" not in message


def _published():
  """The rows of docs/dev/wrong_runs.md: {what is wrong: sentence}."""
  text = (command.ROOT / "docs/dev/wrong_runs.md").read_text(encoding="utf-8")
  rows = re.findall(r"^\| (.+?) \| `.*?` \| (.+?) \| 2 \|", text, re.M)
  return {name: sentence.replace("\\|", "|") for name, sentence in rows}


def test_the_published_table_is_what_is_said(tmp_path, monkeypatch):
  """In one process; `wrong_runs` itself starts one for each row."""
  monkeypatch.setattr(devices, "present", lambda: ["cpu:0"])
  vocabularies.use_vocabulary("t5")  # as a process begins
  wrong_runs.make_files(tmp_path)
  cases, published = wrong_runs.cases(tmp_path), _published()
  assert published.keys() == cases.keys()
  wrong = {}
  for name, given in cases.items():
    if name in wrong_runs.BEFORE_MAIN:
      continue
    try:
      command_line.call(*given)
    except errors.UserError as e:
      said = errors.sentence(e).replace(str(tmp_path), "DIR")
    if said != published[name]:
      wrong[name] = said
  command_line.reset()
  assert not wrong


@pytest.mark.parametrize(
  ("file", "lines", "words"),
  [
    # The file's name without the file of the mode: the macro is read by none.
    (
      None,
      ["run.mode = 'infer'", "input_filename = 'in'"],
      ["decode_from_file.input_filename is not given", "infer.gin"],
    ),
    (
      "infer.gin",
      ["input_filename = 'in'"],
      ["output_filename", "'/path/to/inputs'", "output_filename = '…'"],
    ),
    ("infer_from_task.gin", [], ["decode_from_dataset", "'bitransformer'"]),
    (
      "score",
      ["run.eval_checkpoint_step = 'all'"],
      ["'all'", "one checkpoint", "-1"],
    ),
    ("score", ["run.eval_checkpoint_step = [2, 4]"], ["[2, 4]"]),
    (
      "score",
      ["scores_filename = '/path/to/scores'"],
      ["scores_filename", "/path/to/scores"],
    ),
    ("score", ["save_scores.scores_filename = None"], ["not given"]),
    ("score", ["save_scores.scores_filename = 5"], ["5", "file"]),
    (
      None,
      ["run.mode = 'score_from_strings'"],
      ["score_from_strings.targets", "score_from_file.gin"],
    ),
    (
      None,
      ["run.mode = 'score_from_dataset'"],
      ["score_from_dataset.score_dataset_fn", "score_from_task.gin"],
    ),
    (None, ["run.mode = 'eval'"], ["run.eval_dataset_fn", "eval.gin"]),
    (
      None,
      ["run.mode = 'perplexity_eval'", "run.train_dataset_fn = None"],
      ["perplexity_eval.gin"],
    ),
    (
      "score_eval.gin",
      [],
      ["score_eval", "embedded_v1", "'eval'", "score_from_task.gin"],
    ),
    (
      "infer.gin",
      ["input_filename = 'in'", "output_filename = '/proc/nowhere/x'"],
      ["output_filename", "cannot be written"],
    ),
    (
      None,
      ["run.mode = 'export_infer'", "run.export_path = '/proc/nowhere'"],
      ["run.export_path", "cannot be written"],
    ),
  ],
  ids=lambda value: str(value)[:40],
)
def test_what_a_mode_needs_is_named(file, lines, words):
  files = EMBEDDED + ((file,) if file else ())
  if file == "score":
    files = (*EMBEDDED, "score_from_file.gin")
    lines = [
      *("inputs_filename = 'in'", "targets_filename = 'out'"),
      *("scores_filename = '/tmp/s'", *lines),
    ]
  run = configuration.make_run(*lines, files=files)
  with pytest.raises(errors.UserError) as e:
    mode.check_mode(run)
  for word in words:
    assert word in str(e.value)


def test_steps_that_are_computed_are_not_none():
  computed = "run.train_steps = @auto_train_steps"
  for tokens in (10000, 10):
    run = configuration.make_run(
      computed, f"auto_train_steps.train_tokens = {tokens}"
    )
    if tokens == 10000:
      sizes.check_train_steps(run)
  with pytest.raises(errors.UserError, match="computes 0 steps for a batch of"):
    sizes.check_train_steps(run)


def test_a_check_neither_binds_nor_prints(tmp_path, capsys):
  one_task = "MIXTURE_NAME = 'embedded_copy_v1'"
  run = configuration.make_run(one_task, model_dir=tmp_path)
  settle.settle(run)
  before = gin.config_str()
  capsys.readouterr()
  checks.check_run(run)
  lines = checks.list_notes(run)
  assert gin.config_str() == before and not capsys.readouterr().out
  assert all(isinstance(line, str) for line in lines)
