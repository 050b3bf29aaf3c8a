"""Recipe tabular: columns as a chain of tokens; new rows, any columns given, gaps filled."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import latente as lt
from latente import Autoencoder
from latente.errors import ConfigError, DataError
from latente.kinds.base import DataWarning
from latente.kinds.binned import Binned, binned
from latente.kinds.derived import Derived
from latente.kinds.learning import learn
from latente.kinds.subset import parsed, subset
from latente.kinds.table import Table
from latente.model.dists.chain import drawn


@pytest.fixture(scope="module")
def market() -> pd.DataFrame:
    """3,000 rows with a known structure: spend is 0 for half of the plans, tax follows from plan, gaps go together."""
    rng = np.random.default_rng(0)
    n = 3000
    plan = rng.choice(["basic", "plus", "gold"], n, p=[0.6, 0.3, 0.1])
    age = rng.integers(18, 80, n)
    spend = np.where(plan == "basic", 0.0, np.exp(rng.normal(3 + (plan == "gold"), 0.5, n)).round(2))
    frame = pd.DataFrame(
        {
            "id": np.arange(1, n + 1),
            "plan": plan,
            "tax": pd.Series(plan).map({"basic": 0, "plus": 7, "gold": 21}),
            "age": age,
            "senior": np.where(age >= 60, "yes", "no"),
            "spend": spend,
            "joined": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, n), "D"),
            "city": rng.choice(["A", "B", "C", "D"], n, p=[0.5, 0.3, 0.15, 0.05]),
            "name": [f"person {i}" for i in rng.permutation(n)],
        }
    )
    gone = rng.random(n) < 0.2
    frame.loc[gone, "city"] = None
    frame.loc[gone, "joined"] = pd.NaT
    return frame


@pytest.fixture(scope="module")
def model(market):
    return lt.Autoencoder("tabular", steps=600, random_state=0).fit(market)


def column(values, label="x"):
    series = pd.Series(values, name=label)
    return binned(learn(label, series), series.dropna().to_numpy(float))


def test_a_number_with_a_point_mass_has_it_as_a_token_and_bins_beside():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(5000) < 0.5, 0.0, rng.lognormal(3, 1, 5000).round(2))
    own = column(values)
    assert own.atoms == (0.0,)
    assert own.bins == 100
    assert own.decimals == 2
    numbers = own.encode(pd.Series(values)).numbers
    assert (numbers[values == 0] == 0).all()
    back = own.decode(numbers.astype(np.float32))
    # A place is held to a thousandth of its bin.
    width = np.diff(own.edges).max() * 8
    assert np.abs(back - values).max() <= width / 500 + 0.005
    assert (back[values == 0] == 0).all()


def test_tokens_stand_in_the_order_of_their_values():
    rng = np.random.default_rng(0)
    values = np.concatenate([np.full(500, 5.0), rng.normal(5, 2, 4000)])
    own = column(values)
    assert 5.0 in own.atoms
    assert (np.diff(own.centres) > 0).all()


@pytest.mark.parametrize(("low", "high"), [(3.0, 8.0), (-100.0, 5.0), (4.9, 100.0)])
def test_a_range_holds_the_share_of_the_column_that_lies_in_it(low, high):
    rng = np.random.default_rng(0)
    values = np.concatenate([np.full(500, 5.0), rng.normal(5, 2, 4500)])
    own = column(values)
    first, last = own.within(low, high)
    tokens = own.encode(pd.Series(values)).numbers.astype(int)
    weights = np.bincount(tokens, minlength=own.size) / len(values)
    exact = ((values >= low) & (values <= high)).mean()
    assert (weights * (last - first)).sum() == pytest.approx(exact, abs=0.005)  # half of a bin of 1 %


def test_the_density_of_a_binned_column_integrates_to_one():
    rng = np.random.default_rng(0)
    own = column(rng.normal(size=4000))
    grid = np.linspace(own.of.low, own.of.high, 200_001)
    numbers = own.encode(pd.Series(grid)).numbers.astype(np.float32).astype(float)
    p = np.full(own.size, 1 / own.size)
    density = p[numbers.astype(int)] * np.exp(own.log_volume(numbers))
    # Places are kept below 1 − 2⁻¹⁰ of a token, so a cell at an edge may count to the piece before.
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=0.02)


def test_columns_that_follow_from_others_are_found_and_those_that_only_nearly_do_are_not():
    n = 2000
    rng = np.random.default_rng(0)
    a = rng.integers(0, 8, n)
    frame = pd.DataFrame({"a": a, "b": np.array(list("stuvwxyz"))[a], "c": a % 2, "d": a % 2})
    frame.loc[7, "d"] = 1 - frame.loc[7, "d"]
    learned = Table(likelihood="chain").learn(frame)
    # Of c a row is not told by what it is alone: it stays in the model, for rows in which a is missing.
    assert {c.label: c.source for c in learned.columns if isinstance(c, Derived)} == {"b": "a"}
    assert {c.label: c.source for c in learned.rules} == {"c": "a"}


def test_columns_that_follow_where_both_are_there_are_kept_to_it():
    n = 2000
    rng = np.random.default_rng(0)
    a = rng.integers(0, 8, n)
    frame = pd.DataFrame({"a": [f"v{i}" for i in a], "b": a % 3, "c": rng.normal(size=n)})
    frame = frame.mask(rng.random(frame.shape) < 0.2)
    ae = lt.Autoencoder("tabular", steps=60, random_state=0).fit(frame)
    assert [(r.label, r.source) for r in ae.schema_.rules] == [("b", "a")]
    new = ae.sample(2000)
    assert new["b"].isna().mean() > 0.05
    there = new[["a", "b"]].notna().all(axis=1)
    assert (new.loc[there, "a"].str[1:].astype(int) % 3 == new.loc[there, "b"]).all()
    assert (ae.sample(300, given={"b": 1})["b"] == 1).all()  # though b is read off a
    assert any("kept to what follows from a" in line for line in ae.schema_.summary)


def test_chance_on_few_rows_is_no_rule():
    frame = pd.DataFrame({"a": ["p", "q", "r", "s"] * 5, "b": ["x", "y", "x", "y"] * 5})
    assert not any(isinstance(c, Derived) for c in Table(likelihood="chain").learn(frame).columns)


def test_tokens_are_drawn_as_often_as_they_are_probable():
    p = torch.tensor([[0.5, 0.0, 0.3, 0.2]]).expand(20_000, -1) * 7  # need not sum to 1
    counts = torch.bincount(drawn(p, torch.rand(20_000, generator=torch.Generator().manual_seed(0))), minlength=4)
    assert torch.allclose(counts / 20_000, torch.tensor([0.5, 0.0, 0.3, 0.2]), atol=0.015)  # four standard errors
    assert counts[1] == 0


def test_new_rows_have_what_the_table_has(model, market):
    new = model.sample(3000, random_state=1)
    assert list(new.columns) == list(market.columns)
    assert (new.dtypes == market.dtypes).all()
    assert (new["tax"] == new["plan"].map({"basic": 0, "plus": 7, "gold": 21})).all()  # follows, in every row
    assert new["spend"].min() == 0
    assert ((new["spend"] * 100).round(6) % 1 == 0).all()  # cents
    assert new["age"].between(18, 79).all()
    assert new["id"].tolist() == list(range(3001, 6001))  # counted on
    assert new["name"].iloc[0] == "name-1"
    shares = new["plan"].value_counts(normalize=True)
    assert shares["gold"] == pytest.approx(0.1, abs=0.03)
    # The point mass and what binds it: spend is 0 for basic and only for basic.
    assert ((new["spend"] == 0) == (new["plan"] == "basic")).mean() > 0.98


def test_gaps_come_at_the_rate_and_in_the_pattern_of_the_data(model, market):
    new = model.sample(3000, random_state=1)
    assert new["city"].isna().mean() == pytest.approx(market["city"].isna().mean(), abs=0.04)
    assert (new["city"].isna() == new["joined"].isna()).mean() > 0.97
    assert new["age"].notna().all()


def test_rows_can_be_drawn_without_gaps(market):
    ae = lt.Autoencoder("tabular", settings={"kind.gaps": "filled"}, steps=60, random_state=0).fit(market)
    assert ae.sample(500).notna().all().all()


def test_rows_drawn_through_the_code_follow_the_table_too(model):
    new = model.sample(2000, random_state=1, through_code=True)
    assert ((new["spend"] == 0) == (new["plan"] == "basic")).mean() > 0.95
    assert model.transform(new).std(0).min() > 0.05  # the code says something in every dimension


@pytest.mark.parametrize(
    ("given", "holds"),
    [
        ("plan=gold", lambda d: d["plan"] == "gold"),
        ({"plan": ["gold", "plus"]}, lambda d: d["plan"].isin(["gold", "plus"])),
        ("plan=gold|plus,age>60", lambda d: d["plan"].isin(["gold", "plus"]) & (d["age"] > 60)),
        ("age=30..40", lambda d: d["age"].between(30, 40)),
        ({"age": (None, 25)}, lambda d: d["age"] <= 25),
        ("spend=33.25", lambda d: d["spend"] == 33.25),
        ("tax=21", lambda d: d["plan"] == "gold"),
        ("joined>=2023-01-01", lambda d: d["joined"] >= "2023-01-01"),
        ("spend>20.5,spend<=21", lambda d: (d["spend"] > 20.5) & (d["spend"] <= 21)),
        ("age>50,spend>20", lambda d: (d["age"] > 50) & (d["spend"] > 20)),
    ],
)
@pytest.mark.filterwarnings("ignore::latente.kinds.base.DataWarning")
def test_what_is_given_holds_in_every_row(model, given, holds):
    new = model.sample(300, random_state=2, given=given)
    assert len(new) == 300
    assert holds(new).all()


def test_what_is_given_changes_the_rest_as_it_should(model, market):
    new = model.sample(3000, random_state=2, given="age>=60")
    assert (new["senior"] == "yes").mean() > 0.97
    new = model.sample(3000, random_state=2, given="spend>0")
    true = (market.loc[market["spend"] > 0, "plan"] == "gold").mean()
    assert (new["plan"] == "gold").mean() == pytest.approx(true, abs=0.06)
    assert (new["plan"] != "basic").mean() > 0.95


def test_two_ranges_together_are_drawn_again_until_they_fit_and_a_note_says_so(model, market):
    with pytest.warns(DataWarning, match=r"rows were drawn to keep 2,000"):
        new = model.sample(2000, random_state=2, given="spend>30,age>70")
    both = market[(market["spend"] > 30) & (market["age"] > 70)]
    assert (new["plan"] == "gold").mean() == pytest.approx((both["plan"] == "gold").mean(), abs=0.1)


@pytest.mark.parametrize(
    ("given", "problem", "hint"),
    [
        ("plam=gold", "no column 'plam'", "did you mean 'plan'"),
        ("plan=golf", "'plan' has no value 'golf'", "did you mean 'gold'"),
        ("age>200", "ran from 18 to 79", "age=79"),
        ("age=old", "is a number, not 'old'", "age=18"),
        ("joined=1999-01-01", "outside", "joined=2020-01-02"),
        ("plan=gold,tax=0", "cannot be together with plan=gold", "leave one of them out"),
        ("name=person 1", "cannot be given", "columns that the model holds"),
        ("gold", "takes NAME=VALUE", "sex=Female"),
        ("age=40..20", "begins after it ends", "age=20..40"),
        (["plan"], "a text or a dict", "age"),
    ],
)
def test_what_cannot_be_given_is_refused_with_the_nearest_that_can(model, given, problem, hint):
    with pytest.raises(ConfigError) as caught:
        model.sample(5, given=given)
    assert problem in caught.value.problem
    assert hint in caught.value.hint


def test_conditions_are_read_with_their_commas():
    assert parsed("job=cook, waiter,age>60,age<=70") == {"job": ["cook, waiter"], "age": [">60", "<=70"]}
    assert subset.__doc__


def test_small_groups_are_made_larger(model):
    new = lt.sample(model, 300, balance="plan")
    assert new["plan"].value_counts().tolist() == [100, 100, 100]
    assert lt.sample(model, 9, balance="tax")["tax"].value_counts().tolist() == [3, 3, 3]  # it follows from plan
    with pytest.raises(ConfigError, match="has no levels"):
        lt.sample(model, 10, balance="age")
    both = lt.sample(model, 60, balance="plan", given="age>30,age<40")  # both of them hold
    assert both["age"].between(31, 39).all()


def test_gaps_are_filled_and_nothing_else(model, market):
    rng = np.random.default_rng(0)
    holes = market.copy()
    for name in ("plan", "age", "spend", "city"):
        holes.loc[rng.random(len(holes)) < 0.2, name] = np.nan
    full = lt.impute(model, holes)
    for name in holes:
        there = holes[name].notna()
        assert full.loc[there, name].equals(holes.loc[there, name].astype(full[name].dtype))
    assert full.drop(columns=["id", "name"]).notna().all().all()
    gone = holes["plan"].isna() & (holes["spend"] == 0)
    # The tax alone tells the plan.
    assert (full.loc[gone, "plan"] == "basic").all()


def test_a_gap_is_filled_with_the_mean_of_what_it_could_be(model, market):
    holes = market[market["plan"] == "gold"].head(200).copy()
    holes["spend"] = np.nan
    full = lt.impute(model, holes)
    true = market.loc[market["plan"] == "gold", "spend"].mean()
    assert full["spend"].mean() == pytest.approx(true, rel=0.15)


def test_draws_differ_as_much_as_is_not_known(model, market):
    holes = market.head(400).copy()
    holes["age"] = np.nan
    draws = lt.impute(model, holes, draws=5, seed=3)
    assert draws["draw"].value_counts().tolist() == [400] * 5
    spread = draws.groupby(np.tile(np.arange(400), 5))["age"].std()
    assert spread.mean() > 5  # ages are all but free given the rest: 18 between 18 and 79, less within seniors
    assert draws["age"].notna().all()
    again = lt.impute(model, holes, draws=5, seed=3)
    assert again.equals(draws)


def test_a_model_file_gives_the_same_rows_and_holds_no_rows(model, market, tmp_path):
    model.save(tmp_path / "m.safetensors")
    again = lt.load(tmp_path / "m.safetensors")
    assert again.sample(100, random_state=5, given="age>40").equals(model.sample(100, random_state=5, given="age>40"))
    assert np.array_equal(again.transform(market), model.transform(market))
    assert np.array_equal(again.score_samples(market.head(50)), model.score_samples(market.head(50)))
    content = (tmp_path / "m.safetensors").read_bytes()
    assert b"person 17" not in content
    numbers = market[["age", "spend"]].to_numpy(np.float32)
    assert not any(row.tobytes() in content for row in numbers[numbers[:, 1] > 0][:500])


def test_the_same_seed_is_the_same_model_and_another_another(market):
    one, two, three = (lt.Autoencoder("tabular", steps=40, random_state=s).fit(market.head(500)) for s in (0, 0, 1))
    assert one.sample(50).equals(two.sample(50))
    assert not one.sample(50).equals(three.sample(50))


def test_pictures_are_refused_by_name():
    with pytest.raises(ConfigError, match="recipe 'tabular' is for data of kind 'table'"):
        lt.Autoencoder("tabular").fit(np.zeros((20, 8, 8), np.uint8))


def test_polars_and_numpy_come_back_as_they_came(market):
    import polars as pl

    frame = pl.from_pandas(market[["plan", "age", "spend"]].head(400))
    ae = lt.Autoencoder("tabular", steps=40, random_state=0).fit(frame)
    new = ae.sample(20, given="plan=gold")
    assert new.schema == frame.schema
    assert set(ae.sample(20, given="spend=33.25")["spend"]) == {33.25}
    x = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    ae = lt.Autoencoder("tabular", steps=40, random_state=0).fit(x)
    assert ae.sample(10).dtype == np.float32
    holes = x.copy()
    holes[::7, 1] = np.nan
    full = lt.impute(ae, holes)
    assert np.isfinite(full).all()
    assert np.array_equal(full[~np.isnan(holes)], holes[~np.isnan(holes)])


def test_pyarrow_tables_come_back_as_they_came(market):
    import pyarrow as pa

    frame = market[["plan", "age", "spend", "city"]].head(600).copy()
    frame["age"] = frame["age"].astype("Int64").mask(np.arange(600) % 5 == 0)
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
    ae = lt.Autoencoder(steps=60, random_state=0).fit(table)
    assert ae.card_["recipe"] == "tabular"
    new = ae.sample(200, given="spend=33.25")
    assert new.schema.names == table.schema.names
    assert pa.types.is_integer(new.schema.field("age").type)
    assert new.column("age").null_count > 0
    assert set(new.column("spend").to_pylist()) == {33.25}
    full = lt.impute(ae, table)
    assert full.schema.equals(table.schema)
    assert full.column("age").null_count == 0
    assert full.column("spend").equals(table.column("spend"))
    assert lt.impute(ae, table, draws=2).num_rows == 1200
    assert lt.sample(ae, 9, balance="plan").num_rows == 9


def test_few_rows_are_said_to_be_few(market):
    ae = lt.Autoencoder("tabular", steps=30, random_state=0).fit(market.head(200))
    assert any("few to learn from" in finding for finding in ae.card_["findings"])


def test_the_chain_is_exact_where_the_whole_distribution_can_be_listed():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 4000)
    b = np.where(rng.random(4000) < 0.9, a, 1 - a)
    c = np.where(rng.random(4000) < 0.8, b, 1 - b)
    frame = pd.DataFrame({n: np.array(["no", "yes"])[v] for n, v in (("a", a), ("b", b), ("c", c))})
    # What keeps a small table from being learned by heart also draws its probabilities together: without, it is exact.
    ae = lt.Autoencoder("tabular", steps=1000, settings={"kind.dropout": 0.0}, random_state=0).fit(frame)
    # p(a | c): c tells b, and b tells a.
    new = ae.sample(4000, given="c=yes")
    true = (frame.loc[frame["c"] == "yes", "a"] == "yes").mean()
    assert (new["a"] == "yes").mean() == pytest.approx(true, abs=0.04)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = ae.schema_.to_batch(frame)
        alone = -ae.model_.likelihood.alone(len(frame)).seen(batch.x, None).sum(-1).mean().item()

    def h(p):
        return -(p * np.log(p) + (1 - p) * np.log(1 - p))

    entropy = np.log(2) + h(0.1) + h(0.2)  # of the three columns, in nats
    assert alone == pytest.approx(entropy, abs=0.03)
    assert isinstance(ae.schema_, Table)
    assert not any(isinstance(c, Binned) for c in ae.schema_.columns)


def test_numbers_are_given_as_a_set_and_booleans_as_people_write_them():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"rooms": rng.integers(1, 6, 600), "own": rng.random(600) < 0.4, "size": rng.normal(0, 1, 600)}
    )
    ae = lt.Autoencoder("tabular", steps=30, random_state=0).fit(frame)
    assert set(ae.sample(200, given="rooms=2|5", random_state=0)["rooms"]) == {2, 5}
    assert set(ae.sample(200, given={"rooms": {1, 3}}, random_state=0)["rooms"]) == {1, 3}
    for text in ("own=1", "own=yes", "own=True", "own=true"):
        assert ae.sample(20, given=text, random_state=0)["own"].all()
    with pytest.raises(ConfigError, match="ran from 1 to 5"):
        ae.sample(5, given="rooms=2|9")
    with pytest.raises(ConfigError, match="too near to each other"):
        ae.sample(5, given="size=0.001|0.0011")


def test_a_column_that_tells_its_source_only_in_part_is_heeded_where_that_is_missing():
    rng = np.random.default_rng(0)
    plan = rng.choice(["gold", "plus", "free"], 900)
    frame = pd.DataFrame({"plan": plan, "price": np.where(plan == "gold", 1.5, 2.5), "x": rng.normal(size=900)})
    ae = Autoencoder(random_state=0, epochs=3).fit(frame)
    gone = frame.assign(plan=None)
    for filled in (lt.impute(ae, gone), lt.impute(ae, gone, draws=1), lt.impute(ae, gone, draws=2)):
        assert ((filled["plan"] == "gold") == (filled["price"] == 1.5)).all()
    new = ae.sample(500)
    assert ((new["plan"] == "gold") == (new["price"] == 1.5)).all()


def test_impute_leaves_cells_that_a_whole_numbered_column_never_had():
    frame = pd.DataFrame({"age": np.arange(18, 78).repeat(4), "x": np.random.default_rng(0).normal(size=240)})
    for dtype in ("int64", "Int64"):
        ae = Autoencoder(random_state=0, epochs=2).fit(frame.astype({"age": dtype}))
        odd = pd.DataFrame({"age": [33.5, np.nan], "x": [0.1, 0.2]})
        assert lt.impute(ae, odd)["age"].iloc[0] == 33.5
        with pytest.raises(DataError, match=r"column 'age', row 0: 2020.* is a date"):
            ae.transform(odd.assign(age=pd.Timestamp("2020-01-01")))


def test_a_stray_word_in_a_column_of_numbers_is_named():
    frame = pd.DataFrame({"a": [*map(str, range(99)), "hello"], "b": np.arange(100) % 7})
    with pytest.warns(lt.DataWarning, match="1 of 100 cells of column 'a' are no numbers"):
        Autoencoder(random_state=0, epochs=1).fit(frame)


@pytest.mark.parametrize("gap", [None, np.nan, pd.NA])
def test_a_gap_cannot_be_given(gap):
    frame = pd.DataFrame({"a": np.arange(60) % 5, "b": np.arange(60) % 7})
    ae = Autoencoder(random_state=0, epochs=1).fit(frame)
    with pytest.raises(ConfigError, match="a gap cannot be given"):
        ae.sample(3, given={"a": gap})
