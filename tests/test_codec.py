"""The codec's own parts: integers in, bytes out, and the same integers back on any machine."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latente.codec import container
from latente.codec.container import Chunk, Damage
from latente.codec.grids import Grid, Quantiser, grid_of
from latente.codec.numbers import MOST_SYMBOLS, Numbers, Writer, folded, symbols_of, unfolded
from latente.codec.rans import Decoder, encode, lanes_for
from latente.codec.tables import Tables, quantised
from latente.errors import DataError

WHOLE = st.integers(-(2**63), 2**63 - 1)


def tables(seed=0, count=20, symbols=30):
    rng = np.random.default_rng(seed)
    return Tables(quantised(rng.gamma(0.3, size=(count, symbols)) ** 2))


# ── coding ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lanes", [1, 3, 64])
def test_symbols_come_back_and_cost_what_their_tables_say(lanes):
    rng = np.random.default_rng(1)
    own = tables()
    sizes = [1, 0, 200, 7, 64, 3000]
    which = rng.integers(0, len(own), sum(sizes))
    symbols = (own.freqs.astype(np.int64)[which].cumsum(1) > rng.integers(0, 1 << 16, len(which))[:, None]).argmax(1)
    data = encode(*own.coded(symbols, which), sizes, lanes)
    decoder, at = Decoder(data, lanes), 0
    for size in sizes:
        assert np.array_equal(own.decode(decoder, which[at : at + size]), symbols[at : at + size])
        at += size
    decoder.finish()
    ideal = own.bits[which, symbols].sum()
    # A lane's last state is 32 bits, of which it had 16 to begin with; rounding costs less than a thousandth.
    assert ideal <= 8 * len(data) + 16 * lanes <= ideal * 1.001 + 48 * lanes


@given(st.lists(st.lists(WHOLE, min_size=4, max_size=4), max_size=20), st.integers(2, MOST_SYMBOLS + 1))
@settings(max_examples=150, deadline=None)
def test_any_whole_numbers_come_back_from_an_alphabet_of_any_size(rows, symbols):
    values = np.array(rows, np.int64).reshape(len(rows), 4)
    own = tables(symbols=symbols)
    which = np.arange(values.size).reshape(values.shape) % len(own)
    writer = Writer()
    step = np.arange(len(values)).repeat(4)
    writer.numbers(own, which.ravel(), values.ravel(), step)
    lanes, data = writer.finish()
    decoder, numbers = Decoder(data, lanes), Numbers(own)
    for row, tables_of_row in zip(values, which, strict=True):
        assert np.array_equal(numbers.read(decoder, tables_of_row), row)
    decoder.finish()


@given(st.lists(WHOLE))
def test_folding_is_undone_and_puts_small_numbers_first(values):
    v = np.array(values, np.int64)
    assert np.array_equal(unfolded(folded(v)), v)
    assert (symbols_of(folded(np.array([0, -1, 1, -8, 7])))[0] == [0, 1, 2, 15, 14]).all()


def test_quantised_tables_sum_to_two_to_the_sixteenth_and_lose_no_symbol():
    counts = np.vstack([np.zeros(300), np.eye(300)[7] * 1e9, np.random.default_rng(0).random((50, 300))])
    freqs = quantised(counts)
    assert (freqs.sum(1, dtype=int) == 1 << 16).all()
    assert freqs.min() >= 1
    assert freqs[1, 7] == (1 << 16) - 299


@pytest.mark.parametrize("freqs", [np.full((1, 4), 100), np.array([[0, 65536 // 2, 65536 // 2]]), np.full((1, 1), 1)])
def test_tables_that_cannot_be_are_refused(freqs):
    with pytest.raises(ValueError, match=r"frequencies"):
        Tables(freqs.astype(np.uint16))


def test_a_cut_or_altered_stream_of_symbols_is_refused_or_ends_where_it_should_not():
    own, which = tables(), np.zeros(500, np.int64)
    symbols = np.random.default_rng(0).integers(0, own.symbols, 500)
    data = bytearray(encode(*own.coded(symbols, which), [500], 5))

    def read(coded):
        decoder = Decoder(bytes(coded), 5)
        own.decode(decoder, which)
        decoder.finish()

    for broken in (data[:-2], data[:10], data[:7], data + b"\0\0"):
        with pytest.raises(DataError, match="symbols"):
            read(broken)
    data[60] ^= 1
    altered = Decoder(bytes(data), 5)
    assert not np.array_equal(own.decode(altered, which), symbols)
    with pytest.raises(DataError, match="symbols"):
        altered.finish()


def test_lanes_cost_at_most_a_five_hundredth():
    assert lanes_for(0, 100) == 1
    assert lanes_for(1e6, 10_000) * 32 <= 2e-3 * 1e6
    assert lanes_for(1e12, 17) == 17


# ── grids and bounds ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("values", "grid"),
    [
        (np.array([0.05, 0.1, np.nan, *np.arange(8) / 4]), Grid(5, 100)),
        (np.array([0.5, 0.5, 0.75]), Grid(1, 100, single=True)),
        (np.array([0.05, 0.1, 0.26], np.float32), Grid(1, 100)),
        (np.arange(-20, 40, 5), Grid(5, 1)),
        (np.array([49, 49]), Grid(1, 1)),
        (np.array([np.nan, np.inf]), Grid(1, 1)),
        (np.array([0.1, 0.2], np.float32).astype(np.float64), Grid(1, 10, single=True)),
        (np.random.default_rng(0).normal(size=50), None),
        (np.random.default_rng(0).normal(size=50).astype(np.float32), None),
    ],
)
def test_the_grid_of_a_column_is_found(values, grid):
    assert grid_of(values) == grid


def test_a_grid_that_was_printed_with_nine_digits_is_a_grid_within_a_bound():
    values = np.array([5.09000015, 4.21999979, 5.82700014, 1.0])
    assert grid_of(values).per == 10**8
    found = grid_of(values, exact=False)
    assert (found.unit, found.per) == (1, 1000)
    assert 0 < found.slack < 1e-5


FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64)


@given(st.lists(FLOATS, min_size=1, max_size=40), st.floats(0, 1e3), st.sampled_from(["float32", "float64"]))
@settings(max_examples=300, deadline=None)
def test_no_value_is_farther_from_what_stands_for_it_than_the_bound_or_it_is_an_exception(values, bound, dtype):
    with np.errstate(over="ignore"):
        x = np.array(values).astype(dtype)
    quantiser = Quantiser.of(x.dtype, bound, grid_of(x, exact=bound == 0))
    if quantiser is None:
        assert bound == 0
        return
    q, odd = quantiser.wholes(x)
    back = quantiser.values(q)
    assert back.dtype == x.dtype
    assert odd[~np.isfinite(x)].all()
    if bound:
        assert (np.abs(x[~odd].astype(float) - back[~odd].astype(float)) <= bound).all()
    else:
        assert np.array_equal(x[~odd].view(f"u{x.itemsize}"), back[~odd].view(f"u{x.itemsize}"))
    again = Quantiser.from_json(quantiser.to_json())
    assert again == quantiser


@pytest.mark.parametrize("bound", [0.004, 0.0051, 0.0099, 0.012, 0.03])
def test_a_grid_makes_bins_at_least_as_wide_as_the_bound_allows(bound):
    x = np.arange(1000, dtype=np.float64) / 100
    quantiser = Quantiser.of(x.dtype, bound, grid_of(x))
    q, odd = quantiser.wholes(x)
    assert not odd.any()
    assert np.abs(quantiser.values(q) - x).max() <= bound
    assert len(np.unique(q)) <= len(np.unique(np.rint(x / (2 * bound))))


@pytest.mark.parametrize("bound", [0, 1, 1.5, 2, 7.3])
def test_whole_numbers_stay_whole_within_a_bound(bound):
    x = np.random.default_rng(0).integers(-1000, 1000, 500)
    quantiser = Quantiser.of(x.dtype, bound, grid_of(x))
    q, odd = quantiser.wholes(x)
    assert not odd.any()
    assert quantiser.values(q).dtype == x.dtype
    assert np.abs(quantiser.values(q) - x).max() <= bound


# ── the container ───────────────────────────────────────────────────────────────────────────────────────────────────


def stream(chunks=6, header=None):
    sink = io.BytesIO()
    writer = container.Writer(sink, header or {"a": 1})
    for i in range(chunks):
        payload = container.sections([(1, bytes([i]) * (50 + i)), (2, b""), (7, b"x")])
        writer.add(10 + i, payload, container.digest(bytes([i])), 100)
    writer.close()
    return sink.getvalue()


class Pipe:
    """A file that cannot be gone back in, and gives what it has in small pieces."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def read(self, size=-1):
        return self.data.read(min(size, 13))


@pytest.mark.parametrize("kind", [io.BytesIO, Pipe])
def test_chunks_come_back_in_order_with_their_rows(kind):
    reader = container.Reader(kind(stream()))
    assert reader.header == {"a": 1}
    found = list(reader.chunks())
    assert [(c.number, c.first, c.rows, c.size) for c in found][:3] == [
        (0, 0, 10, 100),
        (1, 10, 11, 100),
        (2, 21, 12, 100),
    ]
    assert [(m, bytes(d)) for m, d in container.sections_of(found[2].payload)] == [(1, b"\2" * 52), (2, b""), (7, b"x")]
    assert reader.total == sum(c.rows for c in found)


def damage(data):
    return [(d.first, d.rows) for d in container.Reader(io.BytesIO(data)).chunks() if isinstance(d, Damage)]


def test_a_lost_chunk_loses_only_its_rows_and_they_are_named():
    data = stream()
    places = [i for i in range(len(data)) if data[i : i + 4] == b"chnk"]
    without = data[: places[2]] + data[places[3] :]
    assert damage(without) == [(21, 12)]
    twice = data[: places[3]] + data[places[2] :]
    assert [c.rows for c in container.Reader(io.BytesIO(twice)).chunks() if isinstance(c, Chunk)] == [
        10,
        11,
        12,
        13,
        14,
        15,
    ]
    swapped = data[: places[1]] + data[places[2] : places[3]] + data[places[1] : places[2]] + data[places[3] :]
    assert damage(swapped)[0] == (10, 11)


@pytest.mark.parametrize("flip", range(0, 800, 7))
def test_a_flipped_bit_anywhere_is_named_or_loses_nothing(flip):
    data = bytearray(stream())
    if flip >= len(data):
        pytest.skip("the stream is shorter")
    data[flip] ^= 16
    try:
        found = list(container.Reader(io.BytesIO(bytes(data))).chunks())
    except DataError:
        return
    whole = {c.number: c for c in container.Reader(io.BytesIO(stream())).chunks()}
    for c in found:
        assert isinstance(c, Damage) or c == whole[c.number]
    rows = sum(c.rows for c in found if isinstance(c, Chunk)) + sum(d.rows or 0 for d in found if isinstance(d, Damage))
    assert rows == 75 or any(isinstance(d, Damage) and d.rows is None for d in found)


def test_a_stream_that_is_cut_says_so_wherever_it_is_cut():
    data = stream()
    for cut in range(len(data)):
        try:
            found = list(container.Reader(io.BytesIO(data[:cut])).chunks())
        except DataError:
            continue
        assert isinstance(found[-1], Damage)
        assert found[-1].rows is None


def test_a_chunk_of_another_stream_is_none_of_this_one():
    data, other = stream(), stream(header={"a": 2})
    place = data.index(b"chnk")
    assert damage(data[:place] + other[other.index(b"chnk") :])[-1] == (0, None)


def test_rows_are_found_by_the_index_and_without_it():
    data = stream()
    for whole in (data, data[:-5]):
        header, chunks = container.some(io.BytesIO(whole), "s", 21, 40)
        assert header == {"a": 1}
        assert [c.number for c in chunks if isinstance(c, Chunk)] == [2, 3]


def test_what_a_chunk_declares_is_checked_before_it_is_read():
    sink = io.BytesIO()
    writer = container.Writer(sink, {})
    with pytest.raises(DataError, match="too large"):
        writer.add(1, b"", b"\0" * 8, container.MOST_DECODED + 1)
    start = sink.getvalue()
    key = start[-8:]
    head = b"chnk" + container._CHUNK.pack(0, 0, 1, 1 << 60, 0, b"\0" * 8, container.digest(b"", key=key))
    assert damage(start + head + container.digest(head, key=key)) == [(0, None)]
    huge = container.MAGIC + container._HEAD.pack(1, 1 << 31)
    with pytest.raises(DataError, match="header of"):
        container.Reader(io.BytesIO(huge))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no compressed data"),
        (b"PK\3\4 something else", "no compressed data"),
        (container.MAGIC + b"\1", "ends in its header"),
        (container.MAGIC + container._HEAD.pack(9, 0), "version 9"),
        (container.MAGIC + container._HEAD.pack(1, 2) + b"{}" + b"\0" * 8, "damaged"),
    ],
)
def test_what_is_no_stream_is_refused_with_what_it_is(data, says):
    with pytest.raises(DataError, match=says):
        container.Reader(io.BytesIO(data))
