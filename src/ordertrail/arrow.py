"""Numpy arrays as Arrow arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def numbers(values: NDArray[Any]) -> pa.Array:
    """A numpy array as an Arrow array without nulls, in the same memory.

    `pa.array` does this too, but asks first whether the values are masked; for that it imports `numpy.ma`, 10 ms that
    a small pass would notice.

    Args:
        values: Shape (n,), of integers or floats.
    """
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])
