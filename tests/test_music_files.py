"""Music is read from MIDI, ABC, JSON and arrays, written back as it was, and hostile files harm nothing."""

import io
import json
import struct
import subprocess
import sys
import time
import wave
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from latente.errors import ConfigError, DataError
from latente.kinds import reading_abc, reading_midi
from latente.kinds.reading_abc import Found, abc_tunes
from latente.kinds.reading_midi import midi_tunes
from latente.kinds.reading_music import has_music, read_music
from latente.kinds.tunes import (
    Tune,
    Tunes,
    cut,
    frames,
    is_melody,
    melody,
    of_notes,
    of_roll,
    roll,
    transposed,
)
from latente.kinds.writing_music import abc_text, json_text, meter_of, midi_bytes, write_music
from latente.kinds.writing_roll import roll_picture
from latente.kinds.writing_wav import wav_bytes

mido = pytest.importorskip("mido", reason="reading MIDI needs mido")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "music"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the music is not beside the project")


def notes(tune):
    return list(zip(tune.pitch.tolist(), tune.start.tolist(), tune.length.tolist(), strict=True))


def same(a, b):
    return notes(a) == notes(b) and (a.grid, a.bar) == (b.grid, b.bar)


def abc(text, grid=4):
    found = Found()
    return list(abc_tunes(text, grid, found)), found


def one(body, head="M:4/4\nL:1/4\nK:C"):
    (tune,), found = abc(f"X:1\nT:a\n{head}\n{body}\n")
    assert not found.unknown
    return tune


def midi(*tracks, ticks=480, kind=1):
    """A MIDI file of tracks of raw events."""
    head = b"MThd" + struct.pack(">LHHh", 6, kind, len(tracks), ticks)
    ends = [track + b"\x00\xff\x2f\x00" for track in tracks]
    return head + b"".join(b"MTrk" + struct.pack(">L", len(track)) + track for track in ends)


def variable(number):
    out = [number & 127]
    while number := number >> 7:
        out.append(number & 127 | 128)
    return bytes(reversed(out))


def event(delta, *message):
    return variable(delta) + bytes(message)


NOTE = event(0, 0x90, 60, 80) + event(480, 0x80, 60, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("music")


def saved(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@st.composite
def tunes(draw, high=60):
    numbers = st.tuples(st.integers(0, 127), st.integers(0, high), st.integers(1, 20))
    found = draw(st.lists(numbers, min_size=1, max_size=12))
    grid = draw(st.sampled_from([1, 2, 3, 4, 6, 12]))
    bar = draw(st.integers(1, 16)) * grid
    return of_notes(*zip(*found, strict=True), draw(st.integers(0, 90)), grid=grid, bar=bar, tempo=100.0)


# Tunes


@settings(max_examples=25, deadline=None)
@given(tunes())
def test_notes_of_one_pitch_never_overlap_and_are_sorted(tune):
    assert roll(tune).sum() == tune.length.sum()
    assert tune.end.max() <= tune.steps
    assert notes(tune) == sorted(notes(tune), key=lambda note: (note[1], -note[0]))


@settings(max_examples=25, deadline=None)
@given(tunes())
def test_a_roll_and_its_frames_say_the_same_and_come_back(tune):
    assert [tuple(np.flatnonzero(step)[::-1]) for step in roll(tune)] == frames(tune)
    back = of_roll(roll(tune))
    assert not back.struck
    assert frames(back) == frames(tune) == frames(of_roll(frames(tune)))
    assert np.array_equal(roll(of_roll(roll(tune)[:, 21:109])), roll(tune) & (abs(np.arange(128) - 64.5) < 44))


@settings(max_examples=25, deadline=None)
@given(tunes())
def test_a_melody_is_one_voice_of_the_highest_notes(tune):
    line = melody(tune)
    assert is_melody(line)
    assert line.steps == tune.steps
    for pitch, start in zip(line.pitch.tolist(), line.start.tolist(), strict=True):
        assert frames(tune)[start][0] == pitch
    assert notes(melody(line)) == notes(line)


def test_a_melody_note_ends_where_the_next_begins():
    chord = of_notes([60, 72, 74, 64], [0, 0, 4, 6], [16, 6, 4, 1])
    assert not is_melody(chord)
    assert notes(melody(chord)) == [(72, 0, 4), (74, 4, 4)]


@example(of_notes([60], [0], [9]), 5, 5)
@settings(max_examples=25, deadline=None)
@given(tunes(), st.integers(0, 60), st.integers(0, 60))
def test_a_window_sounds_as_the_whole_does_there(tune, a, b):
    start, stop = sorted((a, b))
    part = cut(tune, start, stop)
    assert np.array_equal(roll(part), roll(tune)[start:stop])


def test_a_tune_can_be_transposed_as_far_as_midi_goes():
    tune = of_notes([60, 120], [0, 1], [1, 1])
    assert transposed(tune, 7).pitch.tolist() == [67, 127]
    with pytest.raises(ConfigError, match=r"\[68, 128\]"):
        transposed(tune, 8)


@pytest.mark.parametrize(
    ("pitch", "start", "length", "steps"),
    [
        ([128], [0], [1], 1),
        ([60], [0], [0], 1),
        ([60], [0], [2], 1),
        ([60, 60], [0, 1], [2, 1], 2),
        ([60], [0, 1], [1], 2),
        ([60, 62], [0, 0], [1, 1], 1),
    ],
)
def test_notes_that_are_no_tune_are_refused(pitch, start, length, steps):
    with pytest.raises(DataError, match="no tune"):
        Tune(pitch, start, length, steps)


def test_a_slice_of_tunes_is_tunes():
    items = Tunes(tuple(of_notes([p], [0], [1]) for p in (60, 61, 62)))
    assert [t.pitch[0] for t in items[1:]] == [61, 62]
    assert isinstance(items[:0], Tunes)
    assert items[-1].pitch[0] == 62


# MIDI


def read_back(pieces, grid=4):
    return [tune for tune, _ in midi_tunes([("a", midi_bytes(piece)) for piece in pieces], grid)]


@settings(max_examples=4, deadline=None)
@given(st.lists(tunes(), min_size=8, max_size=24))
def test_midi_comes_back_note_for_note(pieces):
    grid = pieces[0].grid
    pieces = [replace(piece, grid=grid, bar=grid * (piece.bar // piece.grid)) for piece in pieces]
    assert all(same(a, b) for a, b in zip(pieces, read_back(pieces, grid), strict=True))


@settings(max_examples=20, deadline=None)
@given(tunes())
def test_midi_is_what_mido_and_pretty_midi_take_it_for(tune):
    data = midi_bytes(tune)
    assert data == midi_bytes(tune)
    file = mido.MidiFile(file=io.BytesIO(data), clip=False)
    assert sum(m.type == "note_on" for m in file.tracks[0]) == len(tune.pitch)
    assert file.length == pytest.approx(tune.seconds, abs=1e-6)


def test_pretty_midi_opens_it_and_an_empty_tune_too():
    pretty = pytest.importorskip("pretty_midi", reason="pretty_midi is another reader to compare with")
    found = pretty.PrettyMIDI(io.BytesIO(midi_bytes(of_notes([60, 60, 67], [0, 4, 4], [4, 4, 2], tempo=60.0))))
    heard = [(n.pitch, round(n.start, 6), round(n.end, 6)) for n in found.instruments[0].notes]
    assert sorted(heard) == [(60, 0.0, 1.0), (60, 1.0, 2.0), (67, 1.0, 1.5)]
    empty = midi_bytes(of_notes([], [], []))
    assert not pretty.PrettyMIDI(io.BytesIO(empty)).instruments
    assert mido.MidiFile(file=io.BytesIO(empty)).length == 0


def test_tempo_meter_and_tracks_are_read_and_drums_left_out(folder):
    first = event(0, 0xFF, 0x51, 3, *(666_666).to_bytes(3, "big")) + event(0, 0xFF, 0x58, 4, 3, 2, 24, 8)
    drums = event(0, 0x99, 35, 99) + event(480, 0x89, 35, 0)
    other = event(480, 0x91, 67, 80) + event(470, 0x91, 67, 0)
    path = saved(folder, "song.mid", midi(first, NOTE, drums, other))
    (tune,) = read_music(path)
    assert notes(tune) == [(60, 0, 4), (67, 4, 4)]
    assert (tune.bar, tune.grid, tune.name) == (12, 4, "song")
    assert tune.tempo == pytest.approx(90, abs=1e-3)
    assert notes(read_music(path, grid=12)[0]) == [(60, 0, 12), (67, 12, 12)]


def test_a_note_ends_where_its_own_pitch_is_struck_anew():
    on = event(0, 0x90, 60, 80)
    struck = on + event(480, 0x90, 60, 80) + event(0, 0x80, 60, 0) + event(480, 0x80, 60, 0)  # off after on
    hanging = on + event(480, 0xB0, 64, 0)
    found = [tune for tune, _ in midi_tunes([("a", midi(struck)), ("b", midi(hanging))], 4)]
    assert [notes(tune) for tune in found] == [[(60, 0, 4), (60, 4, 4)], [(60, 0, 4)]]


def test_of_two_notes_that_follow_each_other_in_one_step_the_longer_stays():
    grace = event(0, 0x90, 72, 80) + event(30, 0x80, 72, 0) + event(0, 0x90, 60, 80) + event(450, 0x80, 60, 0)
    ((tune, _),) = midi_tunes([("a", midi(grace))], 4)
    assert notes(tune) == [(60, 0, 4)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (midi(b""), "holds no note"),
        (midi(event(0, 0x99, 35, 99) + event(9, 0x89, 35, 0)), "drums only"),
        (midi(NOTE)[:-9], "cut short"),
        (b"not a song at all", "does not begin with MThd"),
        (midi(NOTE, ticks=-7000), "film frames"),
        (midi(NOTE, kind=2), "do not belong together"),
        (midi(event(0, 0x90, 60, 80) + event(0, 0x80, 200, 0)), "damaged"),
        (b"MThd" + struct.pack(">LHHh", 6, 1, 32_767, 480), "cut short"),
        (b"MThd" + struct.pack(">LHHh", 6, 1, 1, 480) + b"MTrk" + b"\xff" * 40_000, "damaged|cut short"),
        (b"\0" * 5_000_000, "at most 2,097,152"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(folder, data, reason):
    with pytest.raises(DataError, match=reason) as caught:
        read_music(saved(folder, "bad.mid", data))
    assert str(caught.value).startswith("bad.mid cannot be read: ")
    assert caught.value.hint


@pytest.mark.parametrize("wait", [480 * 120 * 60 * 3, (1 << 28) - 1, 1 << 300])
def test_what_is_longer_than_an_hour_is_used_up_to_there(folder, wait):
    told = []
    late = event(wait, 0x90, 62, 80) + event(480, 0x80, 62, 0)
    (tune,) = read_music(saved(folder, "long.mid", midi(NOTE + late)), note=told.append)
    assert notes(tune) == [(60, 0, 4)]
    assert tune.steps <= 3600 * 2 * 4
    assert told == ["longer than an hour or 20,000 bars, and used up to there: long.mid"]


def test_a_file_that_kills_or_stalls_the_worker_is_named_and_the_next_one_read(monkeypatch):
    good = midi_bytes(of_notes([60], [0], [4]))
    slow = midi(b"\x00\x90" + b"\x3c\x50\x00" * 690_000 + b"\x3c\x50")  # 2 MB of notes
    for limit, value in (("_MEMORY", 48 << 20), ("_PROCESSOR", 1), ("_WALL", 0.5)):
        with monkeypatch.context() as patch:
            patch.setattr(reading_midi, limit, value)
            start = time.monotonic()
            found = [tune for tune, _ in midi_tunes([("a", good), ("b", slow), ("c", good)], 4)]
        assert "too much memory" in found[1]
        assert notes(found[0]) == notes(found[2]) == [(60, 0, 4)]
        assert time.monotonic() - start < 30


def test_without_mido_the_hint_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(reading_midi.importlib.util, "find_spec", lambda name: None)
    path = saved(folder, "x.mid", midi(NOTE))
    with pytest.raises(ConfigError) as caught:
        read_music(path)
    assert caught.value.hint == "pip install 'latente[music]'"


def test_the_worker_is_cheap_to_start():
    code = "import sys, mido, latente.kinds.midi_worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "pandas", "scipy"} & set(done.stdout.split())


# Folders and zips


def members():
    good = midi_bytes(of_notes([60, 64], [0, 4], [4, 4]))
    text = "X:1\nT:Two\nK:G\nF G|\n\nX:2\nT:No key\nABC\n"
    bad = {"bad.mid": b"MThd", "cut.mid": good[:-12], "empty.midi": b"", "sub/odd.abc": b"X:1\nK:C\n\x00C"}
    hidden = {".hidden.mid": good, "__MACOSX/a.mid": good, "readme.txt": b"no music"}
    return {"b.mid": good, "sub/a.mid": good, "a.abc": text.encode(), **bad, **hidden}


def check_members(path):
    told = []
    found = read_music(path, note=told.append)
    assert [tune.name for tune in found] == ["Two", "b", "sub/a"]
    assert found[0].pitch.tolist() == [66, 67]
    assert told[0].startswith("5 files or tunes could not be read and are left out: ")
    assert told[0].count(":") == 4
    assert told[0].endswith(" and 2 more")


def test_in_a_folder_bad_files_are_named_and_the_rest_is_used(folder):
    for name, data in members().items():
        saved(folder / "mixed", name, data)
    assert has_music(folder / "mixed")
    check_members(folder / "mixed")


def test_a_zip_is_read_as_a_folder_is(folder):
    path = folder / "mixed.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members().items():
            archive.writestr(name, data)
    assert has_music(path)
    check_members(path)


def test_where_nothing_can_be_read_the_reasons_are_named(folder):
    for name in ("a.mid", "b.mid"):
        saved(folder / "bad", name, midi(b""))
    with pytest.raises(
        DataError, match=r"no music in .* can be read: a.mid: it holds no note, b.mid: it holds no note"
    ):
        read_music(folder / "bad")
    (folder / "none").mkdir()
    with pytest.raises(DataError, match="there is no music in"):
        read_music(folder / "none")
    with pytest.raises(DataError, match="no such file"):
        read_music(folder / "absent.mid")
    with pytest.raises(DataError, match=r"no music is read from files ending in '\.txt'"):
        read_music(saved(folder, "a.txt", "K:C"))


def test_zips_that_are_none_or_bombs_are_refused(folder):
    with pytest.raises(DataError, match="is not a readable zip"):
        read_music(saved(folder, "no.zip", b"PK\x03\x04" + b"\0" * 30))
    path = folder / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.mid", bytes(1 << 23))
    with pytest.raises(DataError, match="8,388,608 bytes, and at most"):
        read_music(path)


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"X:1\nK:C\n", b"X:1\nM:6/8\nK:Ador\n|:", b"PK\x03\x04", b"[["]))
def test_hostile_bytes_give_tunes_or_a_data_error(folder, data, head):
    for name in ("h.abc", "h.json", "h.npy", "h.npz", "h.zip"):
        try:
            assert isinstance(read_music(saved(folder, name, head + data)), Tunes)
        except DataError as error:
            assert error.hint  # noqa: PT017


@settings(max_examples=4, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=80), st.integers(0, 90), st.integers(0, 3)), min_size=20, max_size=40))
def test_hostile_midi_gives_a_tune_or_a_reason(pieces):
    whole = midi(NOTE * 4)
    files = [
        [data, whole[:at] + data + whole[at + len(data) :], midi(data), midi(NOTE + data)][way]
        for data, at, way in pieces
    ]
    found = list(midi_tunes([("a", data) for data in files], 4))
    assert len(found) == len(files)
    assert all(isinstance(tune, str | Tune) for tune, _ in found)


@settings(max_examples=80, deadline=None)
@given(st.text(st.sampled_from(list("ABcd'^_=|:[]()123/<>-z{}\"!+ &\\\n%XKMLV~")), max_size=80))
def test_any_text_is_abc_or_is_left_out(text):
    found, about = abc("X:1\nK:D\n" + text)
    assert len(found) + len(about.left_out) >= 1


# ABC


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("C D/ E3/2 F// z3/4", [(60, 0, 4), (62, 4, 2), (64, 6, 6), (65, 12, 1)]),
        ("C, c c' z2", [(48, 0, 4), (72, 4, 4), (84, 8, 4)]),
        ("^F _B =F F | F", [(66, 0, 4), (70, 4, 4), (65, 8, 4), (65, 12, 4), (65, 16, 4)]),
        ("^C2 C2 | C4", [(61, 0, 8), (61, 8, 8), (60, 16, 16)]),
        ("^C4-|C2 C2|C4", [(61, 0, 24), (60, 24, 8), (60, 32, 16)]),
        ("C4-|C4", [(60, 0, 32)]),
        ("C>D E<F", [(60, 0, 6), (62, 6, 2), (64, 8, 2), (65, 10, 6)]),
        ("(3CDE F2", [(60, 0, 3), (62, 3, 2), (64, 5, 3), (65, 8, 8)]),
        ("(3:2:2C2D F2", [(60, 0, 5), (62, 5, 3), (65, 8, 8)]),
        ("[CEG]2 [C2E2]", [(67, 0, 8), (64, 0, 8), (60, 0, 8), (64, 8, 8), (60, 8, 8)]),
        ('"Am"{gf}!trill!~A.B u(cd)', [(69, 0, 4), (71, 4, 4), (72, 8, 4), (74, 12, 4)]),
        ("[K:D]F2 [L:1/8]F2 C2", [(66, 0, 8), (66, 8, 4), (61, 12, 4)]),
        ("C4|Z2|D4", [(60, 0, 16), (62, 48, 16)]),
        ("C2 D2\\\nE2 F2 % G", [(60, 0, 8), (62, 8, 8), (64, 16, 8), (65, 24, 8)]),
        ("C4\nw: words A B C\nD4", [(60, 0, 16), (62, 16, 16)]),
        ("V:1\nc4\nV:2\nC4", [(72, 0, 16), (60, 0, 16)]),
    ],
)
def test_the_signs_of_abc_mean_what_the_standard_says(body, expected):
    assert notes(one(body)) == expected


@pytest.mark.parametrize(
    ("body", "played"),
    [
        ("C4:|D4|", "CCD"),
        ("|:C4:|:D4:|E4", "CCDDE"),
        ("C4::D4:|", "CCDD"),
        ("|:C4|1D4:|2E4||F4", "CDCEF"),
        ("|:C4|[1D4|E4:|[2F4|G4||A4:|", "CDECFGAA"),
        ("|:C4|[1,2D4:|[3E4|]", "CDCDCE"),
        ("|:C4|[1-3D4:|[4E4|]", "CDCDCDCE"),
        ("|:C4|[1D4:|[2E4:|F4", "CDCEF"),
        ("P:A\nC4:|\nP:B\nD4:|", "CCDD"),
        ("C4|:D4:||:E4:|", "CDDEE"),
        ("|::C4::|D4", "CCCD"),
    ],
)
def test_repeats_and_endings_are_played_out(body, played):
    letters = {60: "C", 62: "D", 64: "E", 65: "F", 67: "G", 69: "A"}
    assert "".join(letters[pitch] for pitch in one(body).pitch.tolist()) == played


@pytest.mark.parametrize(
    ("key", "sharps"),
    [
        ("G", "F"),
        ("D", "FC"),
        ("Am", ""),
        ("Ador", "F"),
        ("E minor", "F"),
        ("D mix", "F"),
        ("A Mixolydian", "FC"),
        ("F#m", "FCG"),
        ("C lydian", "F"),
        ("HP", "FC"),
        ("C ^f", "F"),
        ("B", "FCGDA"),
        ("none", ""),
        ("G clef=treble", "F"),
    ],
)
def test_keys_and_modes_raise_their_notes(key, sharps):
    tune = one("C D E F | G A B", f"L:1/4\nK:{key}")
    raised = [p - q for p, q in zip(tune.pitch.tolist(), [60, 62, 64, 65, 67, 69, 71], strict=True)]
    assert raised == [letter in sharps for letter in "CDEFGAB"]


def test_flat_keys_lower_their_notes():
    assert one("B E A D", "L:1/4\nK:Gm").pitch.tolist() == [70, 63, 69, 62]
    assert one("B E A D", "L:1/4\nK:D phr").pitch.tolist() == [70, 63, 69, 62]


def test_a_short_first_bar_is_an_upbeat_after_silence():
    tune = one("G|c2 e2|c3", "M:4/4\nL:1/4\nK:C")
    assert tune.start.tolist() == [12, 16, 24, 32]
    assert tune.steps == 48


def test_meter_tempo_and_unit_come_from_their_fields():
    tune = one("CDE FGA|", "M:6/8\nL:1/8\nQ:3/8=100\nK:C")
    assert (tune.bar, tune.tempo, tune.length.tolist()) == (12, 150.0, [2] * 6)
    assert one("C", "M:2/4\nK:C").length.tolist() == [1]  # a sixteenth in short meters
    assert one("C", "M:C|\nK:C").length.tolist() == [2]
    assert one("C2", "M:none\nL:1/4\nK:C").bar == 0


def test_bars_that_do_not_add_up_are_counted_and_told(folder):
    told = []
    text = "X:1\nT:a\nM:4/4\nL:1/4\nK:C\nG|CDEF|CDE|CDEFG|CDE:|\n"
    read_music(saved(folder, "odd.abc", text), note=told.append)
    assert told == ["2 bars of 5 do not add up to their meter"]


def test_a_fan_of_repeats_stays_within_bounds(monkeypatch):
    assert len(one("|" + ":" * 50 + "C4" + ":" * 50 + "|").pitch) <= 12
    monkeypatch.setattr(reading_abc, "_MOST_NOTES", 1000)
    for body, reason in (("|:" + "C8" * 510 + ":|", "played out it has more"), ("z" * 1001, "more than 1,000 notes")):
        assert reason in abc("X:1\nK:C\n" + body)[1].left_out[0]


def test_no_text_takes_more_time_than_its_length_allows():
    start = time.monotonic()
    for nasty in ("[A:", "[[", "!a", "(3", ":", "|  [", "&", "{", '"', "+a", "[1-"):
        abc("X:1\nK:C\n" + nasty * 5_000)
    assert time.monotonic() - start < 10  # a tenth of it, where nothing else runs


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"X:1\nT:a\nCDEF\n", "X:1 a: it has no key"),
        (b"X:1\nT:a\nK:C\nz4\n", "X:1 a: it holds no note"),
        (b"just words\n", "no line begins with X:"),
        (b"X:1\nK:C\nC\x00D", "byte 9 is 0x00"),
        (b"X:1\nK:C\nC\x81\x8d", "byte 9 is 0x81"),
    ],
)
def test_abc_that_cannot_be_read_says_why(folder, data, reason):
    with pytest.raises(DataError, match=reason):
        read_music(saved(folder, "bad.abc", data))


def test_abc_in_latin_letters_of_old_is_read_and_told(folder):
    told = []
    (tune,) = read_music(saved(folder, "old.abc", "X:1\nT:Dún\nK:C\nCD".encode("latin-1")), note=told.append)
    assert tune.name == "Dún"
    assert "byte 7 is 0xfa" in told[0]
    (tune,) = read_music(saved(folder, "wide.abc", "X:1\nT:Dún\nK:C\nCD".encode("utf-16")))
    assert tune.name == "Dún"


@settings(max_examples=40, deadline=None)
@given(tunes(high=200))
def test_a_melody_comes_back_from_abc(tune):
    line = melody(tune)
    (back,), found = abc(abc_text(line), tune.grid)
    assert same(back, line)
    assert found.odd == found.lost == found.unknown == 0
    assert (back.steps - line.steps) in range(line.bar)
    (free,), _ = abc(abc_text(replace(line, bar=0)), tune.grid)
    assert notes(free) == notes(line)


def test_abc_is_not_written_for_chords():
    with pytest.raises(ConfigError) as caught:
        abc_text(of_notes([60, 64], [0, 0], [1, 1]))
    assert "mid" in caught.value.hint


# JSON and arrays


def test_json_frames_come_back_with_their_rests(folder):
    text = "[[[60, 64, null, NaN], [60, -1], [], null, [62.0]], [[], []]]"
    told = []
    (tune,) = read_music(saved(folder, "a.json", text), note=told.append)
    assert notes(tune) == [(64, 0, 1), (60, 0, 2), (62, 4, 1)]
    assert not tune.struck
    assert told[1:] == ["a.json: 1 silent piece is left out"]
    (back,) = read_music(saved(folder, "b.json", json_text(tune)))
    assert frames(back) == frames(tune)


def test_parts_of_json_are_joined_or_chosen(folder):
    path = saved(folder, "parts.json", json.dumps({"train": [[[60]], [[61]]], "valid": [[[62]]]}))
    assert [t.pitch[0] for t in read_music(path)] == [60, 61, 62]
    assert [t.name for t in read_music(path, part="valid")] == ["parts.json valid 0"]
    with pytest.raises(ConfigError, match="no part 'test'"):
        read_music(path, part="test")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no JSON"),
        ("3", "no list of pieces"),
        ("[[[128]]]", "'128' is no pitch"),
        ('[[["C"]]]', "'C' is no pitch"),
        ("[[[60], 5]]", "'5' is no list of pitches"),
        ("[[[true]]]", "is no pitch"),
        ("[" * 99_999, "no JSON"),
        ("[]", "no note"),
    ],
)
def test_json_that_is_no_music_says_why(folder, text, reason):
    with pytest.raises(DataError, match=reason):
        read_music(saved(folder, "bad.json", text))


def test_rolls_come_back_from_arrays(folder):
    pieces = [of_notes([60, 64], [0, 0], [4, 2]), of_notes([21, 108], [1, 3], [2, 9])]
    for name in ("r.npy", "r.npz"):
        told = []
        write_music(pieces, folder / name)
        back = read_music(folder / name, note=told.append)
        assert [frames(a) for a in back] == [frames(a) for a in pieces]
        assert told == [f"{name}: silence at the end of 1 piece is cut off"]
    np.save(folder / "piano.npy", roll(pieces[1])[:, 21:109].astype(float))
    assert frames(read_music(folder / "piano.npy")[0]) == frames(pieces[1])


@pytest.mark.parametrize(
    ("x", "reason"),
    [(np.zeros((3, 100)), "no piano roll"), (np.full((3, 128), 0.5), "other values"), (np.zeros((3, 128)), "no note")],
)
def test_arrays_that_are_no_rolls_say_why(folder, x, reason):
    np.save(folder / "bad.npy", x)
    with pytest.raises(DataError, match=reason):
        read_music(folder / "bad.npy")


# Written


def test_several_tunes_are_a_folder_or_follow_each_other(folder):
    pieces = [of_notes([60], [0], [16]), of_notes([62], [0], [4], 16)]
    files = write_music(pieces, folder / "out")
    assert [file.name for file in files] == ["0001.mid", "0002.mid"]
    assert all(same(a, b) for a, b in zip(read_music(folder / "out"), pieces, strict=True))
    write_music(pieces, folder / "out.mid")
    assert notes(read_music(folder / "out.mid")[0]) == [(60, 0, 16), (62, 32, 4)]
    write_music(pieces, folder / "out.abc")
    assert [t.pitch[0] for t in read_music(folder / "out.abc")] == [60, 62]


def test_what_cannot_be_written_says_why(folder):
    tune = of_notes([60], [0], [16])
    with pytest.raises(ConfigError, match="cannot hold music"):
        write_music(tune, folder / "a.mp3")
    with pytest.raises(ConfigError, match="no tune to write"):
        write_music([], folder / "a.mid")
    with pytest.raises(ConfigError, match="cannot share a file"):
        write_music([tune, replace(tune, grid=3)], folder / "a.mid")
    with pytest.raises(ConfigError, match="minutes"):
        write_music(replace(tune, tempo=0.01), folder / "a.wav")


@pytest.mark.parametrize(
    ("bar", "grid", "meter"), [(16, 4, (4, 4)), (12, 4, (3, 4)), (14, 4, (7, 8)), (5, 12, (5, 48))]
)
def test_a_bar_has_a_meter(bar, grid, meter):
    assert meter_of(of_notes([60], [0], [1], bar=bar, grid=grid)) == meter


def samples(data):
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22_050)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32_768


def test_a_tune_sounds_at_its_pitch_without_clicks_or_clipping():
    sound = samples(wav_bytes(of_notes([69], [0], [8], tempo=120.0)))
    spectrum = np.abs(np.fft.rfft(sound))
    loudest = np.fft.rfftfreq(len(sound), 1 / 22_050)[spectrum.argmax()]
    assert loudest == pytest.approx(440, abs=1)
    assert np.abs(sound).max() == pytest.approx(0.8, abs=1e-3)
    assert sound[0] == sound[-1] == 0
    # The seventh harmonic is the last: a click would leave energy far above it.
    assert (spectrum[len(spectrum) // 2 :] ** 2).sum() < 1e-7 * (spectrum**2).sum()


def test_half_a_minute_of_four_voices_is_quick_and_silence_is_silent():
    rng = np.random.default_rng(0)
    tune = of_notes(rng.integers(40, 80, 960), np.repeat(np.arange(240), 4), rng.integers(1, 9, 960), tempo=120.0)
    start = time.perf_counter()
    sound = samples(wav_bytes(tune))
    assert time.perf_counter() - start < 3
    assert len(sound) / 22_050 == pytest.approx(tune.seconds + 0.39, abs=0.01)
    assert not samples(wav_bytes(of_notes([], [], []))).any()


def test_a_roll_shows_each_note_at_its_time_and_height():
    tune = of_notes([60, 72], [0, 8], [8, 8], name="a")
    picture = roll_picture(tune, ["octave"])
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (1120, 3)
    blue = (np.abs(picture.astype(int) - [0x2F, 0x6D, 0xB3]).sum(2) < 12)[:, 64:]
    low, high = (np.argwhere(blue[:, half]) for half in (np.s_[:510], np.s_[530:]))
    assert low[:, 0].min() - high[:, 0].min() == 12 * 9  # an octave of lanes
    assert not np.array_equal(picture, roll_picture(transposed(tune, 1), ["octave"]))


@settings(max_examples=4, deadline=None)
@given(st.lists(tunes(), min_size=1, max_size=3))
def test_any_tunes_can_be_drawn(pieces):
    assert roll_picture([*pieces, of_notes([], [], [])], None).shape[1] == 1120


def test_a_picture_of_too_many_tunes_is_refused(folder):
    tune = of_notes([60], [0], [16])
    with pytest.raises(ConfigError, match="pixels high"):
        roll_picture([tune] * 500)
    with pytest.raises(ConfigError, match="0 labels"):
        roll_picture(tune, [])
    (path,) = write_music(tune, folder / "a.png")
    with Image.open(path) as image:
        assert image.size[0] == 1120


# The shared collections


@needs_shared
def test_all_bars_of_the_nottingham_tunes_add_up():
    told = []
    found = read_music(SHARED / "nottingham" / "abc" / "slip.abc", note=told.append)
    assert len(found) == 11
    assert not any("add up" in remark for remark in told)


@needs_shared
@pytest.mark.parametrize("number", [2, 8, 13])
def test_abc_and_midi_of_one_tune_agree(number):
    text = (SHARED / "nottingham" / "abc" / "ashover.abc").read_text()
    (tune,) = (t for i, t in enumerate(abc(text)[0], 1) if i == number)
    (other,) = read_music(SHARED / "nottingham" / "midi" / f"ashover{number}.mid")
    assert notes(tune) == notes(other)


@needs_shared
def test_chorales_have_up_to_four_voices():
    found = read_music(SHARED / "jsb-chorales-quarter.json", part="valid", grid=1)
    assert len(found) == 76
    assert all(1 <= len(frame) <= 4 for frame in frames(found[0]))
