"""Products on a GPU's tensor cores: TF32, and bfloat16 factors with float32 sums."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
# cudaDataType_t and cublasComputeType_t, from the CUDA headers library_types.h and cublas_api.h.
CUDA_R_32F, CUDA_R_16BF = 0, 14
COMPUTE_32F, COMPUTE_32F_FAST_TF32 = 68, 77
DEFAULT_ALGORITHM = -1
NO_TRANSPOSE, TRANSPOSE = 0, 1


class TensorCoreProduct:
    """(a, b, out): out = a b, of float32 arrays, by cublasGemmEx.

    Parameters
    ----------
    cupy : module
        CuPy.
    precision : {"tf32", "bfloat16"}
        What the factors are rounded to; products are summed in float32.

    Raises
    ------
    ImportError
        If bfloat16 is asked for and ml_dtypes is not installed.
    """

    def __init__(self, cupy: Any, precision: str) -> None:
        self._cupy = cupy
        self._one, self._zero = (np.array(value, dtype=np.float32) for value in (1, 0))
        self._stored: Any = np.float32
        self._type, self._compute = CUDA_R_32F, COMPUTE_32F_FAST_TF32
        if precision == "bfloat16":
            import ml_dtypes

            self._stored = ml_dtypes.bfloat16
            self._type, self._compute = CUDA_R_16BF, COMPUTE_32F

    def __call__(self, a: Array, b: Array, out: Array) -> None:
        """Write the product of a (m, k) and b (k, n), rows or transposed rows, to out (m, n)."""
        (m, k), n = a.shape, b.shape[1]
        # cuBLAS counts by columns: what lies here by rows is the transpose there, so it is asked
        # for out' = b' a'.
        b, b_form, b_lead = self._factor(b)
        a, a_form, a_lead = self._factor(a)
        device = self._cupy.cuda.device
        self._cupy.cuda.cublas.gemmEx(
            device.get_cublas_handle(), b_form, a_form, n, m, k,
            self._one.ctypes.data, b.data.ptr, self._type, b_lead,
            a.data.ptr, self._type, a_lead, self._zero.ctypes.data,
            out.data.ptr, CUDA_R_32F, n, self._compute, DEFAULT_ALGORITHM,
        )  # fmt: skip

    def _factor(self, matrix: Array) -> tuple[Array, int, int]:
        """The factor as it is stored, whether that is its transpose, and its leading dimension."""
        is_transposed = matrix.flags.f_contiguous and not matrix.flags.c_contiguous
        rows = self._cupy.ascontiguousarray(matrix.T if is_transposed else matrix)
        stored = rows.astype(self._stored, copy=False)
        return stored, TRANSPOSE if is_transposed else NO_TRANSPOSE, rows.shape[1]
