"""Rows in which nearly all numbers are 0, as torch's CSR tensors: what batches of counts are made of.

starts int32 [n + 1], columns int32 [k], values [k]: the numbers of row i are those from starts[i] to starts[i + 1].
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

with warnings.catch_warnings():
    # torch says once that these tensors are young; the few operations that are used here are tested.
    warnings.simplefilter("ignore", UserWarning)
    torch.sparse_csr_tensor([0], [], [], size=(0, 1))


def csr(starts: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    """Rows [n, width] from their parts, which are taken as they are."""
    return torch.sparse_csr_tensor(starts, columns, values, size=(len(starts) - 1, width), check_invariants=False)


def is_sparse(x: Tensor) -> bool:
    """Whether these rows are sparse ones."""
    return x.layout == torch.sparse_csr


def parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """starts, columns and values of sparse rows."""
    return x.crow_indices(), x.col_indices(), x.values()


def with_values(x: Tensor, values: Tensor) -> Tensor:
    """The same rows with other numbers in the same places."""
    return csr(x.crow_indices(), x.col_indices(), values, x.shape[1])


def lengths(x: Tensor) -> Tensor:
    """How many numbers each sparse row has. int32 [n]"""
    return x.crow_indices().diff()


def owners(x: Tensor) -> Tensor:
    """The row of each number of sparse rows. int64 [k]"""
    return torch.repeat_interleave(lengths(x))


def take(x: Tensor, index: Tensor | slice) -> Tensor:
    """Some of the rows of x, sparse or dense."""
    if isinstance(index, slice):
        if not is_sparse(x):
            return x[index]
        begin, end, step = index.indices(len(x))
        if step != 1:
            return take(x, torch.arange(begin, end, step, device=x.device))
        starts, columns, values = parts(x)
        starts = starts[begin : max(begin, end) + 1]
        inside = slice(int(starts[0]), int(starts[-1]))
        return csr(starts - starts[0], columns[inside], values[inside], x.shape[1])
    if not is_sparse(x):
        # index_select copies whole rows; indexing would look at every number, at fifteen times the cost.
        return x.index_select(0, index)
    starts, columns, values = parts(x)
    origin = starts.index_select(0, index)
    counts = starts.index_select(0, index + 1) - origin
    ends = counts.cumsum(0, dtype=torch.int32)
    first = torch.nn.functional.pad(ends, (1, 0))
    where = torch.repeat_interleave(origin - first[:-1], counts) + torch.arange(
        int(ends[-1]) if len(ends) else 0, device=x.device
    )
    return csr(first, columns.index_select(0, where), values.index_select(0, where), x.shape[1])


def joined(rows: Sequence[Tensor]) -> Tensor:
    """Rows one after the other."""
    if len(rows) == 1 or not is_sparse(rows[0]):
        return torch.cat(list(rows)) if len(rows) > 1 else rows[0]
    found = [parts(x) for x in rows]
    starts, first = [found[0][0]], int(found[0][0][-1])
    for begin, _, _ in found[1:]:
        starts.append(begin[1:] + first)
        first += int(begin[-1])
    return csr(torch.cat(starts), torch.cat([f[1] for f in found]), torch.cat([f[2] for f in found]), rows[0].shape[1])


def dense(x: Tensor) -> Tensor:
    """Rows with their zeros, float32 if they were sparse. [n, width]"""
    if not is_sparse(x):
        return x
    out = torch.zeros(x.shape, device=x.device)
    row, column, values = entries(x)
    return out.index_put_((row, column), values.float())


def by_row(values: Tensor, row: Tensor, rows: int) -> Tensor:
    """Sums of values [..., k] whose rows, int [k], rise. Differences of running sums in float64: several times quicker
    than adding one by one, and the same at each run on a GPU too. [..., rows]
    """
    ends = torch.bincount(row, minlength=rows).cumsum(0)
    sums = values.double().cumsum(-1)
    sums = torch.nn.functional.pad(sums, (1, 0)).index_select(-1, torch.nn.functional.pad(ends, (1, 0)))
    return sums.diff().to(values.dtype)


def totals(x: Tensor) -> Tensor:
    """The sum of each row of x, sparse or dense. [n]"""
    return by_row(x.values().float(), owners(x), len(x)) if is_sparse(x) else x.sum(-1)


def entries(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column and value of each number of x that is not 0; x sparse or dense. int64 [k], int64 [k], [k]"""
    if is_sparse(x):
        _, columns, values = parts(x)
        return owners(x), columns.long(), values
    row, column = x.nonzero(as_tuple=True)
    return row, column, x[row, column]


def bytes_of(x: Tensor) -> int:
    """The memory that rows take, sparse or dense."""
    return sum(t.numel() * t.element_size() for t in (parts(x) if is_sparse(x) else (x,)))
