"""Training on rows that are read while the run goes on."""

import signal

import numpy as np
import pandas as pd
import pytest
import torch

import latente as lt
from latente.kinds.sources import Source
from latente.kinds.streams import open_source
from latente.kinds.table import Table
from latente.model.spec import Spec, Train, recipe
from latente.training import stream
from latente.training.checkpoint import Slots
from latente.training.loop import train
from latente.training.stream import Sampler, Streamed
from latente.training.team import Team


class Cut(Source):
    """A frame in memory, cut into blocks."""

    kind = "table"
    name = "cut"
    fingerprint = "0" * 63 + "1"

    def __init__(self, frame, sizes):
        self.frame, self.sizes_ = frame, tuple(sizes)
        self.ends = np.cumsum([0, *sizes])

    @property
    def sizes(self):
        return self.sizes_

    def _read(self, block):
        return self.frame.iloc[self.ends[block] : self.ends[block + 1]]


def frame(n=2000):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2)) @ rng.normal(size=(2, 5))
    table = pd.DataFrame(x, columns=list("abcde"))
    table["number"] = np.arange(n, dtype=float)
    table.loc[::7, "a"] = np.nan
    return table


def feed(config, sizes=(300, 500, 1, 199, 400, 600), team=None, window=None, monkeypatch=None):
    if window:
        monkeypatch.setattr(stream, "WINDOW", window)
    sampler = Sampler(Cut(frame(sum(sizes)), sizes), config)
    kind = Table().learn_blocks(sampler.blocks())
    return Streamed(sampler, kind, team=team or Team()), kind


@pytest.mark.parametrize("window", [1 << 40, 20_000, 1])
@pytest.mark.parametrize("batch", [64, 97])
def test_an_epoch_sees_every_row_once_and_no_held_out_row(monkeypatch, window, batch):
    config = Train(batch_size=batch, validation=0.1, seed=3)
    rows, _ = feed(config, window=window, monkeypatch=monkeypatch)
    portions = list(rows.epoch(0))
    seen = torch.cat([p.places for p in portions])
    assert len(seen) == len(set(seen.tolist())) == rows.rows == 1800
    assert [len(p.batch) for p in portions[:-1]] == [batch] * (len(portions) - 1)
    # The number of a row is a column of it: what is said of a row's place is so.
    numbers = torch.cat([p.batch.x[:, 5] for p in portions])
    assert torch.equal(numbers.argsort(), seen.argsort())
    assert rows.held_out is not None
    held = rows.held_out.x[:, 5]
    assert len(held) == 200
    assert not set(held.tolist()) & set(numbers.tolist())
    other = torch.cat([p.places for p in rows.epoch(1)])
    assert not torch.equal(seen, other)


@pytest.mark.parametrize("window", [1 << 40, 20_000, 1])
def test_an_epoch_that_begins_in_its_middle_is_the_rest_of_the_whole_one(monkeypatch, window):
    config = Train(batch_size=97, seed=3)
    rows, _ = feed(config, window=window, monkeypatch=monkeypatch)
    whole = [p.places for p in rows.epoch(2)]
    for start in (0, 1, 7, len(whole) - 1):
        rest = [p.places for p in rows.epoch(2, start)]
        assert len(rest) == len(whole) - start
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[start:], strict=True))


@pytest.mark.parametrize("sizes", [(300, 500, 1, 199), [100] * 12])
def test_the_processes_of_a_team_have_rows_of_their_own_and_equally_many_batches(monkeypatch, sizes):
    config = Train(batch_size=50, seed=3, validation=0.0)
    found = []
    for rank in range(2):
        rows, _ = feed(config, sizes, Team(rank, 2), 5_000, monkeypatch)
        found.append([p.places for p in rows.epoch(0)])
    assert len(found[0]) == len(found[1]) == -(-sum(sizes) // 50)
    # A process whose blocks are fewer starts over: up to that, nobody sees another's row.
    first, second = (set(torch.cat(p).tolist()) for p in found)
    assert not first & second


@pytest.mark.parametrize("window", [1 << 40, 8_000])
def test_a_streamed_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, monkeypatch, window):
    def run(slots=None, stop_at=0):
        config = Train(steps=120, batch_size=64, patience=99)
        rows, kind = feed(config, window=window, monkeypatch=monkeypatch)
        base = recipe("vae")
        model = Spec(kind, None, base.latent, base.prior, base.objective).model(0)

        def report(row, history):
            if len(history.rows) == stop_at:
                signal.raise_signal(signal.SIGINT)

        return model, train(model, base.objective, rows, kind, config, report, slots=slots)

    whole, _ = run()
    _, stopped = run(Slots(tmp_path), stop_at=2)
    assert stopped.ended == "interrupted"
    again, resumed = run(Slots(tmp_path))
    assert resumed.resumed == 1
    for p, q in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    "form", ["csv", "parquet", *(pytest.param(f, marks=pytest.mark.slow) for f in ("npy", "folder"))]
)
def test_a_streamed_fit_learns_what_a_fit_in_memory_does(tmp_path, form):
    table = frame(3000).drop(columns="number")
    path = tmp_path / f"data.{form}"
    if form == "csv":
        table.to_csv(path, index=False)
    elif form == "parquet":
        table.to_parquet(path)
    elif form == "npy":
        np.save(path, table.to_numpy())
    else:
        path = tmp_path / "folder"
        path.mkdir()
        for i in range(3):
            table.iloc[i::3].to_parquet(path / f"{i}.parquet")
    a, b = (
        lt.fit(str(path), recipe="vae", stream=s, dim=2, epochs=30, quiet=True, output=tmp_path / f"run-{s}")
        for s in ("no", "yes")
    )
    assert [type(c) for c in a.schema_.columns] == [type(c) for c in b.schema_.columns]
    scores = [ae.score_samples(str(path), 8).mean() for ae in (a, b)]
    # Other rows are held out and another order is taken: equal as two seeds are.
    assert scores[1] == pytest.approx(scores[0], abs=1.0)
    codes = pd.read_parquet(tmp_path / "run-yes" / "latent.parquet")
    assert codes.shape == (3000, 2)


def test_verbs_go_through_blocks_and_give_what_they_give_at_once(tmp_path, monkeypatch):
    from latente.kinds import streams
    from latente.uses.blocks import from_file_to_file

    table = frame(2000).drop(columns="number")
    table.to_csv(tmp_path / "data.csv", index=False)
    ae = lt.fit(table, dim=2, epochs=2, quiet=True)
    verbs = {"encode.parquet": lt.encode, "filled.csv": lt.impute, "clean.csv": lt.reconstruct}
    for name, verb in verbs.items():
        from_file_to_file(verb, ae, str(tmp_path / "data.csv"), tmp_path / f"whole-{name}")
    monkeypatch.setattr(streams, "free_memory", lambda: 0)
    assert isinstance(streams.opened(tmp_path / "data.csv"), Source)
    for name, verb in verbs.items():
        from_file_to_file(verb, ae, str(tmp_path / "data.csv"), tmp_path / f"blocks-{name}")
        first, second = (lt.read(tmp_path / f"{how}-{name}") for how in ("whole", "blocks"))
        pd.testing.assert_frame_equal(first, second)


def test_what_is_damaged_in_the_middle_stops_the_run_with_its_place(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "parts"
    folder.mkdir()
    for i in range(3):
        pd.DataFrame(rng.normal(size=(500, 3)), columns=list("abc")).to_parquet(folder / f"{i}.parquet")
    source = open_source(folder)
    data = bytearray((folder / "1.parquet").read_bytes())
    data[4:60] = b"\xff" * 56
    (folder / "1.parquet").write_bytes(data)
    with pytest.raises(lt.DataError, match=r"1\.parquet"):
        Table().learn_blocks(source.read(i) for i in range(len(source.sizes)))
