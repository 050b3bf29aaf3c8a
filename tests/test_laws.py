"""Laws that every part keeps, over the registry: a new part is tested without an edit here."""

import numpy as np
import pytest
import torch

from latente import Autoencoder, load, parts, recipes
from latente.errors import ConfigError, LatenteError
from latente.kinds.base import infer
from latente.model.batch import Batch
from latente.model.objectives.elbo import Elbo
from latente.model.priors.base import Host
from latente.model.spec import recipe

LATENTS, PRIORS = parts.names("latent"), parts.names("prior")
# Likelihoods of one row of cells, as a kind would build them.
PICTURE = (1, 4, 4)
SHAPES = {
    "discretised-logistic": PICTURE,
    "discretised-logistic-mixture": PICTURE,
    "autoregressive": PICTURE,
    "categorical": (2,),
    "chain": (2,),
}
# Likelihoods of a row are made for its columns: of these the settings are numbers of levels.
COLUMNS = {"categorical": ((3, 4),), "chain": ((3, 40), (False, True))}


def built(name):
    if name == "mixed":
        part = parts.find("likelihood", "mixed")(
            (((1,), parts.find("likelihood", "gaussian")()), ((0, 2), parts.find("likelihood", "categorical")((3, 4))))
        )
        return part.build((3,)).eval(), (3,)
    part = parts.find("likelihood", name)
    part = part(*COLUMNS.get(name, ()))
    shape = SHAPES.get(name, (3,))
    return part.build(shape).eval(), shape  # as a fitted model has it


@pytest.mark.parametrize("name", parts.names("likelihood"))
def test_every_likelihood_scores_its_own_draws_in_the_right_shape(name):
    likelihood, shape = built(name)
    params = torch.randn(2, 50, *likelihood.out_shape, generator=torch.Generator().manual_seed(0))
    px = likelihood(params)
    draw = px.sample(torch.Generator().manual_seed(1))
    assert draw.shape == px.mean.shape == px.mode.shape == (2, 50, *shape)
    cells = px.cells(draw[0])
    assert cells.shape == (2, 50, *shape)
    assert torch.isfinite(cells).all()
    assert likelihood.continuous.shape == shape


@pytest.mark.parametrize("name", parts.names("likelihood"))
def test_no_value_scores_higher_than_the_mode(name):
    likelihood, _ = built(name)
    px = likelihood(torch.randn(1, 200, *likelihood.out_shape, generator=torch.Generator().manual_seed(0)))
    draw = px.sample(torch.Generator().manual_seed(1))[0]
    # The logistic's mode is its mean rounded to a level, where the mass of the end levels may win.
    slack = 1.0 if name == "discretised-logistic" else 1e-5
    if name in ("autoregressive", "chain", "tokens"):
        # Of a chain the law holds up to the first cell where the two part: from there on they are not of one past.
        apart = (draw != px.mode[0]).flatten(1).int()
        inner = (apart.cumsum(1) - apart == 0).float().reshape(draw.shape)
    elif name == "discretised-logistic":
        inner = ((px.mode[0] > 0.02) & (px.mode[0] < 0.98) & (draw > 0.02) & (draw < 0.98)).float()
    else:
        inner = torch.ones_like(draw)
    if name == "multinomial":  # its cells depend on each other: of rows with the mode's own sum, 1
        alike = draw.sum(-1) == 1
        assert alike.sum() > 10
        assert (px.cells(draw).sum(-1) <= px.cells(px.mode[0]).sum(-1) + 1e-5)[0, alike].all()
        return
    assert (((px.cells(draw) - px.cells(px.mode[0])) * inner) <= slack).all()


@pytest.mark.parametrize("name", parts.names("likelihood"))
def test_features_and_cells_of_a_likelihood_are_inverses(name):
    likelihood, _ = built(name)
    px = likelihood(torch.randn(1, 20, *likelihood.out_shape, generator=torch.Generator().manual_seed(0)))
    x = px.sample(torch.Generator().manual_seed(1))[0]
    features = likelihood.features(x).flatten(1)
    assert px.expectation.shape[-1] == features.shape[1]
    if name in ("multinomial", "negative-binomial"):
        # Of a row brought to the usual sum: how large it was is not in them.
        assert torch.allclose(likelihood.features(3 * x), features, atol=1e-6)
        return
    if name == "log-gaussian":
        assert torch.allclose(torch.expm1(features), x, rtol=1e-5)
        return
    if not likelihood.whole:
        # Counts of tokens: their order is not in them.
        assert torch.equal(likelihood.features(x.flip(1)), features)
        return
    assert torch.equal(likelihood.from_features(features), x)


def support(role, name):
    """What a latent gives, or a prior is over."""
    return getattr(parts.find(role, name), "support", "numbers")


def mixes(latent):
    """Whether q(z|x) can be a component of a prior."""
    return getattr(parts.find("latent", latent), "mixes", True)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("latent", LATENTS)
def test_every_latent_learns_with_every_prior_or_the_pair_is_refused_with_a_way_out(latent, prior, tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 3))
    ae = Autoencoder("ae", latent={"part": latent, "dim": 2}, prior=prior, steps=30, random_state=0)
    mixed = getattr(parts.find("prior", prior), "mixes", False)
    if support("latent", latent) != support("prior", prior) or (mixed and not mixes(latent)):
        with pytest.raises(ConfigError, match=rf"'({latent}|{prior})'.*'({latent}|{prior})'.*\n\nhint: --set prior="):
            ae.fit(x)
        return
    ae.fit(x)
    ae.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert np.array_equal(ae.transform(x), again.transform(x))
    assert np.array_equal(ae.sample(5, random_state=1), again.sample(5, random_state=1))
    assert np.isfinite(ae.sample(50)).all()


@pytest.mark.parametrize("prior", [p for p in PRIORS if support("prior", p) == "numbers" and p != "vamp"])
def test_a_priors_density_is_that_of_its_draws(prior):
    from latente.model.priors.standard import Standard

    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = parts.find("prior", prior)().build(Host(1))
    codes = torch.randn(2000, 1, generator=generator) * 0.5 + 1.0
    if module.fitted_afterwards:
        module.fit(codes, generator)
    with torch.no_grad():
        grid = torch.linspace(-12, 12, 4001)[:, None]
        mass = module.log_prob(grid).exp().sum().item() * 24 / 4000
        mean = (module.log_prob(grid).exp() * grid[:, 0]).sum().item() * 24 / 4000
        draws = module.sample(20_000, generator)
    assert mass == pytest.approx(1.0, abs=1e-3)
    assert draws.mean().item() == pytest.approx(mean, abs=0.05)  # 5 standard errors of a mean of 20,000
    assert isinstance(Standard(), parts.find("prior", "standard"))


@pytest.mark.parametrize("name", parts.names("objective"))
def test_every_objective_learns_the_line_in_the_data(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 1)) @ np.ones((1, 4)) + 0.1 * rng.normal(size=(600, 4))
    x *= [1.0, 10.0, 100.0, 0.1]  # units must not matter
    latent = {"part": "gaussian", "dim": 2}
    ae = Autoencoder("vae", objective=name, latent=latent, steps=600, lr=1e-2, random_state=0).fit(x)
    if name in ("elbo", "iwae"):
        ae.model_.generator = torch.Generator().manual_seed(0)
        bound = Elbo()(ae.model_, next(ae.batches(x))).total.item()
        independent = 4 * 0.5 * np.log(2 * np.pi * np.e)  # 5.68 nats per row, columns apart
        assert bound < independent - 3.0  # the exact gain for this line is 6.23 nats
    # All but a hundredth of the variance lies on the line, and one dimension is enough for it.
    error = np.square(ae.inverse_transform(ae.transform(x)) - x).sum(0) / np.square(x - x.mean(0)).sum(0)
    assert error.max() < 0.1


@pytest.mark.parametrize("name", parts.names("corruption"))
def test_every_corruption_changes_what_is_seen_and_leaves_the_rows_as_they_were(name):
    corrupt = parts.find("corruption", name)()
    pictures = getattr(corrupt, "pictures", False)
    x = torch.randn(*((50, 1, 8, 8) if pictures else (500, 4)), generator=torch.Generator().manual_seed(0))
    numbers = torch.ones(1, 8, 8, dtype=torch.bool) if pictures else torch.tensor([True, True, True, False])
    before = x.clone()
    seen = corrupt(Batch(x), numbers, torch.Generator().manual_seed(1))
    assert torch.equal(x, before)
    changed = (seen.x != x) if seen.observed is None else ~seen.observed
    assert 0.02 < changed.float().mean() <= 1
    again = corrupt(Batch(x), numbers, torch.Generator().manual_seed(1))
    assert torch.equal(again.x, seen.x)


@pytest.mark.parametrize("data", ["people", "dots"])
@pytest.mark.parametrize("name", recipes())
def test_every_recipe_fits_samples_and_saves(name, data, request, tmp_path):
    raw = request.getfixturevalue(data)
    ae = Autoencoder(name, dim=3, steps=40, random_state=0)
    if recipe(name).kind is not None and infer(raw) != recipe(name).kind.name:
        with pytest.raises(
            LatenteError, match=rf"recipe {name!r} is for data of kind '{recipe(name).kind.name}'.*\n\nhint: --recipe"
        ):
            ae.fit(raw)
        return
    if recipe(name).asks:
        with pytest.raises(LatenteError, match=r"sets '.*' of its kind, which kind '.*' does not have"):
            ae.fit(raw)
        return
    ae.fit(raw)
    new = ae.sample(20, random_state=1)
    ae.save(tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert np.array_equal(ae.transform(raw), again.transform(raw))
    assert np.array_equal(ae.score_samples(raw), again.score_samples(raw))
    if data == "people":
        assert list(new.columns) == list(raw.columns)
        assert again.sample(20, random_state=1).equals(new)
    else:
        assert new.shape == (20, 8, 8)
        assert np.array_equal(again.sample(20, random_state=1), new)


@pytest.mark.parametrize("name", parts.names("objective"))
def test_every_objective_takes_gaps_and_levels(name, people):
    ae = Autoencoder("vae", objective=name, dim=2, steps=20, random_state=0).fit(people)
    assert np.isfinite(ae.transform(people)).all()
    assert np.isfinite(list(ae.history_.rows[-1]["train"].values()) if ae.history_.rows else [0.0]).all()


def test_an_objective_that_needs_a_density_is_refused_on_a_point():
    with pytest.raises(LatenteError, match="needs log q"):
        Autoencoder("ae", objective="iwae", steps=2).fit(np.random.default_rng(0).normal(size=(50, 3)))


@pytest.mark.parametrize("nets", parts.names("nets"))
def test_every_nets_part_takes_pictures_of_odd_sizes(nets):
    x = np.random.default_rng(0).integers(0, 255, (60, 11, 7, 3), dtype=np.uint8)
    ae = Autoencoder("ae", nets=nets, dim=2, steps=2, random_state=0).fit(x)
    assert ae.inverse_transform(ae.transform(x)).shape == x.shape


def test_what_no_kind_accepts_is_refused():
    with pytest.raises(LatenteError, match="no kind of data"):
        infer(np.zeros((2, 3, 4, 5, 6)))
