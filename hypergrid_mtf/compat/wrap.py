"""Replaces a library's function by one that calls it."""

import functools


def wrap(owner, name: str):
  """Decorator: the function is called instead of `owner.name`.

  Args:
    owner: a module or class of the library.
    name: of the function or method.

  Returns:
    A decorator for a function that takes the library's function first, then the
    arguments of the call. Wrapping again with the same function does nothing.
  """

  def decorate(function):
    original = getattr(owner, name)
    patches = getattr(original, "_hypergrid_patches", ())
    if function.__qualname__ not in patches:

      @functools.wraps(original)
      def call(*args, **kwargs):
        return function(original, *args, **kwargs)

      marked = (*patches, function.__qualname__)
      vars(call)["_hypergrid_patches"] = marked
      setattr(owner, name, call)
    return function

  return decorate
