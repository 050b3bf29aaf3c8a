import json

import pytest

from latente import parts
from latente.errors import ConfigError
from latente.model.objectives.elbo import Elbo
from latente.model.spec import Spec, recipe, recipes

EVERY = [(role, name) for role in parts.FOLDERS for name in parts.names(role)]


@pytest.mark.parametrize(("role", "name"), EVERY)
def test_every_part_survives_a_trip_through_json(role, name):
    cls = parts.find(role, name)
    part = cls()
    assert parts.from_json(role, json.loads(json.dumps(parts.to_json(part)))) == part


@pytest.mark.parametrize(("role", "name"), EVERY)
def test_every_part_is_frozen_and_documented(role, name):
    cls = parts.find(role, name)
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}("), "a dataclass's own signature is no documentation"
    assert cls.__dataclass_params__.frozen


def test_an_unknown_part_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="there is no objective called 'elob'") as caught:
        parts.from_json("objective", "elob")
    assert caught.value.hint == "did you mean 'elbo'?"


def test_an_unknown_setting_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="objective 'elbo' has no setting 'betta'") as caught:
        parts.from_json("objective", {"part": "elbo", "betta": 4})
    assert caught.value.hint == "did you mean 'beta'?"


@pytest.mark.parametrize("value", ["4", None, [4], True])
def test_a_setting_of_another_type_is_refused(value):
    with pytest.raises(ConfigError, match="beta of objective 'elbo' must be float"):
        parts.from_json("objective", {"part": "elbo", "beta": value})


@pytest.mark.parametrize(
    ("setting", "rule"), [("beta", r"between 0 and 1e\+30"), ("free_bits", r"between 0 and 1e\+30")]
)
def test_a_setting_out_of_range_is_refused_by_rule_and_value(setting, rule):
    with pytest.raises(ConfigError, match=f"{setting} of objective 'elbo' must be {rule}, not -1"):
        parts.from_json("objective", {"part": "elbo", setting: -1})


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_survives_a_trip_through_json(name):
    spec = recipe(name)
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_recipe_file_is_the_spec_key_by_key(tmp_path):
    (tmp_path / "mine.toml").write_text(
        'kind = "table"\n[latent]\npart = "gaussian"\ndim = 10\n[objective]\npart = "elbo"\nbeta = 6.0\n'
        "[train]\nsteps = 20_000\nbatch_size = 256\n"
    )
    spec = recipe(str(tmp_path / "mine.toml"))
    assert (spec.latent.dim, spec.objective.beta, spec.train.steps) == (10, 6.0, 20_000)
    (tmp_path / "odd.toml").write_text("widht = 3\n")
    with pytest.raises(ConfigError, match="no key 'widht'"):
        recipe(str(tmp_path / "odd.toml"))


def test_one_setting_is_overridden_by_its_path():
    assert recipe("vae").override("objective.beta", 4).objective == Elbo(beta=4.0)
    with pytest.raises(ConfigError, match="corruption"):
        recipe("vae").override("corruption.share", 0.5)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        recipe("beta_vae")
    assert caught.value.hint == "did you mean 'beta-vae'?"


def test_a_hint_is_what_can_be_typed():
    with pytest.raises(ConfigError, match=r"hint: --set objective.beta=2"):
        recipe("vae").override("beta", 2)
    with pytest.raises(ConfigError, match="did you mean 'vae'"):
        recipe("VAE")
    with pytest.raises(ConfigError, match="known: ae"):
        recipe("nowhere.toml")
