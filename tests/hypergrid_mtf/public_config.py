"""An operative_config.gin like those beside the public T5 checkpoints.

Not a copy of one: the bindings that theirs have and this project's files have
not, or have otherwise. They are made by gin on a pod, by an older t5.
"""

_RULE = "# " + "=" * 78
_HEAD = """\
import mesh_tensorflow.optimize
import mesh_tensorflow.transformer.dataset
import mesh_tensorflow.transformer.learning_rate_schedules
import mesh_tensorflow.transformer.t2t_vocabulary
import mesh_tensorflow.transformer.transformer
import mesh_tensorflow.transformer.transformer_layers
import mesh_tensorflow.transformer.utils
import t5.data.sentencepiece_vocabulary
import t5.models.mesh_transformer
"""
_PARTS = {
  "Macros": """
d_ff = 2048
d_kv = 64
d_model = 512
dropout_rate = 0.1
init_checkpoint = 'gs://bucket/model.ckpt-1000000'
MIXTURE_NAME = 'all_mix'
num_heads = 8
num_layers = 6
""",
  "Parameters for AdafactorOptimizer": """
AdafactorOptimizer.beta1 = 0.0
AdafactorOptimizer.clipping_threshold = 1.0
AdafactorOptimizer.decay_rate = None
AdafactorOptimizer.epsilon1 = 1e-30
AdafactorOptimizer.factored = True
AdafactorOptimizer.min_dim_size_to_factor = 128
""",
  "Parameters for Bitransformer": """
Bitransformer.shared_embedding = True
""",
  "Parameters for decoder/DenseReluDense": """
decoder/DenseReluDense.activation = 'relu'
decoder/DenseReluDense.dropout_rate = %dropout_rate
decoder/DenseReluDense.hidden_size = %d_ff
decoder/DenseReluDense.use_bias = False
""",
  "Parameters for encoder/DenseReluDense": """
encoder/DenseReluDense.activation = 'relu'
encoder/DenseReluDense.dropout_rate = %dropout_rate
encoder/DenseReluDense.hidden_size = %d_ff
encoder/DenseReluDense.use_bias = False
""",
  "Parameters for enc_dec_attention_bias": """
# None.
""",
  "Parameters for decoder/EncDecAttention": """
decoder/EncDecAttention.relative_attention_type = None
""",
  "Parameters for get_sentencepiece_model_path": """
get_sentencepiece_model_path.mixture_or_task_name = %MIXTURE_NAME
""",
  "Parameters for get_variable_dtype": """
get_variable_dtype.activation_dtype = 'bfloat16'
""",
  "Parameters for decoder/LayerStack": """
decoder/LayerStack.dropout_rate = %dropout_rate
decoder/LayerStack.norm_epsilon = 1e-06
decoder/LayerStack.recompute_grads = False
""",
  "Parameters for encoder/LayerStack": """
encoder/LayerStack.dropout_rate = %dropout_rate
encoder/LayerStack.norm_epsilon = 1e-06
encoder/LayerStack.recompute_grads = False
""",
  "Parameters for learning_rate_schedule_noam": """
learning_rate_schedule_noam.linear_decay_fraction = 0.1
learning_rate_schedule_noam.multiplier = 1.0
learning_rate_schedule_noam.offset = 0
learning_rate_schedule_noam.warmup_steps = 10000
""",
  "Parameters for make_bitransformer": """
make_bitransformer.decoder_name = 'decoder'
make_bitransformer.encoder_name = 'encoder'
""",
  "Parameters for decoder/make_layer_stack": """
decoder/make_layer_stack.block_scope = True
decoder/make_layer_stack.layers = \\
    [@mesh_tensorflow.transformer.transformer_layers.SelfAttention,
     @mesh_tensorflow.transformer.transformer_layers.EncDecAttention,
     @mesh_tensorflow.transformer.transformer_layers.DenseReluDense]
decoder/make_layer_stack.num_layers = %num_layers
""",
  "Parameters for encoder/make_layer_stack": """
encoder/make_layer_stack.block_scope = True
encoder/make_layer_stack.layers = \\
    [@mesh_tensorflow.transformer.transformer_layers.SelfAttention,
     @mesh_tensorflow.transformer.transformer_layers.DenseReluDense]
encoder/make_layer_stack.num_layers = %num_layers
""",
  "Parameters for maybe_print_dataset": """
maybe_print_dataset.should_print = False
""",
  "Parameters for mesh_train_dataset_fn": """
mesh_train_dataset_fn.mixture_or_task_name = %MIXTURE_NAME
mesh_train_dataset_fn.use_cached = True
""",
  "Parameters for pack_dataset": """
pack_dataset.use_custom_ops = True
""",
  "Parameters for run": """
run.autostack = True
run.batch_size = ('tokens_per_batch', 65536)
run.dataset_split = 'train'
run.ensemble_inputs = None
run.eval_checkpoint_step = None
run.eval_dataset_fn = None
run.eval_summary_dir = None
run.export_path = ''
run.iterations_per_loop = 100
run.keep_checkpoint_max = None
run.layout_rules = \\
    'ensemble:ensemble,batch:batch,d_ff:model,heads:model,vocab:model,experts:batch'
run.learning_rate_schedule = \\
    @learning_rate_schedules.learning_rate_schedule_noam
run.mesh_shape = @mesh_tensorflow.transformer.utils.tpu_mesh_shape()
run.mode = 'train'
run.init_checkpoint = None
run.model_type = 'bitransformer'
run.optimizer = @optimize.AdafactorOptimizer
run.perplexity_eval_steps = 10
run.predict_fn = None
run.save_checkpoints_steps = 2400
run.sequence_length = {'inputs': 512, 'targets': 512}
run.train_dataset_fn = @t5.models.mesh_transformer.mesh_train_dataset_fn
run.train_steps = 1000000000
run.variable_filter = None
run.vocabulary = @t5.models.mesh_transformer.get_vocabulary()
""",
  "Parameters for decoder/SelfAttention": """
decoder/SelfAttention.attention_kwargs = None
decoder/SelfAttention.dropout_rate = %dropout_rate
decoder/SelfAttention.key_value_size = %d_kv
decoder/SelfAttention.num_heads = %num_heads
decoder/SelfAttention.num_memory_heads = 0
decoder/SelfAttention.relative_attention_num_buckets = 32
decoder/SelfAttention.relative_attention_type = 'bias_shared'
decoder/SelfAttention.shared_kv = False
""",
  "Parameters for encoder/SelfAttention": """
encoder/SelfAttention.attention_kwargs = None
encoder/SelfAttention.dropout_rate = %dropout_rate
encoder/SelfAttention.key_value_size = %d_kv
encoder/SelfAttention.num_heads = %num_heads
encoder/SelfAttention.num_memory_heads = 0
encoder/SelfAttention.relative_attention_num_buckets = 32
encoder/SelfAttention.relative_attention_type = 'bias_shared'
encoder/SelfAttention.shared_kv = False
""",
  "Parameters for SentencePieceVocabulary": """
SentencePieceVocabulary.extra_ids = 100
SentencePieceVocabulary.sentencepiece_model_file = \\
    @t5.models.mesh_transformer.get_sentencepiece_model_path()
""",
  "Parameters for serialize_num_microbatches": """
serialize_num_microbatches.tokens_per_microbatch_per_replica = 8192
""",
  "Parameters for SimdMeshImpl": """
SimdMeshImpl.allreduce_in_bfloat16_max_group_size = 8
""",
  "Parameters for tpu_estimator_model_fn": """
tpu_estimator_model_fn.outer_batch_size = 1
tpu_estimator_model_fn.tpu_summaries = False
""",
  "Parameters for tpu_mesh_shape": """
tpu_mesh_shape.ensemble_parallelism = None
tpu_mesh_shape.model_parallelism = 1
tpu_mesh_shape.tpu_topology = '8x8'
""",
  "Parameters for decoder/Unitransformer": """
decoder/Unitransformer.d_model = %d_model
decoder/Unitransformer.ensemble = None
decoder/Unitransformer.label_smoothing = 0.0
decoder/Unitransformer.loss_denominator = None
decoder/Unitransformer.loss_fn = None
decoder/Unitransformer.max_length = 512
decoder/Unitransformer.positional_embedding = False
decoder/Unitransformer.shared_embedding_and_softmax_weights = True
decoder/Unitransformer.vocab_divisor = 128
decoder/Unitransformer.z_loss = 0.0001
""",
  "Parameters for encoder/Unitransformer": """
encoder/Unitransformer.d_model = %d_model
encoder/Unitransformer.ensemble = None
encoder/Unitransformer.max_length = 512
encoder/Unitransformer.positional_embedding = False
encoder/Unitransformer.shared_embedding_and_softmax_weights = True
encoder/Unitransformer.vocab_divisor = 128
""",
  "Parameters for VarianceScalingInitializer": """
VarianceScalingInitializer.distribution = 'normal'
VarianceScalingInitializer.mode = 'fan_in'
VarianceScalingInitializer.scale = 1.0
""",
}


def text() -> str:
  """The file, with the heads that gin writes."""
  parts = [f"# {head}:\n{_RULE}{body}" for head, body in _PARTS.items()]
  return "\n".join([_HEAD, *parts])
