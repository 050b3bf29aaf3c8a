"""Maps: groups, what sets them apart, trends, outliers; pictures, pages and tables of them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import latente as lt
from latente import cli
from latente.kinds.pictures import from_array
from latente.uses import maps, maps_findings, maps_html
from latente.uses.maps_fields import COLOURED, field_of, fields_of
from latente.uses.maps_png import picture
from latente.uses.rows import Loaded

HOSTILE = "</script><img src=x onerror=alert(1)> & {{data}} \u2028 $\\frac{ _x"


@pytest.fixture(scope="module")
def blobs():
    """Three groups of 100 rows in four numbers, each with a level of its own, and one row far from all."""
    rng = np.random.default_rng(0)
    at = np.repeat([0, 1, 2], 100)
    centres = np.array([[0, 0, 0, 0], [12, 0, 0, 0], [0, 12, 0, 0]], float)
    frame = pd.DataFrame(centres[at] + rng.normal(size=(300, 4)), columns=["a", "b", "c", "d"])
    frame["plan"] = np.array(["free", "gold", "team"])[at]
    frame.loc[7, "d"] = 40.0
    return frame, at


@pytest.fixture(scope="module")
def mapped(blobs):
    frame, at = blobs
    return lt.map(frame.assign(group=at), by="pca", label_col="group", quiet=True)


def script_and_data(page):
    """The program of a page, and its data."""
    text = page.decode("utf-8")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1)
    return re.search(r"<script>\n(.*)</script>", text, re.S).group(1), json.loads(data)


# What is found


def test_groups_are_those_in_the_data_and_are_named_by_what_sets_them_apart(mapped, blobs):
    _, at = blobs
    assert len(mapped.clusters) == 3
    for cluster in mapped.clusters:
        inside = at[mapped.cluster == cluster.number]
        assert (inside == inside[0]).mean() > 0.95
        words = " ".join(cluster.words)
        assert re.search(rf"plan={['free', 'gold', 'team'][inside[0]]} (100|99) % \(all: 33 %\)", words), words
        assert cluster.name in mapped.names[cluster.number]
    sizes = [c.size for c in mapped.clusters]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) + (mapped.cluster < 0).sum() == 300


def test_a_number_is_said_with_its_spread_and_that_of_all_rows():
    age = np.r_[np.full(50, 60.0) + np.tile([-5, 5], 25), np.full(50, 20.0) + np.tile([-5, 5], 25)]
    inside = np.arange(100) < 50
    ((strength, short, words),) = maps_findings._facts(field_of("age", age), inside)
    assert short == "age ↑ 60"
    assert words == "age 60 ± 5 (all: 40 ± 20.6)"
    assert strength == pytest.approx(20 / age.std())
    assert maps_findings._facts(field_of("age", np.ones(100)), inside) == []


def test_words_that_a_group_of_texts_has_more_often_are_said():
    texts = ["a dog runs"] * 30 + ["the cat sleeps"] * 30
    points = np.r_[np.zeros((30, 2)), np.ones((30, 2))]
    first, _ = maps_findings.described(np.repeat([0, 1], 30), points, [], texts)
    assert "“dog” in 100 % (all: 50 %)" in first.words


def test_of_many_rows_groups_are_found_among_some_and_the_rest_joins_the_nearest(blobs, monkeypatch):
    frame, at = blobs
    monkeypatch.setattr(maps_findings, "ROWS", 150)
    points = frame[["a", "b"]].to_numpy()
    found, among = maps_findings.grouped(points, points, 0)
    assert among == "map"
    inside = found >= 0
    assert inside.mean() > 0.8
    for number in range(found.max() + 1):
        assert len(set(at[found == number])) == 1


def test_few_rows_are_in_no_group():
    points = np.random.default_rng(0).normal(size=(12, 2))
    assert (maps_findings.grouped(points, points, 0)[0] == -1).all()


def test_columns_that_vary_along_an_axis_are_said_and_others_are_not():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(500, 2))
    frame = pd.DataFrame(
        {
            "east": np.exp(points[:, 0]),
            "south": -(points[:, 1] ** 3),
            "side": np.where(points[:, 0] < -0.5, "left", np.where(points[:, 0] > 0.5, "right", "middle")),
            "noise": rng.normal(size=500),
            "name": [f"row {i}" for i in range(500)],
            "many": rng.integers(0, 200, 500).astype(str),
        }
    )
    x, y, *_ = maps_findings.trends(points, fields_of(frame), 0)
    assert [c for c, _, _ in x.columns] == ["east", "side"]
    assert x.columns[0][2] == "east ρ +1.00"
    assert "(left … right)" in x.columns[1][2]
    assert [(c, w) for c, _, w in y.columns] == [("south", "south ρ −1.00")]


def test_the_steepest_direction_is_that_of_the_column_that_varies_most():
    points = np.random.default_rng(0).normal(size=(800, 2)) * [3.0, 1.0]
    slope = np.array([0.6, 0.8])
    for column in (points @ slope, np.where(points @ slope > 0, "up", "down")):
        found = maps_findings.trends(points, fields_of(pd.DataFrame({"c": column})), 0)[-1]
        assert found.axis == "steepest"
        # Ranks are not quite linear, and two levels tell less: five degrees.
        assert abs(np.dot(found.direction, slope)) > np.cos(np.radians(5))


def test_the_row_far_from_all_is_the_first_outlier_and_one_in_a_hundred_are(mapped):
    assert mapped.outlier.sum() == 3
    listed = mapped.outliers()
    assert listed["row"].iloc[0] == 7
    assert listed["d"].iloc[0] == "40"
    assert (np.diff(listed["anomaly"]) <= 0).all()


def test_figures_are_json_and_say_how_far_the_map_can_be_trusted(mapped):
    figures = json.loads(json.dumps(mapped.figures, allow_nan=False))
    assert 0.5 < figures["trustworthiness"] <= 1
    # Of three groups PCA tells two apart: its second component is a column of noise, which is as wide.
    assert 0.5 < figures["neighbours_of_one_label"] < 0.95
    assert figures["neighbours_of_one_label_by_chance"] == pytest.approx(1 / 3, abs=0.01)
    assert figures["outliers"][0]["cells"]["d"] == "40"
    assert {"rows", "clusters", "trends", "outliers", "in_no_cluster"} <= set(figures)
    assert "clusters: 3" in str(mapped)


def test_the_same_data_and_seed_give_the_same_map_picture_and_page(blobs):
    one, two = (lt.map(blobs[0], by="pca", seed=3, quiet=True) for _ in range(2))
    assert one.table().equals(two.table())
    assert picture(one) == picture(two)
    assert picture(one, "svg") != b""
    assert maps_html.page(one) == maps_html.page(two)


# Models


def test_a_latent_of_two_dimensions_is_a_map_and_its_model_puts_new_rows_on_it(blobs, tmp_path):
    frame, _ = blobs
    found = lt.map(frame, by="latent", time_limit="3s", quiet=True)
    assert found.fitted
    assert found.points.shape == (300, 2)
    found.save(tmp_path / "m")
    assert {p.name for p in (tmp_path / "m").iterdir()} == {
        "map.png", "map.html", "map.parquet", "report.json", "model.safetensors",
    }  # fmt: skip
    again = lt.map(frame[:50], by="latent", model=tmp_path / "m" / "model.safetensors", quiet=True)
    assert not again.fitted
    assert np.allclose(again.points, found.points[:50], atol=1e-5)
    with pytest.raises(lt.ConfigError, match=r"2 dimensions, and the map was to have 3.*\n\nhint: --dim 2"):
        lt.map(frame, by="latent", dim=3, model=found.model, quiet=True)


def test_the_alarms_of_a_models_detector_are_the_outliers(blobs):
    frame, _ = blobs
    model = lt.Autoencoder("novelty", steps=100, random_state=0).fit(frame[["a", "b", "c", "d"]])
    found = lt.map(frame[["a", "b", "c", "d"]], by="pca", model=model, quiet=True)
    assert found.measure == "score of the model's detector"
    assert found.outlier[7]
    assert np.array_equal(found.outlier, lt.detect(model, frame[["a", "b", "c", "d"]], every=True)["alarm"])


def test_a_neighbour_map_is_learned_beside_a_model_and_kept_with_one(blobs):
    pytest.importorskip("latente.uses.learned.map")
    frame, at = blobs
    found = lt.map(frame, time_limit="8s", quiet=True)
    assert found.points.shape == (300, 2)
    again = lt.map(frame[:40], model=found.model, quiet=True)
    assert np.allclose(again.points, found.points[:40], atol=1e-4)
    with pytest.raises(lt.ConfigError, match=r"map has 2 dimensions, not 3"):
        lt.map(frame, model=found.model, dim=3, quiet=True)
    beside = lt.map(frame, model=lt.Autoencoder("vae", dim=3, steps=100, random_state=0).fit(frame), quiet=True)
    assert beside.points.shape == (300, 2)
    assert np.isfinite(beside.points).all()
    assert set(at) == {0, 1, 2}


def test_pictures_of_another_size_are_brought_to_the_models(dots, tmp_path):
    model = lt.Autoencoder("ae", dim=2, steps=20, random_state=0).fit(dots)
    lt.write(np.repeat(np.repeat(dots[:20], 2, 1), 2, 2), tmp_path / "large")
    with pytest.warns(lt.DataWarning, match="scaled to 8 × 8"):
        found = lt.map(tmp_path / "large", by="latent", model=model, quiet=True)
    assert len(found) == 20
    assert found.name == "large"
    assert found.measure == "−log p(x|z) in nats"


@pytest.mark.parametrize("kind", ["text", "series", "counts", "image"])
def test_every_kind_has_a_map_with_columns_to_tell_its_groups_by(kind):
    rng = np.random.default_rng(0)
    data = {
        "text": [" ".join(rng.choice(["dog", "cat", "runs", "sleeps", "far"], 5)) for _ in range(80)],
        "series": np.sin(np.arange(600) / 9)[:, None] + 0.1 * rng.normal(size=(600, 2)),
        "counts": rng.poisson(2.0, (80, 12)),
        "image": rng.integers(0, 255, (80, 9, 7, 3), dtype=np.uint8),
    }[kind]
    found = lt.map(data, by="pca", kind=kind, quiet=True)
    assert found.kind == kind
    assert found.columns
    assert len(found) == len(found.table())
    assert picture(found)[:4] == b"\x89PNG"
    script_and_data(maps_html.page(found))


# Files


@pytest.mark.parametrize("name", ["m.png", "m.pdf", "m.svg", "m.html", "m.csv", "m.parquet", "m.json"])
@pytest.mark.parametrize("colour", ["auto", "cluster", "anomaly", "a", "plan"])
def test_a_map_is_written_by_the_ending_in_any_colour(mapped, name, colour, tmp_path):
    if colour not in ("auto", "a") and name not in ("m.png", "m.html"):
        return
    assert mapped.coloured(colour).save(tmp_path / name) == [tmp_path / name]
    assert (tmp_path / name).stat().st_size > 1000
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_the_table_has_a_line_a_row(mapped, tmp_path):
    mapped.save(tmp_path / "m.parquet")
    table = pd.read_parquet(tmp_path / "m.parquet")
    assert list(table.columns) == ["row", "x", "y", "cluster", "anomaly", "outlier", "label"]
    assert np.array_equal(table["cluster"], mapped.cluster)
    assert np.array_equal(table["label"], np.repeat([0, 1, 2], 100))


def test_three_dimensions_have_a_z_and_a_page_that_turns(blobs, tmp_path):
    found = lt.map(blobs[0], by="pca", dim=3, quiet=True)
    assert "z" in found.table()
    assert {t.axis for t in found.trends} >= {"x", "y", "z"}
    assert script_and_data(maps_html.page(found))[1]["dim"] == 3
    with Image.open(found.save(tmp_path / "m.png")[0]) as image:
        assert image.size == (1540, 1120)


def test_what_the_data_say_cannot_become_part_of_the_page_nor_a_formula_of_the_picture():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=[HOSTILE, "b"])
    frame["what"] = np.where(np.arange(60) % 2, HOSTILE, "_hidden")
    loaded = Loaded(frame, np.where(np.arange(60) % 2, HOSTILE, "$x"), HOSTILE)
    found = maps.landscape(loaded, by="pca")
    page = maps_html.page(found)
    text = page.decode("utf-8")
    assert text.count("</script") == 2
    assert "<img" not in text
    _, data = script_and_data(page)
    assert "\u2028" not in text[text.index('id="data"') :]
    seen = " ".join(HOSTILE.split())
    assert data["name"] == HOSTILE
    assert any(seen in f.get("levels", ()) for f in data["fields"])
    assert picture(found)[:4] == b"\x89PNG"
    template = Path(maps_html.TEMPLATE).read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?://", template)
    assert "default-src 'none'" in template


@pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript here")
def test_the_pages_program_is_javascript(mapped, tmp_path):
    script, _ = script_and_data(maps_html.page(mapped))
    (tmp_path / "page.js").write_text(script, encoding="utf-8")
    subprocess.run(["node", "--check", tmp_path / "page.js"], check=True, capture_output=True)


def test_pictures_have_labels_and_a_sheet_of_small_ones(dots):
    pictures = from_array(dots, name="dots", labels=np.arange(400) % 3)
    found = maps.landscape(Loaded(pictures, pictures.labels, "dots"), by="pca")
    assert found.coloured_by.name == "label"
    assert found.coloured_by.levels == ("0", "1", "2")
    sprite = script_and_data(maps_html.page(found))[1]["sprite"]
    assert sprite["rows"] == list(range(400))
    assert sprite["url"].startswith("data:image/png;base64,")


def test_a_page_of_too_many_rows_holds_some_with_all_outliers_and_says_so(mapped, monkeypatch):
    monkeypatch.setattr(maps_html, "ROWS", 100)
    monkeypatch.setattr(maps_html, "CELLS", 400)
    _, data = script_and_data(maps_html.page(mapped))
    assert 100 <= data["n"] < 110
    assert data["total"] == 300
    assert data["rows"] is not None
    assert data["left"]


def test_levels_beyond_the_colours_are_other_and_gaps_are_missing():
    levels = [f"v{i:02d}" for i in range(30)]
    column = [v for i, v in enumerate(levels) for _ in range(40 - i)] + [None] * 5
    field = field_of("many", column)
    codes, names = field.coloured()
    assert len(names) == COLOURED
    assert set(names) == set(levels[:COLOURED])
    assert (codes == -1).sum() == sum(40 - i for i in range(COLOURED, 30))
    assert (codes == -2).sum() == 5


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"by": "tsne"}, r"by 'map', 'latent' or 'pca', not 'tsne'"),
        ({"dim": 4}, r"2 or 3 dimensions, not 4"),
        ({"colour": "plam"}, r"nothing called 'plam'.*\n\nhint: did you mean 'plan'"),
        ({"colour": "label"}, r"no labels to colour by"),
        ({"label_col": "x"}, r"no column 'x'"),
        ({"kind": "interactions"}, r"."),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(blobs, options, problem):
    with pytest.raises(lt.LatenteError, match=problem) as refused:
        lt.map(blobs[0], **{"by": "pca", "quiet": True} | options)
    assert refused.value.hint


def test_the_command_line_writes_a_folder_of_its_own_and_says_what_was_found(blobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blobs[0].to_csv("plans.csv", index=False)
    done = CliRunner().invoke(cli.app, ["map", "plans.csv", "--by", "pca", "--label-col", "plan", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == 300
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("plans-map-")
    assert {p.name for p in folder.iterdir()} == {"map.png", "map.html", "map.parquet", "report.json"}
    again = CliRunner().invoke(cli.app, ["map", "plans.csv", "--by", "pca", "-o", str(folder)])
    assert again.exit_code == 2
    assert "is not empty" in again.stderr
    odd = CliRunner().invoke(cli.app, ["map", "plans.csv", "--by", "pca", "-o", "map.docx"])
    assert odd.exit_code == 2
    assert "hint: a folder" in odd.stderr
