"""NumPy: views against copies, `out=`, in-place operators, generators."""

from typing import Any

import numpy as np

from . import keep, move

histogram = np.zeros(16)
grid = np.zeros((6, 6))
total = np.zeros(4)
weights = np.arange(64.0).reshape(8, 8)
generator = np.random.default_rng(0)


@keep("counts in a global array through a local alias")
def counts_in_array(number: int) -> float:
    counts = histogram
    counts[number % 16] += 1.0
    return float(number)


@keep("writes through a view of a global array")
def writes_view(number: int) -> int:
    view = grid[1:3]
    view[...] = number
    return number


@keep("writes through a transposed, reshaped view")
def writes_reshaped(number: int) -> int:
    grid.T.reshape(-1)[0] = number
    return number


@keep("out= a global array")
def adds_into(number: int) -> int:
    np.add(total, number, out=total)
    return number


@keep("ufunc.at on a global array")
def adds_at(number: int) -> int:
    np.add.at(histogram, [number % 8], 1)
    return number


@keep("an in-place operator on its item", items=[np.arange(4.0) for _ in range(10)])
def doubles_item(item: Any) -> float:
    item *= 2
    return float(item.sum())


@keep("a memoryview of a global array")
def writes_memory(number: int) -> int:
    view = memoryview(total)
    view[number % 4] = float(number)
    return number


@keep("fills a global array by a function of numpy")
def fills_diagonal(number: int) -> int:
    np.fill_diagonal(grid, number)
    return number


@keep("draws from a global generator of numpy")
def draws_normal(number: int) -> float:
    return float(generator.normal())


@move("computes with a global array, changes its own")
def computes(number: int) -> float:
    row = weights[number % 8] * 2
    row += 1
    squares = np.empty_like(row)
    np.multiply(row, row, out=squares)
    return float((weights @ squares).sum())


@move("in place on a copy")
def changes_array_copy(number: int) -> float:
    mine = weights.copy()
    mine += number
    view = mine[1:5]
    view *= 2
    return float(mine.sum())


@move("views and out= of its own array")
def changes_own_views(number: int) -> float:
    mine = np.arange(24.0).reshape(4, 6)
    view = mine[1:3].T
    view += number
    np.add(mine, 1, out=mine)
    flat = mine.ravel()
    flat[0] = 7
    return float(mine.sum())


@move("a copy by fancy indexing, then changed")
def changes_selection(number: int) -> float:
    chosen = weights[[0, 2]]
    chosen += number
    masked = weights[weights > 3]
    masked *= 2
    return float(chosen.sum() + masked.sum())


@move("copies its item before it changes it", items=[np.arange(4.0) for _ in range(10)])
def doubles_copy(item: Any) -> float:
    mine = item.copy()
    mine *= 2
    item = item * 2
    item[0] = 1
    return float(mine.sum() + item.sum())


@move("a generator made from the item")
def draws_own(number: int) -> float:
    own = np.random.default_rng(number)
    values = own.normal(size=8)
    values.sort()
    return float(values[0])


@move("draws from the generator of the numpy module, which nothing seeds")
def draws_module(number: int) -> float:
    return float(np.random.rand()) + number
