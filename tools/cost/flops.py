"""FLOPs of the matrix products of a graph."""

import math

import tensorflow.compat.v1 as tf

_PRODUCTS = ("Einsum", "MatMul", "BatchMatMul", "BatchMatMulV2")
_LOOPS = ("While", "StatelessWhile")


def of_operation(operation: tf.Operation) -> int:
  """FLOPs of a matrix product: two for a multiplication and an addition.

  Args:
    operation: of any type; what is not a product has none.
  """
  if operation.type not in _PRODUCTS:
    return 0
  shapes = [t.shape.as_list() for t in operation.inputs]
  if operation.type == "Einsum":
    names, out = operation.get_attr("equation").decode().split("->")
    sizes: dict[str, int] = {}
    for letters, shape in zip(names.split(","), shapes, strict=True):
      sizes.update(zip(letters, shape, strict=True))
    contracted = math.prod(n for d, n in sizes.items() if d not in out)
  elif operation.type == "MatMul":
    contracted = shapes[0][0 if operation.get_attr("transpose_a") else 1]
  else:
    contracted = shapes[0][-2 if operation.get_attr("adj_x") else -1]
  return 2 * operation.outputs[0].shape.num_elements() * contracted


def of_results(results, loop: int) -> int:
  """FLOPs of the matrix products that some tensors need.

  Args:
    results: tensors of one graph, whose loops are functions.
    loop: how often the body of a loop runs.
  """
  total, seen = 0, set()
  waiting = [t.op for t in results]
  while waiting:
    operation = waiting.pop()
    if operation in seen:
      continue
    seen.add(operation)
    waiting += [t.op for t in operation.inputs]
    waiting += operation.control_inputs
    total += of_operation(operation)
    if operation.type in _LOOPS:
      name = operation.get_attr("body").name
      body = operation.graph._get_function(name).graph
      total += loop * of_results(body.outputs, 1)
  return total
