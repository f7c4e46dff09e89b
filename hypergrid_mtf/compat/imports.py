"""Patches without which mesh_tensorflow and t5 cannot be imported."""

import importlib.util
import sys
import types


def check_tensorflow() -> None:
  """Refuses TensorFlow 2.16 and later, which have no TPUEstimator."""
  import tensorflow as tf

  version = tuple(int(x) for x in tf.__version__.split(".")[:2])
  if version >= (2, 16):
    raise ImportError(
      f"hypergrid_mtf needs TensorFlow 2.15, the last with TPUEstimator, and "
      f"TensorFlow {tf.__version__} is already imported: install "
      "requirements.txt in an environment of its own."
    )


def patch_tensor_conversion_registry() -> None:
  """mesh_tensorflow 0.1.21 needs a function that TensorFlow moved.

  What: `ops.register_tensor_conversion_function` lives in
  `tensor_conversion_registry` since TensorFlow 2.14 (mesh issues 392, 396), so
  `import mesh_tensorflow` raises AttributeError. The old name is restored.
  Can go: with a mesh_tensorflow release that imports on TensorFlow 2.15.
  """
  from tensorflow.python.framework import (
    ops,
    tensor_conversion_registry,
  )

  name = "register_tensor_conversion_function"
  if hasattr(ops, name):
    return
  # A failed import leaves half-initialized submodules and their gin
  # registrations behind.
  if any(m.startswith(("mesh_tensorflow.", "t5.models.")) for m in sys.modules):
    raise ImportError(
      "mesh_tensorflow or t5 was imported before hypergrid_mtf, and that "
      "import failed: import hypergrid_mtf first."
    )
  setattr(ops, name, getattr(tensor_conversion_registry, name))


class _NeedsTorch:
  """Stands in for t5's PyTorch model where PyTorch is not installed."""

  def __init__(self, *unused_args, **unused_kwargs):
    raise ImportError(
      "t5.models.HfPyTorchModel needs PyTorch, which is not installed."
    )


def patch_t5_models_without_torch() -> None:
  """`import t5.models` imports PyTorch, which this project does not use.

  What: `t5/models/__init__.py` imports `hf_model`, which imports torch at the
  top. Where torch is absent, `t5.models.hf_model` becomes a module whose only
  class explains itself when used.
  Can go: with a t5 release that imports hf_model lazily.
  """
  name = "t5.models.hf_model"
  if name in sys.modules or importlib.util.find_spec("torch") is not None:
    return
  stand_in = types.ModuleType(name, "Stand-in: PyTorch is not installed.")
  vars(stand_in)["HfPyTorchModel"] = _NeedsTorch
  sys.modules[name] = stand_in
