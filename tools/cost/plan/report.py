"""A plan as a person reads it: lines, a table, a picture."""

import io

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import pandas as pd  # noqa: E402

from hypergrid_mtf.run import files  # noqa: E402

_VANILLA = "vanilla"


def _row(candidate: dict, name: str, found: dict) -> dict:
  """One row of the table."""
  row = {
    "mesh": candidate["mesh"],
    "layout": candidate["layout_number"],
    "microbatch": candidate["microbatch"] or "-",
    "batch": candidate["batch"],
    "model": name,
  }
  if not found["compiles"]:
    return row | {"fits": "does not compile"}
  memory, step = found["memory"], found["step_seconds"]
  row |= {
    "fits": "yes" if found["fits"] else "no",
    "GB a core": found["needs"] / 1e9,
    "weights": memory["weights"] / 1e9,
    "optimizer": memory["optimizer"] / 1e9,
    "temporaries": memory["temporaries"] / 1e9,
    "TFLOP": found["matmul_flops"] / 1e12,
    "Mcycles": found["cycles"] / 1e6,
    "sent MB": sum(k["bytes"] for k in found["collectives"].values()) / 1e6,
    "step ms": 1e3 * step["step"],
    "of it sending": 1e3 * step["collectives"],
    "tokens/s": found["tokens_per_second"],
  }
  for name in ("hours", "price"):
    if name in found:
      row[name] = found[name]
  return row


def table(plan: dict) -> pd.DataFrame:
  """One row a candidate and model.

  Args:
    plan: of `tools.plan`.
  """
  rows = [
    _row(candidate, name, found)
    for candidate in plan["candidates"]
    for name, found in candidate["models"].items()
  ]
  return pd.DataFrame(rows)


def _text(value) -> str:
  if isinstance(value, str):
    return value
  if pd.isna(value):
    return ""
  if isinstance(value, int) or float(value).is_integer():
    return f"{value:,.0f}"
  return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def lines(plan: dict) -> list[str]:
  """The whole plan in text.

  Args:
    plan: of `tools.plan`.
  """
  frame = table(plan)
  text = frame.astype(object).applymap(_text).to_string(index=False)
  found = [
    f"{plan['topology']}: {plan['chips']} chips, {plan['cores']} cores; the "
    "compiler's estimates, a core and step:",
    "",
    *text.splitlines(),
    "",
  ]
  if len(plan["layouts"]) > 1:
    found += [f"layout {i + 1}: {x}" for i, x in enumerate(plan["layouts"])]
  found += [f"left out: {reason}" for reason in plan["left_out"]]
  for candidate in plan["candidates"]:
    for name, of_model in candidate["models"].items():
      if not of_model["compiles"]:
        found.append(
          f"{candidate['mesh']}, {name}: the compiler says: "
          f"{of_model['refused'][:300]}"
        )
  found += _sent(plan)
  found += _beside_vanilla(plan)
  if plan["depths"]:
    low, high = plan["depths"]
    found.append(
      f"extrapolated to {plan['depth']} + {plan['depth']} blocks from programs "
      f"of {low} + {low} and {high} + {high}, number by number, except where "
      "a model was compiled whole"
    )
  found += [f"assumed: {a}" for a in plan["assumptions"]]
  if plan["loops_counted_once"]:
    found.append("loops that the compiler made itself count once")
  for name, number in plan["cheapest"].items():
    if number is None:
      found.append(f"{name}: nothing fits")
      continue
    chosen = plan["candidates"][number]
    of_model = chosen["models"][name]
    costs = ""
    if "hours" in of_model:
      costs = f", {of_model['hours']:,.1f} hours for {plan['steps']:,} steps"
    if "price" in of_model:
      costs += f", {of_model['price']:,.0f} in all"
    found.append(
      f"{name}: the cheapest that fits is {chosen['mesh']} with microbatches "
      f"of {chosen['microbatch'] or 'all'} tokens, layout "
      f"{chosen['layout_number']}{costs}"
    )
  planner = plan["planner"]
  found.append(
    f"planned in {planner['seconds'] / 60:.1f} minutes; the largest process "
    f"took {planner['resident'] / 1e9:.1f} GB ({planner['compiled']} programs "
    f"compiled, {planner['cached']} compiled before)"
  )
  return found


def _sent(plan: dict) -> list[str]:
  """What goes along which axis, as Mesh TensorFlow asks for it."""
  found = []
  for candidate in plan["candidates"]:
    for name, of_model in candidate["models"].items():
      parts = [
        f"{kind} {axes} {size / 1e6:,.3f}"
        for kind, of_kind in of_model.get("by_axis", {}).items()
        for axes, size in of_kind.items()
      ]
      if parts:
        found.append(
          f"{name}, {candidate['mesh']}, sends in MB a core and step: "
          f"{', '.join(parts)}"
        )
  return found


def _beside_vanilla(plan: dict) -> list[str]:
  found = []
  for candidate in plan["candidates"]:
    base = candidate["models"].get(_VANILLA, {"compiles": False})
    for name, of_model in candidate["models"].items():
      if name == _VANILLA or not (base["compiles"] and of_model["compiles"]):
        continue
      ratio = {
        "cycles": of_model["cycles"] / base["cycles"],
        "step time": (
          of_model["step_seconds"]["step"] / base["step_seconds"]["step"]
        ),
        "memory": of_model["needs"] / base["needs"],
      }
      said = ", ".join(f"{k} {v:.3f}" for k, v in ratio.items())
      found.append(
        f"{name} beside vanilla, {candidate['mesh']}, microbatches of "
        f"{candidate['microbatch'] or 'all'} tokens: {said}"
      )
  return found


def _microbatches(candidate: dict) -> str:
  tokens = candidate["microbatch"]
  return f"microbatches of {tokens}" if tokens else "one microbatch"


def picture(plan: dict, path: str) -> None:
  """Draws memory and step time of every candidate.

  Args:
    plan: of `tools.plan`.
    path: of the picture, a .png.
  """
  bars = [
    (f"{name}\n{c['mesh']}\n{_microbatches(c)}", found)
    for c in plan["candidates"]
    for name, found in c["models"].items()
    if found["compiles"]
  ]
  if not bars:
    return
  height = 1.2 + 0.7 * len(bars)
  figure, (left, right) = plt.subplots(
    1, 2, sharey=True, figsize=(11, height), layout="constrained"
  )
  names = [name for name, _ in bars]

  def stack(axes, parts):
    begin = [0.0] * len(bars)
    for label, values in parts.items():
      axes.barh(names, values, left=begin, label=label)
      begin = [b + v for b, v in zip(begin, values, strict=True)]
    axes.legend(fontsize="small")
    axes.tick_params(labelsize="small")

  memory = {
    kind: [found["memory"][kind] / 1e9 for _, found in bars]
    for kind in ("weights", "optimizer")
  }
  rest = [
    found["needs"] / 1e9 - sum(memory[kind][i] for kind in memory)
    for i, (_, found) in enumerate(bars)
  ]
  stack(left, memory | {"temporaries and program": rest})
  left.axvline(plan["hbm"] / 1e9, color="black", linestyle="--")
  left.set_xlabel("GB a core (dashed: there are)")
  left.invert_yaxis()
  stack(
    right,
    {
      "computing": [1e3 * f["step_seconds"]["compute"] for _, f in bars],
      "sending": [1e3 * f["step_seconds"]["collectives"] for _, f in bars],
    },
  )
  right.set_xlabel("ms a step, estimated")
  figure.suptitle(f"{plan['topology']}: {' '.join(plan['run']['gin_files'])}")
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=120)
  plt.close(figure)
  files.write(path, buffer.getvalue())
