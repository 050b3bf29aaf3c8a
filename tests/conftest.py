"""Data that many tests share: small, made here, with a known structure."""

import numpy as np
import pandas as pd
import pytest
import torch

# Two xdist workers share two cores; and sums over threads must not differ between a lone run and a shared one.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def people() -> pd.DataFrame:
    """A mixed table of 300 rows: numbers, integers, booleans, levels, dates, gaps, a constant, a unique name."""
    rng = np.random.default_rng(0)
    n = 300
    age = rng.integers(18, 90, n)
    plan = np.where(age > 60, "gold", rng.choice(["basic", "plus"], n))
    frame = pd.DataFrame(
        {
            "age": age,
            "income": np.exp(rng.normal(8 + age / 50, 0.5)).round(2),
            "plan": plan,
            "sex": pd.Categorical(rng.choice(["f", "m"], n), categories=["m", "f", "x"]),
            "active": rng.random(n) < 0.7,
            "joined": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, n), "D"),
            "country": "ES",
            "name": [f"person {i}" for i in range(n)],
        }
    )
    frame.loc[rng.random(n) < 0.1, "income"] = np.nan
    frame.loc[rng.random(n) < 0.1, "plan"] = None
    return frame


@pytest.fixture(scope="session")
def dots() -> np.ndarray:
    """400 pictures of 8×8 pixels with one bright blob in one of many places. uint8 [400, 8, 8]"""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    centre = rng.uniform(2, 6, (400, 2, 1, 1))
    blob = np.exp(-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / 3)
    return (blob * 255).astype(np.uint8)


@pytest.fixture(scope="session")
def golden():
    """A model file of format 1, made once and kept in the repository."""
    from pathlib import Path

    return Path(__file__).parent / "golden" / "format-1.safetensors"
