"""Small symmetric systems of equations, by Cholesky's factors. Pure maths, no dependencies.

Meant for tens of unknowns. Start from `solve(cholesky(matrix), right)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Matrix = list[list[float]]


def cholesky(matrix: Matrix) -> Matrix:
    """The lower factor L of a positive definite matrix: L Lᵀ is the matrix."""
    size = len(matrix)
    lower = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - sum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i][j] = math.sqrt(max(rest, 1e-300)) if i == j else rest / lower[j][j]
    return lower


def solve(lower: Matrix, right: Sequence[float]) -> list[float]:
    """The x of (L Lᵀ) x = right."""
    size = len(lower)
    y = [0.0] * size
    for i in range(size):
        y[i] = (right[i] - sum(lower[i][k] * y[k] for k in range(i))) / lower[i][i]
    x = [0.0] * size
    for i in reversed(range(size)):
        x[i] = (y[i] - sum(lower[k][i] * x[k] for k in range(i + 1, size))) / lower[i][i]
    return x


def inverse(matrix: Matrix) -> Matrix:
    """The inverse of a positive definite matrix.

    >>> inverse([[4.0, 0.0], [0.0, 16.0]])
    [[0.25, 0.0], [0.0, 0.0625]]
    """
    lower, size = cholesky(matrix), len(matrix)
    return [solve(lower, [1.0 if i == j else 0.0 for i in range(size)]) for j in range(size)]
