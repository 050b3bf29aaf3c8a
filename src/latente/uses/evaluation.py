"""The numbers of `evaluate`."""

from typing import Any

import numpy as np
import torch

from ..errors import ConfigError
from ..estimator import Autoencoder
from ..model.estimates import bounds
from ..model.latents.codes import usage
from ..training import baseline
from ..training.doctor import active_units


def evaluate(ae: Autoencoder, data: Any, samples: int, seed: int) -> dict[str, Any]:
    """See `latente.evaluate`."""
    if samples < 1:
        raise ConfigError(f"samples must be 1 or more, not {samples}")
    generator = torch.Generator().manual_seed(seed)
    parts, codes, volume = [], [], []
    by_dim: list[torch.Tensor] = []  # the KL of each row and dimension, where it has a closed form
    density = True
    model_error = pca_error = spread = 0.0
    for batch in ae.batches(data):
        parts.append(bounds(ae.model_, batch, samples, generator))
        with torch.no_grad():
            q = ae.model_.encode(batch)
            kl_dims = ae.model_.prior().kl_dims(q) if q.has_density else None
        codes.append(q.mean)
        density = q.has_density or q.discrete
        by_dim += [] if kl_dims is None else [kl_dims]
        volume.append(ae.schema_.log_volume(batch))
        x, expected = baseline.features(ae.model_, batch)
        model_error += float(np.square(x - expected).sum())
        pca_error += float(np.square(ae._baseline.residual(x)).sum())
        spread += float(np.square(x - ae._baseline.mean).sum())
    log_p, rec, kl = (torch.cat([getattr(p, name) for p in parts]).double() for name in ("log_p", "rec", "kl"))
    n = len(log_p)
    figures: dict[str, Any] = {"rows": n, "dim": ae._n_features_out}
    if density:
        figures |= {
            "neg_elbo": float((rec + kl).mean()),
            "iw_nll": float(-log_p.mean()),
            "iw_nll_se": float(log_p.std() / max(n, 1) ** 0.5) if n > 1 else 0.0,
            "iw_samples": samples if q.has_density else 1,
        }
    figures |= {"rec": float(rec.mean())}
    figures |= {"kl": float(kl.mean())} if density else {}
    figures |= usage(ae.model_, torch.cat(codes))
    if by_dim:
        figures["kl_by_dim"] = [round(v, 3) for v in torch.cat(by_dim).double().mean(0).tolist()]
    figures |= {
        "active_units": active_units(torch.cat(codes)),
        "error": model_error / max(spread, 1e-12),
        "error_pca": pca_error / max(spread, 1e-12),
        "pca_components": len(ae._baseline.components),
        "log_volume": float(torch.cat(volume).mean()),
        "units": "nats per row; subtract log_volume for densities in the data's own units",
    }
    return figures
