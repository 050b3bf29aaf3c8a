"""Texts: files, tokens, and what a fitted model does with them."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import run as latente

import latente as lt
from latente.errors import ConfigError, DataError
from latente.kinds.base import DataWarning
from latente.kinds.reading import guess_kind, read
from latente.kinds.text import Text
from latente.kinds.texts import Texts, examples, sentences, unit_of
from latente.kinds.tokenizer import Vocabulary, learned, normal
from latente.uses.neighbours import copies

WHO, DO, WHERE = (
    ("a man", "two dogs", "the girl", "a niño", "an old woman"),
    ("runs", "sings", "sleeps", "plays a guitar", "jumps high"),
    ("in the park", "on a street", "by the water", "at home"),
)
CAPTIONS = [f"{a} {b} {c} ." for a, b, c in itertools.product(WHO, DO, WHERE)]
SPANISH = ["¿Qué año es éste? ¡Ninguno, señor!", "— Calla —dijo don Quijote—. Y ¿dónde has visto tú?", "pingüino"]
SMALL = {"nets.width": 32, "kind.width": 24, "train.ema": 0.9}


@pytest.fixture(scope="module")
def model():
    texts = CAPTIONS * 4
    return lt.Autoencoder(kind="text", steps=160, lr=8e-3, dim=8, random_state=0, settings=SMALL).fit(texts)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "captions.safetensors"
    model.save(path)
    return path


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lines_are_texts_and_empty_ones_are_none(tmp_path):
    (tmp_path / "a.txt").write_text("uno\n\n  dos \r\n\ntres", encoding="utf-8")
    found = read(tmp_path / "a.txt")
    assert list(found) == ["uno", "dos", "tres"]
    assert found.unit == "line"
    assert guess_kind(tmp_path / "a.txt") == "text"


def test_prose_is_read_by_sentences(tmp_path):
    first = (
        "En un lugar de la Mancha, de cuyo nombre no quiero\nacordarme, vivía un hidalgo. Tenía en su casa una\nama."
    )
    text = f"{first}\n\n— No fueron golpes —dijo Sancho—, sino que la\npeña tenía muchos picos. ¿Y qué?\n"
    (tmp_path / "q.txt").write_text(text, encoding="utf-8")
    notes = []
    found = read(tmp_path / "q.txt", note=notes.append)
    assert found.unit == "sentence"
    assert found[0].endswith("vivía un hidalgo.")
    assert found[1] == "Tenía en su casa una ama."
    assert found[-1] == "¿Y qué?"
    assert "each sentence is an example" in notes[0]
    assert len(read(tmp_path / "q.txt", unit="paragraph")) == 2
    assert len(read(tmp_path / "q.txt", unit="line")) == 5


def test_lines_of_verse_and_of_captions_are_no_prose():
    assert (
        unit_of(["To be, or not to be", "that is", "", "ROMEO:", "But soft, what light through yonder", "ay"]) == "line"
    )
    assert unit_of(CAPTIONS) == "line"
    assert examples(["a", "", "b"], "line") == ["a", "b"]


def test_a_sentence_ends_at_a_mark_before_a_capital_and_not_within():
    assert sentences("He said 3.5 m. of it. «Sí.» Then e.g. this one! ¡No! And") == [
        "He said 3.5 m. of it.", "«Sí.»", "Then e.g. this one!", "¡No!", "And",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("binary.txt", b"\x89PNG\r\n\x1a\n\x00\x00", "byte 0x00 at offset 8"),
        ("latin.txt", "año\nniño\nseñor\n".encode("latin-1"), "not UTF-8: line 1, byte 0xf1 at offset 1"),
        ("empty.txt", b"\n\n \n", "holds no text"),
        ("nothing.txt", b"", "is empty"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: this is no JSON"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name, "text")


def test_a_damaged_line_is_named_and_the_rest_is_used(tmp_path):
    lines = [f"line {i}".encode() for i in range(300)]
    lines[7] = b"caf\xe9"
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    notes = []
    assert len(read(tmp_path / "a.txt", "text", note=notes.append)) == 299
    assert any("line 8, byte 0xe9" in note for note in notes)


def test_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.txt").write_bytes("año\nmás".encode("utf-16"))
    (tmp_path / "b.txt").write_bytes("\ufeffaño\nmás".encode())
    assert list(read(tmp_path / "a.txt")) == list(read(tmp_path / "b.txt")) == ["año", "más"]


def test_texts_come_from_json_lines_and_columns(tmp_path):
    rows = [{"id": 1, "text": "one"}, {"id": 2}, {"id": 3, "text": "three"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    notes = []
    assert list(read(tmp_path / "a.jsonl", note=notes.append)) == ["one", "three"]
    assert "field 'text'" in notes[0]
    assert "line 2" in notes[1]
    pd.DataFrame({"n": [1, 2, 3], "story": ["a b", None, "?"], "b": ["x", "y", "z"]}).to_csv(tmp_path / "t.csv")
    assert list(read(tmp_path / "t.csv", "text", text_col="story")) == ["a b", "?"]
    with pytest.raises(ConfigError, match="which of its columns"):
        read(tmp_path / "t.csv", "text")
    with pytest.raises(ConfigError, match="no column 'stori'"):
        read(tmp_path / "t.csv", "text", text_col="stori")


def test_numbers_in_a_txt_file_may_be_a_table(tmp_path):
    (tmp_path / "a.txt").write_text("1 2 3\n4 5 6\n")
    with pytest.raises(DataError, match="may be a table or a text"):
        read(tmp_path / "a.txt")


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_texts_or_a_data_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "a.txt"
    path.write_bytes(data)
    try:
        found = read(path, "text")
    except DataError:
        return
    assert all(text.strip() for text in found)


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tokens", ["characters", "subwords"])
def test_texts_come_back_from_their_tokens(tokens):
    texts = SPANISH + CAPTIONS
    words = learned(texts, tokens, 120)
    assert len(words) <= 120
    assert [words.decode(row) for row in words.encode(texts)] == texts


def test_a_vocabulary_is_chosen_by_the_size_of_the_data():
    assert not learned(CAPTIONS, "auto", 0).merges
    assert learned(CAPTIONS * 120, "auto", 200).merges  # more than 200,000 characters


def test_what_is_written_in_two_ways_is_one_text():
    assert normal("an\u0303o") == "año"
    words = Vocabulary.characters(["año"])
    assert words.encode(["an\u0303o"]) == words.encode(["año"])


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_becomes_tokens_and_unknown_characters_are_seen_as_such(text):
    words = learned(SPANISH + CAPTIONS, "subwords", 150)
    known = {c for piece in words.pieces for c in piece} | {" "}
    again = words.decode(words.encode([text])[0])
    wanted = "".join(c if c in known else "\ufffd" for c in normal(text))
    assert again.replace("\ufffd", "") == wanted.replace("\ufffd", "").replace("▁", " ")


def test_unknown_characters_and_cuts_are_said():
    kind = Text(steps=12).learn(CAPTIONS)
    with pytest.warns(DataWarning, match=r"'☃' \(2\)"):
        kind.to_batch(["a ☃ ☃"])
    with pytest.warns(DataWarning, match="1 of 1 texts are longer than 12 tokens"):
        batch = kind.to_batch(["a man runs in the park"])
    assert batch.x.shape == (1, 12)
    assert batch.observed.all()


@pytest.mark.parametrize("raw", [[], ["a"], ["a", "a"], [1, "a"], "abc", None])
def test_what_cannot_be_learned_from_is_refused(raw):
    with pytest.raises(DataError):
        Text().learn(raw)


# ── a fitted model ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_of_texts_says_more_by_its_codes_than_a_model_without(model):
    figures = lt.evaluate(model, CAPTIONS, samples=20, quiet=True)
    # Of 100 captions each alike probable −log p is log 100 = 4.6 nats at the best.
    assert 4.6 < figures["iw_nll"] < 9
    assert figures["z_matters"] > 1
    assert figures["active_units"] == 8
    assert figures["mutual_information"] > 1.5
    assert figures["nll_per_token"] == pytest.approx(figures["iw_nll"] / figures["tokens_per_row"])
    assert figures["perplexity_without_code"] > 1
    assert 0 <= figures["free_running_accuracy"] <= 1
    assert 0 < figures["distinct_2"] <= 1
    assert "z matters" in " ".join(model.card_["findings"])


def test_new_texts_are_made_of_the_words_of_the_data(model):
    known = {w for text in CAPTIONS for w in text.split()}
    new = model.sample(200, random_state=0)
    assert isinstance(new, list)
    assert np.mean([w in known for text in new for w in text.split()]) > 0.85
    assert new == model.sample(200, random_state=0)
    cold = model.sample(200, random_state=0, temperature=0.3)
    assert np.mean([text in CAPTIONS for text in cold]) >= np.mean([text in CAPTIONS for text in new])


def test_like_data_puts_no_character_where_the_data_never_do(model):
    pairs = {p for text in CAPTIONS for p in itertools.pairwise(f"^{text}$")}
    new = model.sample(300, random_state=1, like_data=True, temperature=3.0)
    longest = model.schema_.steps
    for text in new:
        whole = f"^{text}$" if len(text) < longest else f"^{text}"
        assert all(p in pairs for p in itertools.pairwise(whole))
    loose = model.sample(300, random_state=1, temperature=3.0)
    assert not all(p in pairs for text in loose for p in itertools.pairwise(f"^{text}"))


def test_a_file_gives_the_same_model_back(model, saved):
    again = lt.load(saved)
    assert np.array_equal(again.transform(CAPTIONS), model.transform(CAPTIONS))
    assert again.sample(20, random_state=3) == model.sample(20, random_state=3)
    assert np.array_equal(again.score_samples(CAPTIONS[:5]), model.score_samples(CAPTIONS[:5]))
    batch = next(again.batches(CAPTIONS[:5]))
    assert torch.equal(again.use_.log_p(batch), model.use_.log_p(batch))
    assert again.schema_ == model.schema_


def test_the_same_seed_is_the_same_model():
    fits = [lt.Autoencoder(kind="text", steps=8, dim=4, random_state=1, settings=SMALL).fit(CAPTIONS) for _ in range(2)]
    assert np.array_equal(*(ae.transform(CAPTIONS) for ae in fits))


def test_a_texts_score_does_not_depend_on_the_texts_beside_it(model):
    whole, alone = model.score_samples(CAPTIONS[:9]), model.score_samples([CAPTIONS[4]])
    assert alone[0] == pytest.approx(whole[4], abs=1e-4)


def test_a_way_between_two_texts_is_texts(model):
    way = lt.interpolate(model, "a man runs at home .", "two dogs sleeps on a street .", steps=7)
    assert len(way) == 7
    assert len(set(way)) > 2


def test_a_direction_moves_texts_along(model):
    men = [t for t in CAPTIONS if t.startswith("a man")]
    dogs = [t for t in CAPTIONS if t.startswith("two dogs")]
    direction = lt.vector(model, men, dogs)
    assert direction.shape == (8,)
    moved = lt.apply(model, men, direction, strength=1.5)
    back = lt.apply(model, men, direction, strength=0.0)
    assert sum("dog" in t for t in moved) > sum("dog" in t for t in back)
    with pytest.raises(DataError, match="3 numbers"):
        lt.apply(model, men, np.zeros(3))


def test_the_nearest_of_a_text_is_itself(model):
    found = lt.neighbours(model, CAPTIONS[17], among=CAPTIONS, k=3)
    assert found.row[0] == 17
    assert found.text[0] == CAPTIONS[17]
    assert found.distance[0] == pytest.approx(0, abs=1e-4)
    assert list(found.distance) == sorted(found.distance)


def test_copies_of_training_texts_are_found(model):
    found = copies(model, [CAPTIONS[3], "a man runs in the parks .", "bpbpbpb"], CAPTIONS)
    assert found.nearest[0] == 3
    assert found.likeness[0] == 1
    assert 0.8 < found.likeness[1] < 1
    assert found.likeness[2] < 0.5
    with pytest.warns(DataWarning, match="samples are training rows|no sample is a training row"):
        table = lt.sample(model, 10, training=CAPTIONS)
    assert list(table.columns) == ["text", "nearest", "likeness"]


def test_texts_in_frames_and_series_are_texts(model):
    frame = pd.DataFrame({"text": CAPTIONS[:5]})
    wanted = model.transform(CAPTIONS[:5])
    for raw in (frame, frame["text"], frame["text"].to_numpy(), tuple(CAPTIONS[:5]), Texts(tuple(CAPTIONS[:5]))):
        assert np.array_equal(model.transform(raw), wanted)


def test_denoising_and_reconstructing_give_texts(model):
    assert lt.denoise(model, CAPTIONS[:3]) == lt.reconstruct(model, CAPTIONS[:3])
    # Of a code of some five nats the sort of thing is left, if not each word.
    assert all(text.endswith(".") for text in model.reconstruct(CAPTIONS[:3]))


@pytest.mark.parametrize(
    ("recipe", "nets"),
    [(r, "recurrent") for r in ("vae", "ae", "reconstruct", "denoising", "vq-vae", "vamp", "iwae", "flow-vae")]
    + [("density", "transformer"), ("reconstruct", "transformer")],
)
def test_recipes_and_nets_go_with_texts(recipe, nets):
    small = {"nets.width": 16, "kind.width": 16}
    ae = lt.Autoencoder(recipe, kind="text", nets=nets, steps=4, dim=4, random_state=0, settings=small).fit(CAPTIONS)
    assert len(ae.sample(3)) == 3
    assert np.isfinite(ae.score_samples(CAPTIONS[:4], samples=2)).all()


def test_nets_that_read_no_tokens_are_refused():
    with pytest.raises(ConfigError, match="'mlp' cannot read tokens"):
        lt.Autoencoder(kind="text", nets="mlp", steps=2).fit(CAPTIONS)


def test_temperature_is_for_sequences():
    ae = lt.Autoencoder("vae", dim=2, steps=2, random_state=0).fit(np.random.default_rng(0).normal(size=(40, 3)))
    for bent in ({"temperature": 0.5}, {"top_p": 0.5}, {"like_data": True}):
        with pytest.raises(ConfigError, match="texts and tunes"):
            ae.sample(2, **bent)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ae: lt.impute(ae, CAPTIONS[:2]), "no gaps to fill"),
        (lambda ae: lt.export(ae, output="m.onnx"), "read and written in steps"),
        (lambda ae: lt.Autoencoder(kind="text", dp_epsilon=4, steps=2).fit(CAPTIONS), "each row's own gradient"),
        (lambda ae: lt.Autoencoder("geco", kind="text", steps=2).fit(CAPTIONS), "squared errors"),
        (lambda ae: lt.Autoencoder("anomaly", kind="text", steps=2).fit(CAPTIONS), "committee cannot read tokens"),
        (lambda ae: lt.Autoencoder("reconstruct", steps=2).fit(np.zeros((9, 2))), "which kind 'table' does not have"),
        (lambda ae: lt.neighbours(ae, CAPTIONS[0]), "no rows to look among"),
        (lambda ae: lt.neighbours(ae, CAPTIONS[0], among=CAPTIONS, k=101), "k must be from 1 to 100"),
        (lambda ae: lt.evaluate(ae, CAPTIONS, target="x"), "add --synthetic"),
    ],
)
def test_what_texts_cannot_have_done_is_refused_with_a_way_out(model, call, message):
    with pytest.raises(ConfigError, match=message) as caught:
        call(model)
    assert caught.value.hint


def test_odd_texts_are_texts(model):
    with pytest.warns(DataWarning, match="not seen"), pytest.warns(DataWarning, match="were cut"):
        assert model.transform(["👍🏽", "", "a" * 9000]).shape == (3, 8)
    for bad in ([None], [1, 2], [], [["a"]]):
        with pytest.raises(DataError, match="list of strings"):
            model.transform(bad)


def test_half_a_surrogate_pair_is_read_as_a_replacement_character(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(t + " \ud800") for t in CAPTIONS))
    texts = read(tmp_path / "a.jsonl")
    ae = lt.Autoencoder(kind="text", steps=2, dim=2, random_state=0, settings=SMALL).fit(texts)
    ae.save(tmp_path / "m.safetensors")
    assert lt.load(tmp_path / "m.safetensors").transform(texts).shape == (100, 2)


def test_pieces_without_merges_are_characters():
    words = learned(CAPTIONS, "subwords", 10)
    assert not words.merges
    assert words.decode(words.encode(["a man sings"])[0]) == "a man sings"
    marked = learned(CAPTIONS * 20, "subwords", 120)
    assert marked.decode(marked.encode(["a▁man\0"])[0]) == "a\ufffdman\ufffd"


def test_a_long_text_on_the_command_line_is_no_file_name(model):
    with pytest.warns(DataWarning, match="were cut"):
        found = lt.neighbours(model, "a man sings " * 60, among=CAPTIONS, k=1)
    assert len(found) == 1


def test_rows_of_unknown_tokens_have_neighbours_too(model):
    with pytest.warns(DataWarning, match="not seen"), pytest.warns(DataWarning, match="were cut"):
        found = copies(model, [CAPTIONS[0]], ["世" * 90, CAPTIONS[0]])
    assert found.nearest.tolist() == [1]


def test_labels_stay_beside_the_codes_of_texts(tmp_path):
    frame = pd.DataFrame({"story": [*CAPTIONS[:20], None], "who": [t.split()[0] for t in CAPTIONS[:20]] + ["x"]})
    frame.to_csv(tmp_path / "s.csv", index=False)
    options = ["--set", "nets.width=8", "--set", "train.steps=3", "--quiet", "-o", "run"]
    done = latente("fit", "s.csv", "--text-col", "story", "--label-col", "who", *options, cwd=tmp_path)
    assert done.code == 0, done.err
    codes = pd.read_parquet(tmp_path / "run" / "latent.parquet")
    assert codes["label"].tolist() == frame["who"][:20].tolist()
    assert len((tmp_path / "run" / "samples.txt").read_text(encoding="utf-8").splitlines()) == 40
    assert (tmp_path / "run" / "ways.txt").exists()


def test_a_folder_of_text_files_is_a_text_each(tmp_path):
    (tmp_path / "poems").mkdir()
    for i, text in enumerate(("uno\ndos", "tres", "")):
        (tmp_path / "poems" / f"{i}.txt").write_text(text, encoding="utf-8")
    (tmp_path / "poems" / "x.txt").write_bytes(b"a\x00b")
    notes = []
    assert list(read(tmp_path / "poems", note=notes.append)) == ["uno\ndos", "tres"]
    assert "2 file(s) are left out" in notes[1]
    assert list(read(tmp_path / "poems", "text", unit="line", note=notes.append)) == ["uno", "dos", "tres"]
    assert guess_kind(tmp_path / "poems") == "text"


# ── the command line ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_line_goes_the_whole_way(saved, tmp_path):
    (tmp_path / "men.txt").write_text("\n".join(t for t in CAPTIONS if t.startswith("a man")))
    (tmp_path / "dogs.txt").write_text("\n".join(t for t in CAPTIONS if t.startswith("two dogs")))
    way = latente("interpolate", saved, "two dogs runs at home .", "a man sings on a street .", "--steps", 5)
    assert way.code == 0, way.err
    assert len(way.out.splitlines()) == 5
    assert latente("vector", saved, "men.txt", "dogs.txt", "-o", "v.npy", cwd=tmp_path).code == 0
    moved = latente("apply", saved, "men.txt", "v.npy", "--strength", 2, cwd=tmp_path)
    assert moved.code == 0, moved.err
    assert len(moved.out.splitlines()) == 20
    drawn = latente("sample", saved, "-n", 7, "--temperature", 0.5, "--top-p", 0.9, "-o", "new.txt", cwd=tmp_path)
    assert drawn.code == 0, drawn.err
    assert len((tmp_path / "new.txt").read_text(encoding="utf-8").splitlines()) == 7
    near = latente("neighbours", saved, "a man sings at home .", "--among", "dogs.txt", "-k", 2, cwd=tmp_path)
    assert near.code == 0, near.err
    assert near.out.splitlines()[0] == "row,distance,text"


def test_a_fit_from_the_command_line_and_its_run_folder(tmp_path):
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS), encoding="utf-8")
    options = ["--set", "nets.width=16", "--set", "train.steps=5", "--quiet", "--seed", 0]
    done = latente("fit", "captions.txt", "-o", "run", *options, cwd=tmp_path)
    assert done.code == 0, done.err
    assert len(pd.read_parquet(tmp_path / "run" / "latent.parquet")) == len(CAPTIONS)
    about = latente("info", "run", cwd=tmp_path)
    assert "text" in about.out
    pd.DataFrame({"story": CAPTIONS, "n": range(len(CAPTIONS))}).to_csv(tmp_path / "s.csv", index=False)
    done = latente("fit", "s.csv", "--text-col", "story", "-o", "csv", *options, cwd=tmp_path)
    assert done.code == 0, done.err
    scored = latente("score", "csv", "s.csv", "--samples", 2, cwd=tmp_path)
    assert len(scored.out.splitlines()) == len(CAPTIONS) + 1, scored.err
