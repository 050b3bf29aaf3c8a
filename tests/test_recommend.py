"""Histories of users: reading them, the recommender, and what its lists are worth."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from test_cli import run as latente

import latente as lt
from latente.errors import ConfigError, DataError, ModelFileError
from latente.kinds.base import DataWarning
from latente.kinds.histories import of_frame, of_lists, of_matrix
from latente.kinds.interactions import Interactions, csr_of
from latente.kinds.reading import read
from latente.uses import ranking, recommendation
from latente.uses.learned.recommender import Recommend, closed_form, products

GROUPS, ITEMS = 4, 40
SMALL = {"nets.width": 32, "latent.dim": 8, "train.unplanned": [8, 80], "train.ema": 0.9}


def histories(users=240, seed=0):
    """Users of four groups, each of which likes ten of forty items, and the first item of all."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, GROUPS, users)
    liked = np.arange(ITEMS) // 10 == group[:, None]
    x = rng.random((users, ITEMS)) < np.where(liked, 0.6, 0.03)
    x[:, 0] = rng.random(users) < 0.7
    x[:, 1:3] |= ~x.any(1, keepdims=True)
    return x, group


def lines(x, name="item {}"):
    user, item = x.nonzero()
    return pd.DataFrame({"user_id": user, "movie": [name.format(i) for i in item]})


@pytest.fixture(scope="module")
def taken():
    return histories()[0]


@pytest.fixture(scope="module")
def model(taken):
    return lt.Autoencoder(kind="interactions", random_state=0, settings=SMALL).fit(lines(taken))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("recommend") / "m.safetensors"
    model.save(path)
    return path


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_table_a_line_a_user_lists_and_a_matrix_are_the_same_histories(tmp_path):
    x, _ = histories(20)
    frame = lines(x, "i{}")
    (tmp_path / "a.txt").write_text("".join(f"u{u} {' '.join(g.movie)}\r\n" for u, g in frame.groupby("user_id")))
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    kind = Interactions()
    forms = [kind.taken(read(tmp_path / f"a.{e}", "interactions")) for e in ("txt", "csv", "parquet")]
    forms.append(of_lists([list(g.movie) for _, g in frame.groupby("user_id")]))
    wanted = pd.DataFrame(x.astype(float), columns=[f"i{i}" for i in range(ITEMS)])
    wanted = wanted.loc[:, x.any(0)]
    for found in forms:
        assert found.to_pandas()[list(wanted)].to_numpy().tolist() == wanted.to_numpy().tolist()
    sp.save_npz(tmp_path / "a.npz", sp.csr_matrix(x.astype(np.int8)))
    assert (kind.taken(read(tmp_path / "a.npz", "interactions")).counts != sp.csr_matrix(x)).nnz == 0


def test_columns_are_found_by_their_usual_names_or_as_they_are_told():
    frame = pd.DataFrame({"rating": [5, 1, 3], "Item ID": ["a", "b", "a"], "time": [1, 2, 3], "User": [7, 7, 8]})
    found = of_frame(frame, "", "", "")
    assert found.names == ("a", "b")
    assert found.counts.toarray().tolist() == [[5, 1], [3, 0]]
    assert list(found.about.index) == ["7", "8"]
    odd = pd.DataFrame({"x": ["p", "q"], "y": ["a", "b"]})
    assert of_frame(odd, "", "", "").names == ("a", "b")  # the first two, in their order
    assert of_frame(odd, "y", "x", "").names == ("p", "q")
    with pytest.raises(ConfigError, match=r"no column 'z'.*\n\nhint: columns: x, y"):
        of_frame(odd, "z", "", "")
    with pytest.raises(DataError, match="lines of a user and an item"):
        of_frame(odd[["x"]], "", "", "")


def test_a_bad_weight_is_named_and_lines_without_an_item_are_counted():
    frame = pd.DataFrame({"user": [1, 1, 2], "item": ["a", None, "b"], "weight": [1.0, 2.0, 3.0]})
    notes = []
    assert of_frame(frame, "", "", "", notes.append).counts.nnz == 2
    assert notes == ["1 of 3 lines have no user or no item, and are left out"]
    with pytest.raises(DataError, match=r"column 'weight', row 2: a weight is a number from 0 to 1e\+09, not -3\.0"):
        of_frame(frame.assign(weight=[1.0, 2.0, -3.0]), "", "", "")


def test_numbers_that_a_gap_made_floats_are_the_same_names():
    frame = pd.DataFrame({"user": [1, 1, 2], "item": [10.0, np.nan, 11.0]})
    assert of_frame(frame, "", "", "").names == ("10", "11")


def test_what_is_rare_or_weighs_little_is_left_out():
    frame = pd.DataFrame({"user": [1, 1, 2, 2, 3, 3], "item": list("ababac"), "rating": [5.0, 4.0, 5.0, 1.0, 4.0, 5.0]})
    assert Interactions(rare=2).learn(frame).items == ("a", "b")
    assert Interactions(least=4, rare=1).learn(frame).to_batch(frame).x.to_dense().tolist() == [
        [1, 1, 0],
        [1, 0, 0],
        [1, 0, 1],
    ]
    weighed = Interactions(weights=True).learn(frame).to_batch(frame).x.to_dense()
    assert weighed.tolist() == [[5, 4, 0], [5, 1, 0], [4, 0, 5]]


def test_users_without_anything_are_counted_and_too_little_is_refused():
    x = sp.csr_matrix(np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]]))
    with pytest.warns(DataWarning, match="1 of 3 users have no item"):
        Interactions().learn(x)
    with pytest.raises(DataError, match="nothing to learn"):
        Interactions().learn([["a"], ["a"]])


# ── lists and their figures ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_history_is_halved_without_loss_and_without_overlap():
    x = torch.from_numpy(histories(50)[0].astype(np.float32))
    csr = csr_of(sp.csr_matrix(x.numpy()), np.float32)
    seen, wanted, users = ranking.halves(csr, 3)
    a, b, n = seen.to_dense(), wanted.to_dense(), x[users].sum(1)
    assert torch.equal(a + b, x[users])
    assert torch.equal(b.sum(1), (0.2 * n).floor().clamp(min=1))
    again = ranking.halves(csr, 3)[1].to_dense()
    assert torch.equal(again, b)
    assert not torch.equal(ranking.halves(csr, 4)[1].to_dense(), b)


def test_figures_of_a_list_are_those_worked_out_by_hand():
    wanted = csr_of(sp.csr_matrix(np.array([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1]])), np.float32)
    found = ranking.judged(torch.tensor([[2, 1, 0], [0, 1, 2]]), wanted)
    best = 1 + 1 / np.log2(3)
    assert found.ndcg.tolist() == pytest.approx([(1 + 1 / 2) / best, 0.0])
    assert found.recall20.tolist() == [1.0, 0.0]
    assert found.means()["coverage"] == pytest.approx(3 / 5)


def test_what_was_seen_is_not_recommended_and_ends_are_said():
    seen = csr_of(sp.csr_matrix(np.array([[1, 0, 1], [0, 0, 0]])), np.float32)
    index, values = ranking.top(torch.tensor([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0]]), seen, 2)
    assert index[:, 0].tolist() == [1, 1]
    assert values[0].tolist() == [1.0, -np.inf]


def test_a_paired_bootstrap_holds_the_mean_difference():
    rng = np.random.default_rng(0)
    a = rng.normal(0.1, 1, 500)
    low, high = ranking.apart(a, np.zeros(500), 0)
    error = a.std() / 500**0.5
    assert low == pytest.approx(a.mean() - 1.96 * error, abs=0.4 * error)
    assert high == pytest.approx(a.mean() + 1.96 * error, abs=0.4 * error)


def test_the_closed_form_is_the_ridge_regression_of_each_item_on_the_others():
    x = histories(60)[0].astype(np.float64)[:, :6]
    n = x.sum(1)
    weight = np.where(n > 0, np.maximum(n, 1e-9) ** -0.5, 0)
    weight *= (n > 0).sum() / weight.sum()
    part = Recommend(ridge=3.0, relative=0.25)
    found = part.weights(sp.csr_matrix(x)).astype(np.float64)
    ridge = 3.0 + 0.25 * (weight[:, None] * x**2).sum(0)
    for j in range(6):
        rest = [i for i in range(6) if i != j]
        # EASE's multiplier for the zero on the diagonal: the same system without item j.
        a = (x[:, rest] * weight[:, None]).T @ x[:, rest] + np.diag(ridge[rest])
        own = np.linalg.solve(a, (x[:, rest] * weight[:, None]).T @ x[:, j])
        assert found[rest, j] == pytest.approx(own, abs=2e-3)  # float16 has three digits
    assert (np.diag(found) == 0).all()
    g = products(sp.csr_matrix(x))
    assert np.allclose(g, x.T @ x)
    assert closed_form(g, 1.0, 0.0).dtype == np.float16


# ── the model ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_user_gets_what_the_group_likes_without_what_was_taken(model):
    found = lt.recommend(model, ["item 21", "item 22", "item 25"], k=5)
    assert set(found.item) <= {"item 0", *(f"item {i}" for i in range(20, 30))}
    assert not set(found.item) & {"item 21", "item 22", "item 25"}
    assert found["rank"].tolist() == [1, 2, 3, 4, 5]
    assert (np.diff(found.score) <= 0).all()
    assert found.because.str.contains("item 2").all()
    assert "item 21" in set(lt.recommend(model, ["item 21", "item 22"], k=10, seen=True).item)


def test_what_comes_does_not_depend_on_who_stands_beside(model):
    both = lt.recommend(model, [["item 1", "item 2"], ["item 35", "item 31"]], k=4)
    alone = lt.recommend(model, ["item 35", "item 31"], k=4)
    assert both.item[both.user == "1"].tolist() == alone.item.tolist()
    assert np.allclose(both.score[both.user == "1"], alone.score, atol=1e-5)


@pytest.mark.parametrize("by", ["both", "net", "linear", "ease", "popularity"])
def test_each_way_of_scoring_gives_lists_and_reasons(model, by):
    found = lt.recommend(model, [["item 21", "item 22"], ["item 1"]], k=3, by=by)
    assert len(found) == 6
    assert (found.because != "").any() == (by != "popularity")
    if by == "popularity":
        assert found.item.tolist()[0] == "item 0"


def test_reasons_of_a_net_alone_are_what_its_score_loses(model):
    whole = lt.recommend(model, ["item 21", "item 22"], k=38, by="net", why=2).set_index("item")
    without = lt.recommend(model, ["item 22"], k=40, by="net", why=0, seen=True).set_index("item")
    fall = (whole.score - without.score).dropna()
    assert (fall > 0.01).sum() > 5
    for item, lost in fall.items():
        said = dict(part.rsplit(" ", 1) for part in whole.because[item].split(", ") if part)
        assert (lost > 0) == ("item 21" in said)
        if lost > 0:
            assert float(said["item 21"]) == pytest.approx(lost, rel=0.06)  # two digits are shown


def test_an_unknown_item_is_named_and_one_known_is_enough(model):
    with pytest.warns(DataWarning, match=r"1 item is not among .* ignored in 1 interactions: 'nonsense'"):
        found = lt.recommend(model, ["item 21", "nonsense"], k=2)
    assert len(found) == 2
    with pytest.raises(DataError, match="knows none of these 1 items, such as 'nonsense'"):
        lt.recommend(model, ["nonsense"])
    frame = pd.DataFrame({"user": ["a", "b"], "item": ["item 3", "nonsense"]})
    with pytest.warns(DataWarning, match="1 of 2 users|1 item"):
        assert set(lt.recommend(model, frame, k=1).user) == {"a", "b"}


def test_evaluation_stands_above_popularity_and_says_by_how_much(model):
    new = lines(histories(120, seed=1)[0])
    found = lt.evaluate(model, new, quiet=True)
    assert found["both"]["ndcg100"] > found["popularity"]["ndcg100"] + 0.1
    over = found["both_over_popularity"]
    assert over["ndcg100_from"] <= over["ndcg100"] <= over["ndcg100_to"]
    assert over["ndcg100"] == pytest.approx(found["both"]["ndcg100"] - found["popularity"]["ndcg100"], abs=2e-4)
    assert {"ease", "linear", "net"} <= found.keys()
    assert found["neg_elbo"] == pytest.approx(found["rec"] + found["kl"])
    assert lt.evaluate(model, new, quiet=True) == found


def test_the_weight_of_the_linear_scores_is_the_best_of_those_tried(model, taken):
    held_out = model.use_.held_out
    assert held_out["both"]["ndcg100"] >= max(held_out["net"]["ndcg100"], 0)
    assert model.use_.weight in (0, 2, 4, 6, 8, 12, 16, 24, 32)
    assert held_out["users"] >= 20


def test_a_saved_model_recommends_the_same_and_equal_fits_are_equal_bytes(model, saved, taken):
    again = lt.load(saved)
    new = lines(histories(30, seed=2)[0])
    pd.testing.assert_frame_equal(lt.recommend(again, new), lt.recommend(model, new))
    other = lt.Autoencoder(kind="interactions", random_state=0, settings=SMALL).fit(lines(taken))
    assert other._bytes() == saved.read_bytes()


def test_users_are_not_in_the_file_and_items_are(saved):
    data = saved.read_bytes()
    assert b"item 39" in data
    assert json.loads(json.dumps(lt.info(saved)))["kind"] == "interactions"
    names = lines(histories()[0]).assign(user_id=lambda f: "person-" + f.user_id.astype(str))
    other = lt.Autoencoder(kind="interactions", random_state=0, settings={**SMALL, "train.unplanned": [1, 2]})
    assert b"person-" not in other.fit(names)._bytes()


def test_a_file_whose_matrices_do_not_go_with_its_items_is_refused(model, tmp_path):
    import copy
    from dataclasses import replace

    broken = copy.copy(model)
    for change in (
        {"popularity": model.use_.popularity[:-1]},
        {"which": model.use_.which[::-1].copy()},
        {"linear": model.use_.linear.astype(np.float32)},
        {"which": np.arange(1, len(model.use_.which) + 1, dtype=np.int32)},
    ):
        broken.use_ = replace(model.use_, **change)
        (tmp_path / "b.safetensors").write_bytes(broken._bytes())
        with pytest.raises(ModelFileError):
            lt.load(tmp_path / "b.safetensors")


def test_of_more_items_than_the_linear_model_holds_the_others_are_the_nets(taken):
    ae = lt.Autoencoder(kind="interactions", random_state=0, settings={**SMALL, "use.most": 15}).fit(lines(taken))
    assert ae.use_.linear.shape == (15, 15)
    rows = ae.schema_.prepare(ae.schema_.to_batch(lines(taken[:5])))
    linear = ae.use_.scores(ae.model_, rows, "linear")
    outside = np.setdiff1d(np.arange(ITEMS), ae.use_.which)
    assert (linear[:, outside] == 0).all()
    inside = rows.x.to_dense()[:, ae.use_.which.astype(int)] @ torch.from_numpy(ae.use_.linear.astype(np.float32))
    assert torch.allclose(linear[:, ae.use_.which.astype(int)], inside, atol=1e-3)
    assert len(lt.recommend(ae, ["item 21"], k=39)) == 39


def test_weights_count_where_they_are_asked_to():
    x, _ = histories(120)
    frame = lines(x).assign(rating=np.random.default_rng(0).integers(1, 6, int(x.sum())))
    settings = {**SMALL, "kind.weights": True, "kind.weight": "rating", "train.unplanned": [2, 20]}
    ae = lt.Autoencoder(kind="interactions", random_state=0, settings=settings).fit(frame)
    assert "weight" in ae.sample(3)
    assert len(lt.recommend(ae, frame.head(9), k=2)) >= 2


def test_neighbours_of_an_item_are_of_its_group(model):
    near = [
        int(name.split()[1]) // 10 == i // 10
        for i in range(ITEMS)
        for name in lt.neighbours(model, f"item {i}", k=5).item
    ]
    assert np.mean(near) > 0.5  # by chance 9 of 39
    with pytest.raises(DataError, match=r"no item 'item 99'.*\n\nhint: did you mean"):
        lt.neighbours(model, "item 99")


def test_new_histories_look_like_old_ones(model, taken):
    new = model.sample(200)
    sizes = new.groupby("user").size()
    assert sizes.median() == pytest.approx(np.median(taken.sum(1)), abs=3)
    assert not new.duplicated().any()


def test_what_is_no_history_is_refused(model):
    for bad in (3, {"a": 1}, np.zeros(4)):
        with pytest.raises(DataError, match="lines of user and item"):
            lt.recommend(model, bad)
    with pytest.raises(ConfigError, match="k must be a whole number, 1 or more, not 0"):
        lt.recommend(model, ["item 1"], k=0)
    with pytest.raises(ConfigError, match="recommendations are by both, net"):
        lt.recommend(model, ["item 1"], by="magic")


def test_a_recommender_of_a_table_is_refused_and_so_are_recommendations_of_one(people):
    with pytest.raises(ConfigError, match="recipe 'recommend' is for data of kind 'interactions'"):
        lt.Autoencoder("recommend").fit(people)
    ae = lt.Autoencoder("vae", dim=2, steps=2, random_state=0).fit(people)
    with pytest.raises(ConfigError, match="gives no recommendations"):
        lt.recommend(ae, ["a"])


def test_any_recipe_fits_histories(taken):
    ae = lt.Autoencoder("vae", kind="interactions", dim=4, steps=20, random_state=0).fit(lines(taken))
    found = lt.evaluate(ae, lines(taken), samples=5, quiet=True)
    assert np.isfinite(found["iw_nll"])
    assert "error_pca" not in found
    assert ae.transform(lines(taken)).shape == (240, 4)
    assert not recommendation.recommends(ae)


def test_the_command_line_fits_recommends_and_evaluates(tmp_path, taken):
    lines(taken).to_csv(tmp_path / "old.csv", index=False)
    lines(histories(40, seed=3)[0]).to_csv(tmp_path / "new.csv", index=False)
    small = [f"--set={k}={json.dumps(v)}" for k, v in SMALL.items()]
    fitted = latente("fit", "old.csv", "--recipe", "recommend", "-o", "run", *small, cwd=tmp_path)
    assert fitted.code == 0, fitted.err
    named = latente("recommend", "run", "item 21,item 22", "-k", "3", cwd=tmp_path)
    assert named.code == 0
    assert len(named.out.splitlines()) == 4
    written = latente("recommend", "run", "new.csv", "-k", "2", "-o", "picks.parquet", cwd=tmp_path)
    assert written.code == 0, written.err
    assert len(pd.read_parquet(tmp_path / "picks.parquet")) == 80
    figures = json.loads(latente("evaluate", "run", "new.csv", "--json", cwd=tmp_path).out)
    assert figures["both"]["ndcg100"] > figures["popularity"]["ndcg100"]
    missing = latente("recommend", "run", "absent.csv", cwd=tmp_path)
    assert missing.code == 3
    assert "there is no file absent.csv" in missing.err
    odd = latente("recommend", "run", "nothing known", cwd=tmp_path)
    assert odd.code == 3
    assert "Traceback" not in odd.err


def test_a_matrix_that_is_not_of_numbers_is_refused():
    with pytest.raises(DataError, match="matrix of numbers"):
        of_matrix(sp.csr_matrix(np.array([[1 + 2j]])))


# ── what trials found ───────────────────────────────────────────────────────────────────────────────────────────────


def test_names_that_read_alike_are_one_item_and_none_is_no_item():
    frame = pd.DataFrame({"user": [1, 2, 3, 3], "item": np.array([1, "1", 1.0, "x"], dtype=object)})
    assert of_frame(frame, "", "", "").names == ("1", "x")
    notes = []
    found = of_lists([[1.0, None], [float("nan"), "b"]], notes.append)
    assert found.names == ("1", "b")
    assert notes == ["2 of 4 items have no name, and are left out"]
    assert "?" in of_lists([["\ud800", "b"]]).names  # half of a character cannot be written


@pytest.mark.parametrize("bad", [[None, ["a"]], [["a"], 5], [["a"], "bc"]], ids=str)
def test_a_list_that_is_no_history_is_named(bad):
    with pytest.raises(DataError, match=r"user \d of the list is"):
        of_lists(bad)


def test_an_item_taken_twice_counts_once_whatever_the_type_of_the_matrix():
    for dtype in (np.float32, np.int8, np.int64):
        twice = sp.csr_matrix((np.ones(5, dtype), [0, 0, 1, 2, 1], [0, 3, 5]), shape=(2, 3))
        x = Interactions().learn(twice).to_batch(twice).x.to_dense()
        assert x.tolist() == [[1, 1, 0], [0, 1, 1]]
        assert twice.nnz == 5  # the caller's stays as it was


def test_a_read_only_matrix_is_read():
    x = sp.csr_matrix(histories(20)[0].astype(np.float32))
    for array in (x.data, x.indices, x.indptr):
        array.setflags(write=False)
    assert Interactions().learn(x).users == 20


@pytest.mark.parametrize("weight", [np.inf, 1e39, -1.0, np.nan])
def test_weights_beyond_reason_are_refused_with_their_row(weight):
    x = sp.csr_matrix(np.array([[1.0, 1.0], [1.0, 0.5]]))
    x.data[2] = weight
    with pytest.raises(DataError, match="row 1: a weight is a number from 0"):
        Interactions(weights=True).learn(x)


def test_weights_that_are_asked_for_need_a_column():
    frame = pd.DataFrame({"user": [1, 1, 2], "item": list("aba"), "Sterne": [1, 5, 5]})
    for kind in (Interactions(weights=True), Interactions(least=4)):
        with pytest.raises(
            ConfigError, match=r"no column is known as that of the weights.*\n\nhint: --set kind.weight"
        ):
            kind.learn(frame)
    assert Interactions(least=4, weight="Sterne").learn(pd.concat([frame] * 2)).items == ("a", "b")


def test_plays_of_a_hundred_thousand_have_a_closed_form():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (100, 12)).astype(float)
    x[:, 11] = x[:, 10] = rng.integers(0, 100_000, 100)  # two items that are the same
    found = Recommend().weights(sp.csr_matrix(x))
    assert np.isfinite(found).all()
    assert np.isfinite(Recommend(ridge=1e-12, relative=0.0).weights(sp.csr_matrix(x))).all()


def test_names_with_commas_are_items_on_the_command_line(tmp_path):
    frame = lines(histories(80)[0], "Film {}, The")
    settings = {**SMALL, "train.unplanned": [1, 4]}
    ae = lt.Autoencoder(kind="interactions", random_state=0, settings=settings).fit(frame)
    given = recommendation._given
    assert given(ae.schema_, "Film 3, The") == ["Film 3, The"]
    assert given(ae.schema_, '"Film 3, The", x,"Film 4, The"') == ["Film 3, The", "x", "Film 4, The"]
    with pytest.raises(DataError, match=r"knows none.*\n\nhint: did you mean 'Film 3, The'"):
        lt.recommend(ae, ["Film 3 The"])


def test_a_users_whole_history_is_an_end_of_a_way(model, tmp_path):
    x, _ = histories(10, seed=4)
    lines(x).to_csv(tmp_path / "new.csv", index=False)
    way = lt.interpolate(model, f"{tmp_path}/new.csv:0", f"{tmp_path}/new.csv:9", steps=3)
    ends = model.reconstruct(lines(x))
    assert np.allclose(way.iloc[0], ends.iloc[0], atol=1e-4)
    assert np.allclose(way.iloc[2], ends.iloc[9], atol=1e-4)
    with pytest.raises(DataError, match="has 10 rows"):
        lt.interpolate(model, f"{tmp_path}/new.csv:0", f"{tmp_path}/new.csv:10")


def test_what_histories_do_not_have_is_refused(model, taken, tmp_path):
    with pytest.raises(ConfigError, match="histories have no gaps"):
        lt.impute(model, lines(taken))
    with pytest.raises(ConfigError, match="sparse on their way"):
        lt.export(model, output=tmp_path / "x.onnx")
    with pytest.raises(ConfigError, match="judged by its lists alone"):
        lt.evaluate(model, lines(taken), fidelity=True)
    with pytest.raises(ConfigError, match="cannot be made private"):
        lt.Autoencoder("vae", kind="interactions", dp_epsilon=5.0).fit(lines(taken))
    with pytest.raises(DataError, match="found 0 rows"):
        lt.recommend(model, sp.csr_matrix((0, ITEMS)))


def test_codes_say_whose_they_are(model, taken):
    frame = lines(taken).assign(user_id=lambda f: "u" + f.user_id.astype(str))
    codes = lt.encode(model, frame)
    assert codes.user.tolist()[:2] == ["u0", "u1"]
    assert codes.shape == (240, 9)


@pytest.mark.parametrize("change", [{"linear": np.nan}, {"ease": np.inf}, {"popularity": np.nan}, {"weight": 1e308}])
def test_a_file_with_scores_that_are_no_numbers_is_refused(model, change, tmp_path):
    import copy
    from dataclasses import replace

    broken, (name, value) = copy.copy(model), next(iter(change.items()))
    old = getattr(model.use_, name)
    broken.use_ = replace(model.use_, **{name: value if name == "weight" else np.full_like(old, value)})
    (tmp_path / "b.safetensors").write_bytes(broken._bytes())
    with pytest.raises(ModelFileError):
        lt.load(tmp_path / "b.safetensors")


def test_a_file_whose_weights_are_no_numbers_is_refused(taken, tmp_path):
    ae = lt.Autoencoder(kind="interactions", random_state=0, settings={**SMALL, "train.unplanned": [1, 2]})
    ae.fit(lines(taken))
    with torch.no_grad():
        next(ae.model_.encoder.parameters()).fill_(float("nan"))
    (tmp_path / "b.safetensors").write_bytes(ae._bytes())
    with pytest.raises(ModelFileError, match="holds what is no number"):
        lt.load(tmp_path / "b.safetensors")


def test_a_run_that_is_stopped_goes_on_to_the_same_bytes(taken, tmp_path, monkeypatch):
    from latente.training.stop import Stop

    lines(taken).to_csv(tmp_path / "old.csv", index=False)
    small = [f"--set={k}={json.dumps(v)}" for k, v in SMALL.items()]
    command = ("fit", "old.csv", "--recipe", "recommend", "--quiet", *small)
    assert latente(*command, "-o", "whole", cwd=tmp_path).code == 0
    agreed, calls = Stop.agreed, []

    def soon(self, seconds):
        calls.append(seconds)
        if len(calls) == 30:  # as Ctrl-C at the thirtieth step
            self._heard = "interrupted"
        return agreed(self, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(Stop, "agreed", soon)
        assert latente(*command, "-o", "part", cwd=tmp_path).code == 130
    assert latente("resume", "part", cwd=tmp_path).code == 0
    a, b = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "part"))
    assert a == b


def test_only_what_is_in_stock_is_recommended(model, tmp_path):
    (tmp_path / "stock.txt").write_text("item 20\nitem 23\nitem 5\nnothing\n")
    with pytest.warns(DataWarning, match="1 of 4 items to choose among"):
        found = lt.recommend(model, ["item 21", "item 22"], k=9, among=str(tmp_path / "stock.txt"))
    assert set(found.item) == {"item 20", "item 23", "item 5"}
    assert lt.recommend(model, ["item 21"], k=9, among="item 20, item 23").item.tolist() == found.item.tolist()[:2]
    assert lt.recommend(model, ["item 21"], k=9, among=["item 21"]).empty
    with pytest.raises(DataError, match="none of the items to choose among"):
        lt.recommend(model, ["item 21"], among=["nothing"])


def test_a_table_that_looks_like_histories_or_counts_is_remarked_on(taken):
    few = {"steps": 2, "random_state": 0}
    with pytest.warns(DataWarning, match="look like lines of users and items.*--recipe recommend"):
        lt.Autoencoder("vae", dim=1, **few).fit(lines(taken))
    cells = pd.DataFrame(np.random.default_rng(0).poisson(0.3, (60, 210))).rename(columns=str)
    with pytest.warns(DataWarning, match="look like counts.*--kind counts"):
        lt.Autoencoder("vae", dim=2, **few).fit(cells)


def test_a_column_of_ratings_that_has_no_say_may_hold_anything():
    frame = pd.DataFrame({"user": [1, 1, 2], "item": list("aba"), "rating": ["good", -3, None]})
    assert Interactions().learn(frame).items == ("a", "b")
    with pytest.raises(DataError, match=r"column 'rating', row 0: .* not 'good'"):
        Interactions(least=2).learn(frame)
