"""Counts: cells and their genes, documents and their words."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from test_cli import run as latente

import latente as lt
from latente.errors import ConfigError, DataError
from latente.kinds.base import DataWarning, infer
from latente.kinds.counted import Counted
from latente.kinds.counts import Counts
from latente.kinds.reading import read
from latente.kinds.selecting import Moments
from latente.model import sparse
from latente.uses import cells
from latente.uses.neighbours import grouped

GENES, TYPES = 60, 3
SMALL = {"nets.width": 32, "nets.back": [32], "latent.dim": 5, "train.unplanned": [12, 100], "train.ema": 0.9}


def tissue(n=400, seed=0):
    """Cells of three types, each with fifteen genes of its own, fifteen that all have; negative binomial counts."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, TYPES, n)
    share = np.full((TYPES, GENES), 0.2)
    for t in range(TYPES):
        share[t, 15 * t : 15 * (t + 1)] = 4.0
    share[:, 45:] = 1.0
    share /= share.sum(1, keepdims=True)
    mu = share[kind] * np.exp(rng.normal(5.5, 0.4, n))[:, None]
    x = rng.negative_binomial(3.0, 3.0 / (3.0 + mu))
    about = pd.DataFrame(
        {"type": pd.Categorical([f"t{k}" for k in kind]), "batch": rng.choice(["a", "b"], n)},
        index=[f"cell {i}" for i in range(n)],
    )
    return Counted(sp.csr_matrix(x.astype(np.int32)), tuple(f"gene {i}" for i in range(GENES)), about)


@pytest.fixture(scope="module")
def raw():
    return tissue()


@pytest.fixture(scope="module")
def model(raw):
    return lt.Autoencoder(kind="counts", random_state=0, settings=SMALL).fit(raw)


@pytest.fixture(scope="module")
def h5ad(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    lt.write(tissue(120, seed=1), path)
    return path


# ── the schema ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_counts_are_known_for_what_they_are(raw):
    assert infer(raw) == "counts"
    assert Counts.recipe == "counts"
    assert not Counts.accepts(np.zeros((3, 3)))


@pytest.mark.parametrize("form", ["frame", "csr", "csc", "array", "polars"])
def test_every_form_of_counts_is_learned_alike(raw, form):
    frame = raw.to_pandas().reset_index(drop=True)
    import polars

    data = {
        "frame": frame,
        "csr": raw.counts,
        "csc": raw.counts.tocsc(),
        "array": raw.counts.toarray(),
        "polars": polars.from_pandas(frame),
    }[form]
    kind = Counts().learn(data)
    other = Counts().learn(raw)
    assert kind.shares == other.shares
    assert torch.equal(sparse.dense(kind.to_batch(data).x), sparse.dense(other.to_batch(raw).x))


def test_the_rules_of_selection_are_their_formulas(raw):
    x = raw.counts.toarray().astype(float)
    moments = Moments(GENES)
    for part in np.array_split(np.arange(len(x)), 3):  # block by block
        moments.add(sp.csr_matrix(x[part]))
    n, share = x.sum(1, keepdims=True), x.sum(0) / x.sum()
    scaled = x / n * 1e4
    with np.errstate(divide="ignore", invalid="ignore"):
        here = np.nan_to_num(x * np.log(x / (n * share)))
        rest = (n - x) * np.log((n - x) / (n * (1 - share)))
    assert np.allclose(moments.scores("deviance"), 2 * (here + rest).sum(0), rtol=1e-6)
    assert np.allclose(moments.scores("variance"), np.log1p(scaled).var(0), rtol=1e-6)
    level, dispersion = np.log1p(scaled.mean(0)), np.log(scaled.var(0) / scaled.mean(0))
    bins = np.digitize(level, np.linspace(level.min(), level.max(), 21)[1:-1])
    for j in range(GENES):
        alike = dispersion[bins == bins[j]]
        spread = alike.std() if len(alike) > 1 else 0.0
        wanted = (dispersion[j] - alike.mean()) / (spread or 1.0)
        assert moments.scores("dispersion")[j] == pytest.approx(wanted, abs=1e-6)


def test_genes_that_tell_types_apart_are_chosen_and_silent_ones_never(raw):
    x = raw.counts.tolil()
    x[:, 3] = 0
    kind = Counts(most=44).learn(replace(raw, counts=x.tocsr()))
    assert set(kind.names) == {f"gene {i}" for i in range(45) if i != 3}
    assert len(Counts(most=0).learn(replace(raw, counts=x.tocsr())).names) == GENES - 1


def test_columns_are_matched_by_name_in_any_order_and_new_ones_left_out(model, raw):
    order = np.random.default_rng(1).permutation(GENES)
    mixed = Counted(raw.counts[:, order], tuple(raw.names[i] for i in order), raw.about)
    more = Counted(
        sp.hstack([mixed.counts, sp.csr_matrix(np.full((len(raw), 1), 9))]).tocsr(), (*mixed.names, "new"), raw.about
    )
    codes = model.transform(raw)
    assert np.allclose(model.transform(mixed), codes, atol=1e-5)
    assert np.allclose(model.transform(more), codes, atol=1e-5)
    with pytest.raises(DataError, match="none of the model's 60 columns is there: it knows 'gene 0'"):
        model.transform(Counted(raw.counts, tuple(f"other {i}" for i in range(GENES)), raw.about))


def test_missing_genes_are_said_left_out_of_the_score_and_filled(model, raw):
    kept = [i for i in range(GENES) if i not in (2, 20, 50)]
    less = Counted(raw.counts[:, kept], tuple(raw.names[i] for i in kept), raw.about)
    with pytest.warns(DataWarning, match="3 of the model's 60 columns are missing, and not guessed: gene 2, gene 20"):
        codes = model.transform(less)
    whole = model.transform(raw)
    # Three genes of sixty: the codes are nearly those of the whole cells.
    assert np.corrcoef(codes.ravel(), whole.ravel())[0, 1] > 0.97
    with pytest.warns(DataWarning, match="3 of the model's"):
        filled = lt.impute(model, less)
    assert filled.names == model.schema_.names
    assert list(filled.about.index) == list(raw.about.index)
    new, old = filled.counts.toarray(), raw.counts.toarray()
    assert np.array_equal(new[:, kept], old[:, kept])
    t = raw.about["type"].cat.codes.to_numpy()
    # Gene 20 is the second type's: its counts are guessed there, and hardly any elsewhere.
    assert new[t == 1, 20].mean() == pytest.approx(old[t == 1, 20].mean(), rel=0.25)
    assert new[t != 1, 20].mean() < 0.2 * new[t == 1, 20].mean()


@pytest.mark.parametrize(
    ("value", "words"),
    [(1.5, r"row 1, gene 2: 1\.5 is no count .*X looks normalised"), (-2.0, "-2 is no count .*X looks scaled")],
)
def test_what_is_no_count_is_named_with_its_layer(raw, value, words):
    x = raw.counts[:5].astype(float).tolil()
    x[1] = 0
    x[1, 2] = value
    with pytest.raises(DataError, match=words):
        Counts().learn(replace(raw[:5], counts=x.tocsr(), part="X"))


def test_empty_cells_are_counted_and_too_little_is_refused(raw):
    x = raw.counts.tolil()
    x[7] = 0
    emptied = replace(raw, counts=x.tocsr())
    with pytest.warns(DataWarning, match="1 row.* have no counts at all"):
        kind = Counts().learn(emptied)
    assert len(kind.to_batch(emptied)) == len(raw)
    with pytest.raises(DataError, match="nothing to learn"):
        Counts().learn(np.zeros((5, 3), int))


# ── the model ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_codes_keep_the_types_apart_and_say_nothing_of_depth(model, raw):
    z = model.transform(raw)
    t = raw.about["type"].cat.codes.to_numpy()
    found = grouped(z, TYPES, 0)
    table = np.zeros((TYPES, TYPES))
    np.add.at(table, (t, found), 1)
    assert table.max(1).sum() > 0.97 * len(raw)
    n = (
        np.log(raw.counts.sum(1)).A1
        if hasattr(raw.counts.sum(1), "A1")
        else np.log(np.asarray(raw.counts.sum(1)).ravel())
    )
    for k in range(TYPES):
        inside = z[t == k] - z[t == k].mean(0)
        depth = n[t == k] - n[t == k].mean()
        fit, *_ = np.linalg.lstsq(inside, depth, rcond=None)
        # Of what is not known of log n within a type the codes say little: by chance 5 of some 130 rows' numbers.
        assert ((inside @ fit) ** 2).sum() < 0.5 * (depth**2).sum()


@pytest.mark.parametrize(
    "likelihood", ["negative-binomial", "zero-inflated", "multinomial", "log-gaussian", "log-gaussian-isotropic"]
)
def test_every_likelihood_learns_samples_and_is_kept(raw, likelihood, tmp_path):
    settings = {**SMALL, "kind.likelihood": likelihood, "train.unplanned": [2, 20]}
    ae = lt.Autoencoder(kind="counts", random_state=0, settings=settings).fit(raw)
    ae.save(tmp_path / "m.safetensors")
    again = lt.load(tmp_path / "m.safetensors")
    assert np.array_equal(again.score_samples(raw, 4), ae.score_samples(raw, 4))
    new, same = ae.sample(30), again.sample(30)
    assert (new.counts != same.counts).nnz == 0
    assert (new.counts.data == np.rint(new.counts.data)).all()
    assert np.isfinite(lt.evaluate(ae, raw, samples=4, quiet=True)["iw_nll"])


def test_the_negative_binomial_is_the_better_model_of_overdispersed_counts(raw):
    nats = {}
    for name in ("negative-binomial", "multinomial"):
        settings = {**SMALL, "kind.likelihood": name}
        ae = lt.Autoencoder(kind="counts", random_state=0, settings=settings).fit(raw)
        nats[name] = lt.evaluate(ae, tissue(200, seed=5), samples=20, quiet=True)["iw_nll"]
    assert nats["negative-binomial"] < nats["multinomial"] - 10


def test_new_cells_have_the_means_the_spread_and_the_sums_of_the_old(model, raw):
    x, new = raw.counts.toarray(), model.sample(4000).counts.toarray()
    ratio = new.mean(0) / x.mean(0)
    # 400 cells of three types in chance numbers: means are known to about a tenth.
    assert np.abs(np.log(ratio)).mean() < 0.15
    assert np.abs(np.log(new.var(0) / x.var(0))).mean() < 0.35
    quantiles = [0.05, 0.5, 0.95]
    assert np.log(np.quantile(new.sum(1), quantiles)) == pytest.approx(
        np.log(np.quantile(x.sum(1), quantiles)), abs=0.2
    )
    assert np.abs((new == 0).mean(0) - (x == 0).mean(0)).max() < 0.15


def test_denoised_cells_are_expected_counts_of_one_size(model, raw):
    found = lt.denoise(model, raw)
    assert found.names == model.schema_.names
    sums = np.asarray(found.counts.sum(1)).ravel()
    assert sums == pytest.approx(np.full(len(raw), model.schema_.usual), rel=1e-4)
    assert list(found.about["type"]) == list(raw.about["type"])


def test_genes_that_differ_are_found_with_the_right_sign(model, raw):
    found = lt.differential(model, raw, by="type", group="t1", against="t2", seed=1)
    up, down = found[found.p_higher > 0.9].name, found[found.p_lower > 0.9].name
    assert len(up) >= 12
    assert set(up) <= {f"gene {i}" for i in range(15, 30)}
    assert len(down) >= 12
    assert set(down) <= {f"gene {i}" for i in range(30, 45)}
    true = np.log2(20)  # 4 against .2
    assert found.log2_fold[found.name.isin(up)].mean() == pytest.approx(true, abs=0.8)
    plain = found.set_index("name")
    x = raw.counts.toarray() / raw.counts.toarray().sum(1, keepdims=True)
    t = raw.about["type"].to_numpy()
    wanted = np.log2(x[t == "t1"].mean(0) / x[t == "t2"].mean(0))
    assert plain.raw_log2_fold[list(raw.names)].to_numpy() == pytest.approx(wanted, abs=1e-3)
    assert lt.differential(model, raw, by="type", group="t1", samples=50).shape == (GENES, 9)


def test_groups_that_are_not_there_are_refused_with_those_that_are(model, raw):
    with pytest.raises(ConfigError, match=r"no column 'kind' beside the counts\n\nhint: columns: type, batch"):
        lt.differential(model, raw, by="kind", group="t1")
    with pytest.raises(ConfigError, match=r"no group 't9'.*\n\nhint: known: t0, t1, t2"):
        lt.differential(model, raw, by="type", group="t9")
    with pytest.raises(ConfigError, match="change must be above 0"):
        lt.differential(model, raw, by="type", group="t1", change=0)


def test_cells_of_a_given_type_are_of_that_type(raw):
    ae = lt.Autoencoder(kind="counts", condition="type", random_state=0, settings=SMALL).fit(raw)
    new = ae.sample(200, given={"type": "t2"})
    assert set(new.about["type"]) == {"t2"}
    own = new.counts.toarray()[:, 30:45].sum() / new.counts.sum()
    assert own > 0.6  # 60 of 81 parts
    codes = ae.encode(raw)[0]
    moved = ae.decode(codes, given={"type": "t0"})
    assert set(moved.about["type"]) == {"t0"}
    assert moved.shape == (400, GENES)


def test_documents_are_bags_of_words():
    rng = np.random.default_rng(0)
    themes = (["goal", "match", "team", "league"], ["soup", "salt", "oven", "recipe"])
    texts = [" ".join(rng.choice(themes[i % 2], 12)) + " the and" for i in range(120)]
    ae = lt.Autoencoder(kind="counts", random_state=0, settings={**SMALL, "latent.dim": 2}).fit(texts)
    assert ae.schema_.texts
    assert "goal" in ae.schema_.names
    z = ae.transform(texts)
    assert len(np.unique(grouped(z, 2, 0)[::2])) == 1
    # A word that is not there was not said: nothing is missing.
    assert ae.schema_.to_batch(["goal team", "unheard of"]).observed is None


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_codes_neighbours_and_clusters_go_back_into_the_cells_file(model, h5ad, tmp_path):
    import h5py

    path = tmp_path / "m.safetensors"
    model.save(path)
    done = latente("encode", path, h5ad, "-o", "out.h5ad", "--clusters", "3", "--deviations", cwd=tmp_path)
    assert done.code == 0, done.err
    with h5py.File(tmp_path / "out.h5ad") as file:
        assert np.allclose(file["obsm/X_latente"][:], model.transform(str(h5ad)), atol=1e-5)
        assert file["obsm/X_latente_deviation"].shape == (120, 5)
        keys = file["uns/latente"]
        near, far = keys["connectivities_key"][()].decode(), keys["distances_key"][()].decode()
        for key in (near, far):
            assert file["obsp"][key].attrs["encoding-type"] == "csr_matrix"
        graph = sp.csr_matrix(tuple(file["obsp"][near][n][:] for n in ("data", "indices", "indptr")), (120, 120))
        assert abs(graph - graph.T).max() < 1e-6
        assert len(file["obs/latente_cluster/categories"]) == 3
    again = read(tmp_path / "out.h5ad", "counts")
    assert (again.counts != tissue(120, seed=1).counts).nnz == 0
    assert again.about["latente_cluster"].nunique() == 3


def test_denoised_and_new_cells_are_written_as_cells(model, h5ad, tmp_path):
    path = tmp_path / "m.safetensors"
    model.save(path)
    assert latente("denoise", path, h5ad, "-o", "clean.h5ad", cwd=tmp_path).code == 0
    clean = read(tmp_path / "clean.h5ad", "counts", layer="X")
    assert clean.shape == (120, GENES)
    assert list(clean.about.index)[:2] == ["cell 0", "cell 1"]
    assert latente("sample", path, "-n", "7", "-o", "new.h5ad", cwd=tmp_path).code == 0
    assert read(tmp_path / "new.h5ad", "counts").shape == (7, GENES)
    shown = latente("sample", path, "-n", "2", cwd=tmp_path)
    assert shown.code == 0
    assert shown.out.splitlines()[0].startswith("gene 0,gene 1")
    assert ".0" not in shown.out.splitlines()[1]


def test_codes_are_not_put_into_a_file_of_another_kind(model, h5ad, tmp_path):
    path = tmp_path / "m.safetensors"
    model.save(path)
    lt.write(tissue(20), tmp_path / "cells.npz")
    done = latente("encode", path, tmp_path / "cells.npz", "-o", "out.h5ad", cwd=tmp_path)
    assert done.code != 0
    assert "Traceback" not in done.err
    assert not (tmp_path / "out.h5ad").exists()


def test_the_command_line_fits_evaluates_and_tells_groups_apart(tmp_path, raw):
    lt.write(raw, tmp_path / "cells.h5ad")
    small = [f"--set={k}={json.dumps(v)}" for k, v in SMALL.items()]
    fitted = latente("fit", "cells.h5ad", "-o", "run", "--label-col", "type", *small, cwd=tmp_path)
    assert fitted.code == 0, fitted.err
    codes = pd.read_parquet(tmp_path / "run" / "latent.parquet")
    assert "type" in codes or "label" in codes
    figures = json.loads(latente("evaluate", "run", "cells.h5ad", "--samples", "4", "--json", cwd=tmp_path).out)
    assert {"error", "error_pca", "iw_nll"} <= figures.keys()
    table = latente("differential", "run", "cells.h5ad", "--by", "type", "--group", "t1", cwd=tmp_path)
    assert table.code == 0, table.err
    assert table.out.splitlines()[0].startswith("name,log2_fold,p_higher")
    odd = latente("differential", "run", "cells.h5ad", "--by", "nothing", "--group", "t1", cwd=tmp_path)
    assert odd.code == 2


def test_cells_are_learned_block_by_block_as_well(tmp_path, raw, model):
    lt.write(raw, tmp_path / "cells.h5ad")
    small = [f"--set={k}={json.dumps(v)}" for k, v in SMALL.items()]
    done = latente("fit", "cells.h5ad", "-o", "m.safetensors", "--stream", "yes", *small, cwd=tmp_path)
    assert done.code == 0, done.err
    streamed = lt.load(tmp_path / "m.safetensors")
    assert streamed.schema_.shares == pytest.approx(model.schema_.shares)
    assert streamed.transform(raw).shape == (400, 5)


def test_clusters_of_blocks_are_refused():
    with pytest.raises(ConfigError, match="these come in blocks"):
        grouped(np.zeros((9, 2)), 2, 0, part=True)
    with pytest.raises(ConfigError, match="clusters must be from 2"):
        grouped(np.zeros((9, 2)), 99, 0)


def test_the_graph_of_neighbours_is_that_of_brute_force():
    z = np.random.default_rng(0).normal(size=(60, 3))
    distances, near = cells.neighbours(z)
    whole = np.linalg.norm(z[:, None] - z[None], axis=2)
    np.fill_diagonal(whole, np.inf)
    for i in range(60):
        assert set(distances[i].indices) == set(np.argsort(whole[i])[:15])
    assert near.max() <= 1
    assert (near.diagonal() == 0).all()


def test_what_is_asked_of_counts_is_refused_of_a_table(people):
    ae = lt.Autoencoder("vae", dim=2, steps=2, random_state=0).fit(people)
    with pytest.raises(ConfigError, match="asked of counts, and the model is of kind 'table'"):
        lt.differential(ae, people, by="plan", group="gold")


def test_the_real_bladder_cells_are_told_apart():
    from pathlib import Path

    from sklearn.neighbors import KNeighborsClassifier

    place = Path(__file__).parents[2] / "shared/data/counts/mouse_bladder_2100.h5"
    if not place.exists():
        pytest.skip("the cells of mouse bladder are not beside the project")
    found = read(place, "counts")
    settings = {"train.unplanned": [6, 60], "kind.most": 500}
    ae = lt.Autoencoder(kind="counts", random_state=0, settings=settings).fit(found)
    z, y = ae.transform(found), found.about["Y"].to_numpy()
    accuracy = KNeighborsClassifier(15).fit(z[::2], y[::2]).score(z[1::2], y[1::2])
    assert accuracy > 0.75  # the commonest type is 26 % of them


# ── what trials found ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_count_that_is_given_in_pieces_is_their_sum_and_the_callers_stays(model):
    x = np.zeros((2, GENES))
    x[0, [1, 3]], x[1, 0] = [2, 1], 3
    pieces = sp.csr_matrix((np.array([200, 200, 1, 3, 0], np.uint8), [1, 1, 3, 0, 5], [0, 3, 5]), shape=(2, GENES))
    whole = sp.csr_matrix(np.where(x == 2, 400, x).astype(int))
    a, b = (model.score_samples(Counted(m, model.schema_.names)) for m in (pieces, whole))
    assert np.array_equal(a, b)
    assert pieces.nnz == 5
    halves = sp.csr_matrix((np.full(4, 0.5), [1, 1, 3, 3], [0, 4]), shape=(1, GENES))
    assert Counts().learn(sp.vstack([halves, whole.astype(float)]).tocsr()).names == ("c0", "c1", "c3")


def test_read_only_counts_are_read(raw):
    x = raw.counts.copy()
    x.data[:3] = 0
    for array in (x.data, x.indices, x.indptr):
        array.setflags(write=False)
    assert len(Counts().learn(Counted(x, raw.names)).names) == GENES


@pytest.mark.parametrize("data", [np.array([["a", "b"]]), np.array([[1, None]], object)], ids=["words", "objects"])
def test_a_matrix_of_words_is_refused(data):
    with pytest.raises(DataError, match="counts are a matrix of numbers"):
        Counts().learn(data)


def test_half_precision_counts_are_counts():
    x = np.random.default_rng(0).integers(0, 4, (9, 5))
    assert Counts().learn(x.astype(np.float16)).shares == Counts().learn(x).shares


def test_no_columns_no_words_and_no_text_are_told_apart(model):
    with pytest.raises(DataError, match="these counts have no columns"):
        model.transform(sp.csr_matrix((3, 0)))
    with pytest.raises(DataError, match="item 1 is 5, and no text"):
        Counts().learn(["cat", 5])
    texts = lt.Autoencoder(kind="counts", random_state=0, settings={**SMALL, "train.unplanned": [1, 2]})
    texts.fit(["cat dog bird", "dog fish", "cat cat fish bird", "bird"] * 5)
    assert np.isfinite(texts.transform(["! ?", "1"])).all()


def test_large_sums_lose_no_nats():
    from latente.model.dists.counts import coefficient

    n, x = 20_000_000.0, torch.tensor([12_000_000.0, 8_000_000.0])
    found = coefficient(torch.tensor([0, 0]), x, torch.tensor([n]))
    from scipy.special import gammaln

    assert found.item() == pytest.approx(gammaln(n + 1) - gammaln(x.numpy().astype(float) + 1).sum(), abs=1e-3)


def test_genes_that_were_not_looked_at_say_nothing_and_unlabelled_cells_are_in_no_group(model, raw):
    about = raw.about.assign(type=raw.about["type"].astype(object))
    about.iloc[:10, 0] = np.nan
    less = Counted(raw.counts[:, 5:], raw.names[5:], about)
    with pytest.warns(DataWarning, match="10 rows have no 'type'|5 of the model's"):
        found = lt.differential(model, less, by="type", group="t1", samples=50).set_index("name")
    assert found.loc["gene 0", ["seen", "raw_log2_fold"]].isna().all()
    assert found.loc["gene 9", ["seen", "raw_log2_fold"]].notna().all()
    with pytest.raises(ConfigError, match="samples must be a whole number"):
        lt.differential(model, raw, by="type", group="t1", samples=50.5)


def test_counts_go_through_detect_and_fidelity_or_are_refused(model, raw, tmp_path):
    found = lt.evaluate(model, raw, samples=2, fidelity=True, quiet=True)["fidelity"]
    assert np.isfinite([v for v in found.values() if isinstance(v, float)]).all()
    assert len(lt.detect(model, raw[:50], normal=raw[50:300], every=True)) == 50
    with pytest.raises(ConfigError, match="sparse on their way"):
        lt.export(model, output=tmp_path / "x.onnx")


def test_more_cells_than_go_through_at_once_are_evaluated(model):
    many = tissue(1100, seed=9)
    found = lt.evaluate(model, many, samples=1, ais=2, ais_steps=4, quiet=True)
    assert found["rows"] == 1100
    assert np.isfinite(found["check"]["ais_nll"])


def test_a_schema_that_names_a_gene_twice_is_refused():
    with pytest.raises(ConfigError, match="names"):
        Counts(names=("a", "a"), shares=(0.5, 0.5))


def test_a_mask_leaves_numbers_in_the_gradient():
    from latente.model.dists.multinomial import Multinomial

    x = torch.tensor([[3.0, 0.0, 2.0]])
    params = torch.zeros(1, 1, 4).requires_grad_()
    px = Multinomial().build((3,))(params)
    px.seen(x, torch.tensor([[True, True, False]])).sum().backward()
    assert torch.isfinite(params.grad).all()


def test_a_decoder_that_holds_still_gets_no_gradient_where_gradients_are_kept(raw):
    """Of `turns` steps of an aggressive run the decoder's weights have a gradient in the last alone."""
    from latente.model.spec import recipe
    from latente.training.feed import Portion
    from latente.training.gradients import Gradients
    from latente.training.optimiser import Optimiser

    settings = {**SMALL, "objective.aggressive": 1.0, "objective.turns": 3, "train.unplanned": [1, 2]}
    ae = lt.Autoencoder(kind="counts", random_state=0, settings=settings).fit(raw)
    model, data = ae._build(0).train(), ae.schema_.to_batch(raw)
    generator = model.generator = torch.Generator().manual_seed(0)
    Optimiser(model, recipe("counts").train)
    gradients = Gradients(model, ae.spec_.objective, ae.schema_, ae.spec_.train)
    norms = []
    for step in range(3):
        model.progress = 0.1 + step / 100
        gradients(Portion(data.rows(slice(0, 50)), torch.arange(50), 50), generator)
        norms.append(float(model.decoder.weight.grad.norm()))
    assert [n > 0 for n in norms] == [False, False, True]


def test_the_mixture_that_holds_rows_is_a_density_and_that_of_its_draws(raw):
    ae = lt.Autoencoder(kind="counts", prior="composite", random_state=0, settings={**SMALL, "latent.dim": 1})
    model = ae.fit(raw)._build(0).train()
    batch = ae.schema_.prepare(ae.schema_.to_batch(raw[:1]))
    model.prior_module.start(model, batch)
    prior = model.prior().around(model, batch)
    with torch.no_grad():
        grid = torch.linspace(-1500, 1500, 600_001)[:, None, None]  # ten deviations of the wide component
        p = prior.log_prob(grid).exp()[:, 0] * 3000 / 600_000
        draws = prior.sample(20_000, torch.Generator().manual_seed(0))[:, 0]
    assert p.sum().item() == pytest.approx(1.0, abs=1e-3)
    for edge in (-1.0, 0.0, 1.0, 100.0):
        below = p[grid[:, 0, 0] < edge].sum().item()
        assert (draws < edge).float().mean().item() == pytest.approx(below, abs=0.011)  # three standard errors
