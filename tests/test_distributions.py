"""Laws of posteriors, priors and flows."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from workbench.models import _settings
from workbench.nn.flows import KINDS, Flow
from workbench.nn.noise import keyed_noise
from workbench.nn.posteriors import Codes, FlowPosterior, Gaussian, kl
from workbench.nn.priors import PRIORS, GaussianPrior, prior

L, C = 4, 3


def shaken(module, scale=0.2):
    """Away from the identity that flows start as."""
    generator = torch.Generator().manual_seed(1)
    for p in module.parameters():
        p.data += scale * torch.randn(p.shape, generator=generator)
    return module.double().eval()


@pytest.fixture(scope="module")
def latents():
    """Three labelled clusters, 600 latents."""
    c = torch.eye(C).repeat_interleave(200, 0)
    z = keyed_noise(0, range(600), L) * torch.tensor([1.0, 0.5, 0.3, 1.5]) + 2 * c @ keyed_noise(1, range(C), L)
    return z, c


def fitted(kind, latents, conditional=True):
    z, c = latents
    p = prior(kind, L, C if conditional else 0, **({"layers": 2, "hidden": 16} if kind in KINDS else {}))
    p.fit(z, c if conditional else None)
    return shaken(p, 0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [0, 3])
def test_flows_are_bijections_with_the_jacobian_they_say(kind, context):
    flow = shaken(Flow(kind, L, context, layers=3, hidden=16))
    z, c = 2 * keyed_noise(0, range(5), L).double(), keyed_noise(1, range(5), context).double() if context else None
    u, ladj = flow(z, c)
    back, inverse_ladj = flow.inverse(u, c)
    torch.testing.assert_close(back, z)
    torch.testing.assert_close(inverse_ladj, -ladj)
    for i in range(5):
        row = None if c is None else c[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(lambda v, row=row: flow(v, row)[0][0], z[i : i + 1])[:, 0]
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, ladj[i])
    assert ladj.std() > 1e-3  # it is not the identity any more


@pytest.mark.parametrize("kind", KINDS)
def test_flows_start_as_the_identity(kind):
    z = keyed_noise(0, range(5), L)
    u, ladj = Flow(kind, L)(z)
    torch.testing.assert_close(u, z)
    torch.testing.assert_close(ladj, torch.zeros(5), atol=1e-5, rtol=0)


def test_a_flow_of_one_dimension_or_of_no_known_kind_is_refused():
    with pytest.raises(ValueError, match="1 dimension"):
        Flow("realnvp", 1)
    with pytest.raises(ValueError, match="known are realnvp, spline"):
        Flow("glow", 4)


def test_gaussian_divergence_is_the_closed_form():
    q = Gaussian(keyed_noise(0, range(6), L), 0.3 * keyed_noise(1, range(6), L) - 1)
    expected = kl_divergence(Normal(q.mean, q.log_std.exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(q.kl_standard(), expected)
    z = q.sample(keyed_noise(2, range(6), L))
    torch.testing.assert_close(q.log_prob(z), Normal(q.mean, q.log_std.exp()).log_prob(z).sum(1))


def test_flow_posterior_has_the_exact_density_and_the_divergence_of_its_draws():
    base = Gaussian(keyed_noise(0, range(6), L).double(), torch.full((6, L), -1.0).double())
    h = keyed_noise(1, range(6), 5).double()
    flow = shaken(Flow("realnvp", L, 5, layers=2, hidden=8))
    q, noise = FlowPosterior(base, flow, h), keyed_noise(2, range(6), L).double()
    z0 = base.sample(noise)
    z = q.sample(noise)
    for i in range(6):  # change of variables, by the determinant itself
        jacobian = torch.autograd.functional.jacobian(
            lambda v, i=i: flow.inverse(v, h[i : i + 1])[0][0], z0[i : i + 1]
        )[:, 0]
        torch.testing.assert_close(q.log_prob(z)[i], base.log_prob(z0)[i] - torch.linalg.slogdet(jacobian).logabsdet)
    torch.testing.assert_close(q.mean, flow.inverse(base.mean, h)[0])
    expected = (q.log_prob(z) + 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)).mean()
    torch.testing.assert_close(kl(q, z)[0], expected)


def test_free_bits_are_a_floor_for_each_latent():
    mean = torch.zeros(8, L)
    mean[:, 0] = 3.0  # one dimension that says much, the others nothing
    q = Gaussian(mean, torch.zeros(8, L))
    nats, floored = kl(q, mean, free_bits=0.1)
    assert nats.item() == pytest.approx(4.5) and floored.item() == pytest.approx(4.5 + 0.3)


def test_what_is_asked_of_settings_is_what_there_is():
    assert _settings.PRIORS == PRIORS


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("conditional", [True, False])
def test_priors_are_densities(kind, conditional, latents):
    """Importance sampling from a wide Gaussian: every density integrates to one."""
    p = fitted(kind, latents, conditional)
    n = 100_000
    wide = MultivariateNormal(torch.zeros(L).double(), 9.0 * torch.eye(L).double())
    z = keyed_noise(3, range(n), L).double() * 3
    for c in [None, *torch.eye(C).double()] if conditional else [None]:
        with torch.no_grad():
            log_p = p.log_prob(z, None if c is None else c.expand(n, -1))
        assert (log_p - wide.log_prob(z)).exp().mean().item() == pytest.approx(1, abs=0.1), kind


@pytest.mark.parametrize("kind", PRIORS)
def test_draws_have_the_density_that_the_prior_claims(kind, latents):
    """For draws of p itself, E[grad log p] = 0 and log p is about minus its entropy: compared by moments."""
    p = fitted(kind, latents)
    z, c = p.sample(20_000, seed=1), p.labels(20_000, 1)
    again = z.requires_grad_(True)
    (score,) = torch.autograd.grad(p.log_prob(again, c).sum(), again)
    assert score.mean(0).abs().max() < 0.15 and (score * again).mean(0).add(1).abs().max() < 0.15  # Stein's identity


@pytest.mark.parametrize("kind", PRIORS)
def test_a_draw_depends_on_its_seed_and_number_alone(kind, latents):
    p = fitted(kind, latents)
    assert torch.equal(p.labels(50, 1)[:7], p.labels(7, 1))
    torch.testing.assert_close(p.sample(50, seed=1)[:7], p.sample(7, seed=1))
    assert not torch.allclose(p.sample(7, seed=1), p.sample(7, seed=2))


@pytest.mark.parametrize("kind", ["gaussian", "mixture", *KINDS])
def test_a_fitted_prior_explains_latents_better_than_the_standard_one(kind, latents):
    z, c = latents
    richer, plain = fitted(kind, latents), fitted("standard", latents)
    assert richer.log_prob(z.double(), c.double()).mean() > plain.log_prob(z.double()).mean() + 1


@pytest.mark.parametrize("kind", ["gaussian", "mixture", *KINDS])
def test_an_unknown_label_is_the_mean_over_labels(kind, latents):
    p = fitted(kind, latents)
    z = latents[0][:5].double()
    each = torch.stack([p.log_prob(z, r.expand(5, -1)) for r in torch.eye(C).double()])
    torch.testing.assert_close(p.log_prob(z), torch.logsumexp(each, 0) - math.log(C))
    mixed = torch.eye(C).double()[[0, 1, 2, 0, 1]]
    mixed[0] = 0
    torch.testing.assert_close(p.log_prob(z, mixed)[:1], p.log_prob(z)[:1])
    more = torch.cat([mixed, torch.ones(5, 2).double()], 1)  # what a decoder sees beside labels
    assert torch.equal(p.log_prob(z, more), p.log_prob(z, mixed)) and torch.equal(p.sample(5, more), p.sample(5, mixed))


def test_gaussian_prior_of_one_label_is_the_sample_covariance(latents):
    z, _ = latents
    p = GaussianPrior(L)
    p.fit(z, None)
    torch.testing.assert_close((p.roots[0, 0] @ p.roots[0, 0].T), z.T.cov(correction=0), atol=2e-3, rtol=0)


def test_temperature_zero_gives_the_centres_of_the_components(latents):
    p = fitted("mixture", latents)
    z = p.sample(50, torch.eye(C)[[1]].double().expand(50, -1), temperature=0.0)
    assert torch.cdist(z, p.means[1]).min(1).values.max() < 1e-6 and len(z.unique(dim=0)) > 1


def test_keyed_noise_is_normal_and_independent_between_keys():
    a, b = keyed_noise([0, 1], range(20_000), 2), keyed_noise([0, 2], range(20_000), 2)
    assert abs(a.mean()) < 0.02 and abs(a.std() - 1) < 0.02 and abs((a**4).mean() - 3) < 0.15
    assert (a * b).mean().abs() < 0.02 and (a[:-1] * a[1:]).mean().abs() < 0.02
    assert torch.equal(keyed_noise(5, [3, 9], 2)[1:], keyed_noise(5, [9], 2))


def test_a_component_of_a_mixture_stands_for_twelve_clips_however_often_each_was_drawn():
    means = keyed_noise(0, range(30), 8)
    z = means.repeat(4, 1) + 0.1 * keyed_noise(1, range(120), 8)
    p = prior("mixture", 8)
    p.fit(z, None, draws=4)
    assert (p.weights > 1e-6).sum() == 2


def test_a_mixture_keeps_to_a_curve_that_one_gaussian_cannot_follow():
    angle = 6.28 * torch.rand(400, generator=torch.Generator().manual_seed(0))
    z = 3 * torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * keyed_noise(0, range(400), 2)
    off = {}
    for kind in ("gaussian", "mixture", "realnvp"):
        p = prior(kind, 2)
        p.fit(z, None)
        off[kind] = (p.eval().sample(1000).norm(dim=1) - 3).abs().mean().item()
    assert off["mixture"] < 0.4 * off["gaussian"] and off["realnvp"] < 0.4 * off["gaussian"]


def test_a_label_without_clips_means_any_sound(latents):
    p = prior("mixture", L, C)
    p.fit(latents[0], latents[1][:, [0, 1, 1]] * torch.tensor([1.0, 1.0, 0.0]))
    assert p.sample(9, torch.eye(C)[[2]].expand(9, -1)).isfinite().all()


def test_temperature_leaves_the_shares_of_a_mixtures_components(latents):
    p = fitted("mixture", latents, conditional=False)
    cold, warm = (p.sample(4000, seed=2, temperature=t) for t in (0.01, 1.0))
    share = [torch.cdist(z, p.means[0]).argmin(1).bincount(minlength=32) / 4000 for z in (cold, warm)]
    assert (share[0] - p.weights[0]).abs().max() < 0.05


def test_an_unknown_prior_lists_the_known():
    with pytest.raises(ValueError, match="standard, gaussian, mixture, realnvp, spline"):
        prior("vamp", 4)


def test_on_the_way_to_another_posterior_lie_both_ends_and_the_middle():
    flow, h = Flow("realnvp", L, 5, 2, 16), torch.randn(2, 6, 5)
    a, b = (Gaussian(torch.randn(6, L), torch.randn(6, L)) for _ in range(2))
    for p, q in ((a, b), (FlowPosterior(a, flow, h[0]), FlowPosterior(b, flow, h[1]))):
        noise = torch.randn(6, L)
        torch.testing.assert_close(p.interpolate(q, torch.tensor(0.0)).sample(noise), p.sample(noise))
        torch.testing.assert_close(p.interpolate(q, torch.tensor(1.0)).sample(noise), q.sample(noise))
    torch.testing.assert_close(
        a.interpolate(b, torch.tensor(0.5)).log_std.exp().square(), (a.log_std.exp() * b.log_std.exp())
    )
    each = a.interpolate(b, torch.tensor([0.0, 1, 0, 1, 0, 1])[:, None])
    torch.testing.assert_close(each.mean, torch.where(torch.arange(6)[:, None] % 2 == 0, a.mean, b.mean))


def test_codes_mix_as_points_and_count_as_the_nearer():
    a, b = (Codes(torch.full((1, 2, 3), v), torch.full((1, 3), int(v)), 4) for v in (0.0, 3.0))
    mixed = a.interpolate(b, torch.tensor([0.2, 0.5, 0.9]).view(1, 1, 3))
    torch.testing.assert_close(mixed.mean[0, 0], torch.tensor([0.6, 1.5, 2.7]))
    assert mixed.numbers.tolist() == [[0, 3, 3]]
