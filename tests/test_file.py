import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from latente import Autoencoder, load
from latente.errors import DataError, ModelFileError
from latente.file import dump, parse, read


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model, its rows and the bytes of its file."""
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    path = tmp_path_factory.mktemp("file") / "m.safetensors"
    ae = Autoencoder(dim=2, nets={"part": "mlp", "widths": [8]}, steps=5, random_state=0).fit(x)
    ae.save(path)
    return ae, x, path.read_bytes()


def test_two_saves_of_one_model_are_equal_bytes(saved, tmp_path):
    ae, _, data = saved
    ae.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == data
    load(tmp_path / "again.safetensors").save(tmp_path / "third.safetensors")
    assert (tmp_path / "third.safetensors").read_bytes() == data


def test_two_processes_write_equal_bytes(tmp_path):
    code = (
        "import numpy as np, latente as lt, torch; torch.set_num_threads(1)\n"
        "x = np.random.default_rng(0).normal(size=(60, 3))\n"
        "lt.Autoencoder(dim=2, steps=50, random_state=0).fit(x).save({!r})"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", code.format(str(tmp_path / f"{name}.safetensors"))], check=True)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@settings(max_examples=150, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_an_error(saved, position, bit):
    data = bytearray(saved[2])
    data[int(position * len(data))] ^= 1 << bit
    with pytest.raises(ModelFileError):
        parse(bytes(data), "m")


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_an_error(saved, share):
    with pytest.raises(ModelFileError):
        parse(saved[2][: int(share * len(saved[2]))], "m")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_other_bytes_are_an_error(data):
    with pytest.raises(ModelFileError):
        parse(data, "m")


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="there is no model"):
        load(tmp_path / "none.safetensors")


def test_a_foreign_safetensors_file_is_named_so(tmp_path):
    save_file({"x": np.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelFileError, match="not one of latente's"):
        load(tmp_path / "foreign.safetensors")


def changed(saved, tmp_path, change):
    """The model's file with its document changed, and a digest that fits."""
    from safetensors.numpy import load as tensors

    (tmp_path / "m.safetensors").write_bytes(saved[2])
    document, data = read(tmp_path / "m.safetensors")
    change(document)
    (tmp_path / "m.safetensors").write_bytes(dump(document, tensors(data)))
    return tmp_path / "m.safetensors"


def test_an_unknown_part_is_named(saved, tmp_path):
    path = changed(saved, tmp_path, lambda d: d.spec["latent"].update(part="gausian"))
    with pytest.raises(ModelFileError, match="no latent called 'gausian'"):
        load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.spec["latent"].update(dim=3),
        lambda d: d.spec["nets"].update(widths=[9]),
        lambda d: d.schema["columns"].pop(),
        lambda d: d.schema.update(columns=[]),
        lambda d: d.schema.update(columns=[{"role": "kind", "part": "table"}]),
        lambda d: d.schema.update(part="image"),
        lambda d: d.spec.clear() or d.spec.update(latent=None, objective=3),
        lambda d: d.card.update(components="many"),
    ],
)
def test_a_document_that_does_not_fit_its_tensors_is_an_error(saved, tmp_path, change):
    with pytest.raises(ModelFileError):
        load(changed(saved, tmp_path, change))


def test_a_newer_format_is_named(saved, tmp_path):
    text = saved[2].replace(b'\\"format\\": 1', b'\\"format\\": 2')
    (tmp_path / "m.safetensors").write_bytes(text)
    with pytest.raises(ModelFileError, match="format 2"):
        load(tmp_path / "m.safetensors")


def test_no_row_of_the_training_data_is_in_the_file(people, tmp_path):
    ae = Autoencoder(dim=2, steps=5, random_state=0).fit(people)
    ae.save(tmp_path / "m.safetensors")
    data = (tmp_path / "m.safetensors").read_bytes()
    assert b"person 7" not in data
    incomes = people["income"].dropna().sort_values().iloc[1:-1]
    found = sum(str(v).encode() in data for v in incomes.head(100))
    assert found <= 1, "a value may coincide with a digit of some number, a hundred cannot"


def test_the_golden_file_loads_and_gives_its_numbers(golden):
    ae = load(golden)
    expected = json.loads(golden.with_suffix(".json").read_text())
    # Sums of a few dozen float32 products differ in their last digits between processors.
    assert ae.transform([expected["row"]])[0].tolist() == pytest.approx(expected["code"], rel=1e-4, abs=1e-5)


def test_a_loaded_model_can_be_fitted_again(saved, tmp_path):
    ae, x, data = saved
    (tmp_path / "m.safetensors").write_bytes(data)
    again = load(tmp_path / "m.safetensors")
    assert np.array_equal(again.fit(x).transform(x), ae.transform(x))
