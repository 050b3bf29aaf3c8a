"""Tunes as tokens, and what a fitted model does with them."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import run as latente

import latente as lt
from latente.errors import ConfigError, DataError
from latente.kinds.base import DataWarning
from latente.kinds.music import HOLD, REST, Music, tunes_of
from latente.kinds.reading import guess_kind, read
from latente.kinds.tunes import Tune, Tunes, cut, is_melody, of_notes, of_roll
from latente.model.dists.tokens import END, OWN, PAD

SMALL = {"nets.width": 24, "kind.width": 16, "train.ema": 0.9, "kind.dropout": 0.0}


def scale(first, up=True, bars=4, name=""):
    """Eighth notes up or down a major scale, bar after bar."""
    steps = np.array([0, 2, 4, 5, 7, 9, 11, 12])
    pitch = np.tile(first + (steps if up else steps[::-1]), bars)
    return of_notes(pitch, np.arange(8 * bars) * 2, np.full(8 * bars, 2), 16 * bars, name=name)


TUNES = Tunes(tuple(scale(55 + k, up, name=f"{k}{'up' if up else 'down'}") for k in range(12) for up in (True, False)))


@pytest.fixture(scope="module")
def model():
    return lt.Autoencoder(kind="music", steps=120, lr=8e-3, dim=6, random_state=0, settings=SMALL).fit(TUNES)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("music") / "scales.safetensors"
    model.save(path)
    return path


def same(a: Tune, b: Tune) -> bool:
    return a.steps == b.steps and all(
        np.array_equal(getattr(a, n), getattr(b, n)) for n in ("pitch", "start", "length")
    )


@st.composite
def tunes(draw, voices: bool):
    steps = draw(st.integers(1, 24))
    cells = st.sets(st.integers(40, 52), max_size=4 if voices else 1)
    frames = draw(st.lists(cells, min_size=steps, max_size=steps))
    onsets = draw(st.lists(st.booleans(), min_size=steps, max_size=steps))
    pitch, start, length = [], [], []
    open_: dict[int, int] = {}
    for step, (frame, onset) in enumerate(zip(frames, onsets, strict=True)):
        now = {}
        for p in frame:
            if p in open_ and not onset:
                length[open_[p]] += 1
                now[p] = open_[p]
            else:
                pitch.append(p)
                start.append(step)
                length.append(1)
                now[p] = len(pitch) - 1
        open_ = now
    return of_notes(pitch, start, length, steps)


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=100, deadline=None)
@given(tune=tunes(voices=True))
def test_voices_come_back_from_their_tokens(tune):
    kind = Music(form="voices", window=24, stride=24, low=40, high=52, bar=16)
    row = kind.tokens(tune)
    assert same(kind.tune(row), tune)
    assert row[-1] == END
    assert kind.grammar[[PAD, *row[:-1]], row].all()


@settings(max_examples=100, deadline=None)
@given(tune=tunes(voices=False))
def test_melodies_come_back_from_their_tokens(tune):
    kind = Music(form="melody", window=24, stride=24, low=40, high=52, bar=16)
    row = kind.tokens(tune)
    assert same(kind.tune(row), tune)
    assert len(row) == tune.steps + (tune.steps < 24)
    assert kind.grammar[[PAD, *row[:-1]], row].all()


def test_a_rolls_frames_have_neither_strikes_nor_holds():
    roll = of_roll([[60, 64], [60, 64], [], [67]])
    kind = Music(form="voices", window=4, stride=4, low=60, high=67, bar=4, struck=False)
    row = kind.tokens(roll)
    assert row == [8, 4, OWN, 8, 4, OWN, OWN, 11, OWN, END]
    assert same(kind.tune(row), roll)
    assert kind.size == OWN + 1 + 8


@settings(max_examples=100, deadline=None)
@given(row=st.lists(st.integers(0, 40), max_size=40), form=st.sampled_from(["melody", "voices"]))
def test_any_tokens_are_a_tune(row, form):
    kind = Music(form=form, window=16, stride=16, low=60, high=72, bar=16)
    found = kind.tune([token for token in row if token < kind.size])
    assert (found.pitch >= 60).all()
    assert (found.pitch <= 72).all()
    assert form == "voices" or is_melody(found)


def test_windows_cover_a_tune_and_are_put_together_again():
    kind = Music(form="melody", window=32, stride=16, steps=32, low=50, high=80, bar=16)
    tune = scale(60, bars=5)
    windows = kind.windows([tune])
    assert [w.steps for _, w in windows] == [32, 32, 32, 32]
    assert [w.steps for _, w in kind.windows([cut(tune, 0, 44)])] == [32, 28]
    again = kind.rejoin(Tunes((tune,)), kind.prepare(kind.to_batch(tune)).x)
    assert same(again[0], tune)


def test_training_rows_are_transposed_within_the_range_and_nothing_else_changes():
    kind = Music(transpose=6).learn(TUNES)
    rows = kind.to_batch(TUNES)
    plain, moved = kind.prepare(rows), kind.prepare(rows, torch.Generator().manual_seed(0))
    for before, after in zip(kind.restore(plain.x), kind.restore(moved.x), strict=True):
        by = set((after.pitch - before.pitch).tolist())
        assert len(by) == 1
        assert abs(by.pop()) <= 6
        assert np.array_equal(before.start, after.start)
        assert after.pitch.min() >= kind.low
        assert after.pitch.max() <= kind.high
    assert not torch.equal(plain.x, moved.x)
    assert torch.equal(plain.x, kind.prepare(rows).x)


def test_pitches_that_were_not_learned_are_unknown_and_the_rest_is_scored(model):
    high = of_notes([60, 120, 64], [0, 8, 16], [8, 8, 16], 32)
    with pytest.warns(DataWarning, match="1 note"):
        batch = model.schema_.to_batch(high)
    assert int((~batch.observed).sum()) == 1
    with pytest.warns(DataWarning, match="1 note"):
        assert np.isfinite(model.score_samples(high)).all()
    chord = Music(form="voices", window=4, stride=4, low=60, high=72, bar=4)
    row = chord.tokens(of_notes([100, 90, 62], [0, 0, 0], [4, 4, 4], 4))
    assert chord.grammar[[PAD, *row[:-1]], row][np.array(row) >= END].all()


def test_the_form_is_found_and_said():
    chord = of_notes([60, 64], [0, 0], [16, 16], 16)
    assert Music().learn(TUNES).form == "melody"
    assert Music().learn(Tunes((chord, scale(60, bars=1), chord))).form == "voices"
    with pytest.warns(DataWarning, match=r"1 of 25 tunes have several voices"):
        kind = Music().learn(Tunes((*TUNES.items, chord)))
    assert kind.form == "melody"


@pytest.mark.parametrize("raw", [Tunes(()), Tunes((of_notes([], [], [], 16),)), [scale(60, bars=1)], "abc", 7])
def test_what_cannot_be_learned_from_is_refused(raw):
    with pytest.raises((DataError, ConfigError)):
        Music().learn(raw)


def test_rolls_and_lists_are_tunes():
    roll = np.zeros((2, 8, 128), bool)
    roll[:, :4, 60] = True
    assert len(tunes_of(roll)) == 2
    assert len(tunes_of([[[60], [60, 64]], [[62]]])) == 2
    assert Music.accepts([scale(60)])
    assert not Music.accepts(["a", "b"])


# ── a fitted model ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_codes_of_tunes_say_what_they_are(model):
    figures = lt.evaluate(model, TUNES, samples=20, quiet=True)
    assert figures["z_matters"] > 2
    assert figures["active_units"] == 6
    assert figures["free_running_accuracy"] > 0.5
    assert figures["perplexity"] < 4


def test_a_file_gives_the_same_model_back(model, saved):
    again = lt.load(saved)
    assert np.array_equal(again.transform(TUNES), model.transform(TUNES))
    for a, b in zip(again.sample(10, random_state=3), model.sample(10, random_state=3), strict=True):
        assert same(a, b)
    assert again.schema_ == model.schema_


def test_every_new_tune_opens_in_two_libraries(model, tmp_path):
    mido, pretty_midi = pytest.importorskip("mido"), pytest.importorskip("pretty_midi")
    paths = lt.write(model.sample(60, random_state=0, temperature=2.0), tmp_path / "new")
    assert len(paths) == 60
    for path in paths:
        assert mido.MidiFile(path).length >= 0
        assert pretty_midi.PrettyMIDI(str(path)).get_end_time() >= 0
    again = read(tmp_path / "new", "music", note=lambda text: None)
    assert isinstance(again, Tunes)


def test_new_melodies_follow_the_grammar(model):
    with torch.no_grad():
        z = model.model_.prior().sample(300, torch.Generator().manual_seed(0))
        rows = model.model_.decode(z).sample(torch.Generator().manual_seed(1)).long()
    before = torch.nn.functional.pad(rows[:, :-1], (1, 0))
    assert not ((rows == HOLD) & ((before == REST) | (before == PAD))).any()
    for tune in model.sample(50, random_state=0):
        assert is_melody(tune)
        assert tune.steps <= model.schema_.window


def test_tunes_are_reconstructed_whole(model):
    again = model.reconstruct(TUNES[:3])
    assert [t.steps for t in again] == [t.steps for t in TUNES[:3]]
    assert [t.name for t in again] == [t.name for t in TUNES[:3]]
    assert lt.denoise(model, TUNES[:1])[0].steps == TUNES[0].steps


def test_codes_and_neighbours_say_where_windows_are(model):
    codes = lt.encode(model, TUNES)
    assert codes["tune"].tolist()[:3] == ["0up"] * 3
    assert codes["step"].tolist()[:4] == [0, 16, 32, 0]
    found = lt.neighbours(model, TUNES[9], among=TUNES, k=3)
    assert found.tune[0] == TUNES[9].name
    assert found.distance[0] == pytest.approx(0, abs=1e-4)


def test_many_tunes_are_put_together_in_no_time(model):
    many = Tunes(TUNES.items * 20)
    start = time.process_time()
    model.schema_.rejoin(many, model.schema_.prepare(model.schema_.to_batch(many)).x)
    assert time.process_time() - start < 10  # it took minutes when each tune looked through all windows


def test_a_way_between_two_tunes_is_a_file_to_hear_and_a_picture(model, saved, tmp_path):
    for name, tune in (("a.mid", TUNES[0]), ("b.mid", TUNES[5])):
        lt.write(cut(tune, 0, 32), tmp_path / name)
    done = latente("interpolate", saved, "a.mid", "b.mid", "-o", "way.mid", cwd=tmp_path)
    assert done.code == 0, done.err
    assert {p.name for p in tmp_path.iterdir()} >= {"way.mid", "way.png"}
    assert read(tmp_path / "way.mid", "music")[0].steps >= 9 * 16


def test_a_direction_moves_tunes(model):
    up, down = (Tunes(tuple(t for t in TUNES if t.name.endswith(w))) for w in ("up", "down"))
    direction = lt.vector(model, up, down)
    some = Tunes((cut(up[5], 0, 32),))
    codes = model.transform(some)
    assert same(lt.apply(model, some, direction, strength=0.0)[0], model.decode(codes)[0])
    assert same(lt.apply(model, some, direction, strength=2.0)[0], model.decode(codes + 2 * direction)[0])


def test_a_folder_of_music_is_fitted_from_the_command_line(tmp_path):
    lt.write(TUNES, tmp_path / "tunes")
    (tmp_path / "tunes" / "bad.mid").write_bytes(b"MThd")
    assert guess_kind(tmp_path / "tunes") == "music"
    options = ["--set", "nets.width=16", "--set", "train.steps=4", "--quiet", "-o", "run"]
    done = latente("fit", "tunes", *options, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "bad.mid" in done.err
    for name in ("one.wav", "some.abc", "roll.png", "new.json"):
        done = latente("sample", "run", "-n", 2, "-o", name, cwd=tmp_path)
        assert done.code == 0, done.err
        assert (tmp_path / name).stat().st_size > 0


def test_chords_and_rolls_are_learned_too():
    rng = np.random.default_rng(0)
    pieces = [[sorted(rng.choice(range(60, 72), 3, replace=False).tolist()) for _ in range(12)] for _ in range(20)]
    ae = lt.Autoencoder(kind="music", steps=5, dim=4, random_state=0, settings=SMALL).fit(pieces)
    assert ae.schema_.form == "voices"
    assert not ae.schema_.struck
    assert len(ae.sample(4)) == 4
    assert np.isfinite(ae.score_samples(pieces, samples=2)).all()
