"""Layouts of the CUDA kernels, timed on the GPU at hand beside the rule's choice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from accel.backends import get_backend
from accel.backends.cuda import linear_pass
from accel.backends.cuda.device import device_of, load_bytes_of, registers_of
from accel.backends.cuda.layout import pass_layout
from accel.backends.cuda.rows_layout import RowsLayout
from accel.backends.cuda.source import STORAGE
from accel.backends.cuda.tiles_layout import TilesLayout, tiles_layout
from accel.backends.linear_model import LinearModel
from accel.benchmark.device_calls import CupyClock, DeviceCall, device_samples
from accel.benchmark.machine import facts
from accel.benchmark.pass_cases import (
    DEVICE_PASSES,
    FULL_PASSES,
    PassCase,
)
from accel.losses import LOSSES

CASES = (*(case for case in FULL_PASSES if case.n_bytes > 10**8), *DEVICE_PASSES)
BUDGET_S = 0.02
SHOWN = 3


def variants(
    layout: RowsLayout | TilesLayout, n_columns: int, itemsize: int
) -> Iterator[RowsLayout | TilesLayout]:
    """The layout and its neighbours that compile without asking for more registers than there are.

    Parameters
    ----------
    layout : RowsLayout or TilesLayout
        The rule's choice.
    n_columns : int
        Of X.
    itemsize : int
        Bytes of an element.

    Yields
    ------
    RowsLayout or TilesLayout
        Other rows in flight, warps, blocks and warps of a row; other workers, tiles and stages.
    """
    yield layout
    if isinstance(layout, TilesLayout):
        n_groups = -(-n_columns // 16)
        for workers in range(2, 20):
            for tiles in (1, 2, 4):
                for stages in (2, 3, 4):
                    groups = -(-n_groups // workers)
                    other = replace(
                        layout, workers=workers, groups=groups, tiles=tiles, stages=stages, blocks=1
                    )
                    yield other
        return
    units = n_columns * itemsize // layout.load_bytes
    for slices in (1, 2, 3, 4, 6, 8) if layout.lanes == 32 else (1,):
        for lanes in (1, 4, 8, 16, 32) if slices == 1 else (32,):
            for rows in (1, 2, 4, 8):
                for warps in (4, 8) if slices == 1 else (slices,):
                    for blocks in (1, 2, 3, 4, 6):
                        loads = -(-units // (lanes * slices))
                        yield replace(
                            layout, loads=loads, lanes=lanes, warps_of_a_row=slices, cluster=1,
                            rows=rows, warps=warps, blocks=blocks,
                        )  # fmt: skip


def worth_trying(layout: RowsLayout | TilesLayout, itemsize: int, n_outputs: int) -> bool:
    """Whether registers may hold it, by a cautious count."""
    if isinstance(layout, TilesLayout):
        return layout.threads <= 1024
    columns = layout.loads * layout.load_bytes // itemsize
    used = 2 * columns * n_outputs + layout.rows * layout.loads * layout.load_bytes // 4
    return used <= registers_of(layout.warps * layout.blocks) and (
        n_outputs == 1 or layout.rows <= layout.lanes
    )


def measured(case: PassCase) -> list[dict[str, Any]]:
    """Every variant of a case, the fastest first; those that give other numbers are left out."""
    backend = get_backend("cupy")
    cupy = backend.cupy  # type: ignore[attr-defined]
    X, labels, params = case.arrays
    loss = LOSSES["logistic" if case.n_outputs == 1 else "softmax"]
    with backend.context():
        there, start = backend.asarray(X), backend.asarray(params)
        Y = backend.asarray(loss.encode_target(labels))
        s = backend.asarray(np.full(len(X), 1 / len(X)), dtype=start.dtype)
        factor = backend.asarray(np.full(case.n_features, case.input_scale), dtype=start.dtype)
        model = LinearModel(loss.name, case.n_features, case.n_outputs, True, params.dtype.name)
        itemsize, index = STORAGE[case.dtype][2], cupy.cuda.Device().id
        load_bytes = load_bytes_of(itemsize, case.n_features, case.n_features, there.data.ptr)
        device = device_of(cupy, index)
        first = pass_layout(
            case.dtype, model.real, case.n_features, case.n_outputs, load_bytes, device
        )
        also = tiles_layout(case.dtype, case.n_features, case.n_outputs, load_bytes, device)
        found = []
        for kind in filter(None, dict.fromkeys((first, also))):
            for layout in variants(kind, case.n_features, itemsize):
                if not worth_trying(layout, itemsize, case.n_outputs):
                    continue
                run = linear_pass.CudaPass(cupy, index, model, factor)
                key = (case.dtype, load_bytes)
                run._layouts[key] = layout
                call = DeviceCall(
                    lambda run=run: run(start, there, Y, s, None),
                    lambda result: (backend.scalars(result[0])[0], backend.to_numpy(result[1])),
                    CupyClock(cupy),
                )
                try:
                    error = case.error(call())
                    seconds = float(np.median(device_samples(call, 1e-3, BUDGET_S)))
                except Exception as refusal:
                    print(f"  {layout}: {type(refusal).__name__}")
                    continue
                found.append({
                    "case": str(case), "layout": str(layout), "is_rule": layout == first,
                    "device_median_s": seconds, "error": error,
                    "gigabytes_per_s": case.n_bytes / seconds / 1e9,
                })  # fmt: skip
    return sorted(found, key=lambda row: row["device_median_s"])


def run(out: Any, cases: list[str]) -> None:
    """Time all cases, or those whose name holds one of these texts; print the best, write all."""
    rows = []
    for case in CASES:
        if cases and not any(text in str(case) for text in cases):
            continue
        found = measured(case)
        rows += found
        print(f"{case}: {len(found)} layouts")
        for row in [*found[:SHOWN], *(row for row in found[SHOWN:] if row["is_rule"])]:
            mark = "the rule's" if row["is_rule"] else ""
            print(f"  {1e3 * row['device_median_s']:.3f} ms {row['gigabytes_per_s']:.0f} GB/s "
                  f"error {row['error']:.0e} {row['layout']} {mark}")  # fmt: skip
        for name in ("arrays", "one_lot", "reference"):
            vars(case).pop(name, None)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    out.write_text(json.dumps({"date": date, "machine": facts(), "rows": rows}, indent=1) + "\n")
