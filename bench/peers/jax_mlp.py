"""The cost of the same model in JAX at its best: data resident, an epoch as one jitted `lax.scan` over its batches.

ENV/bin/python jax_mlp.py --data train.npy --test test.npy --batch 128

ENV is made from bench/requirements-jax.txt. float32; Adam of optax at 1e-3. Compilation is timed apart (`compile_s`)
and not counted; the rows left over after the last whole batch are left out (96 of 60,000), as a scan has one shape.
"""

import argparse
import json
import os
import resource
import time

os.environ.setdefault("OMP_NUM_THREADS", "2")

import jax
import jax.numpy as jnp
import numpy as np
import optax

PIXELS, DIM = 784, 16
SIZES = {"e0": (PIXELS, 512), "e1": (512, 256), "head": (256, 2 * DIM)}
SIZES |= {"d0": (DIM, 256), "d1": (256, 512), "d2": (512, PIXELS)}


def spent() -> np.ndarray:
    """Seconds so far: CPU of this process and its finished children, and wall clock. [2]"""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.process_time() + children.ru_utime + children.ru_stime, time.perf_counter()])


def linear(weights, name, h):
    w, b = weights[name]
    return h @ w + b


def loss(weights, x, key):
    """−ELBO, mean over the rows, from one posterior draw each."""
    h = jax.nn.relu(linear(weights, "e0", x))
    h = jax.nn.relu(linear(weights, "e1", h))
    mean, log_var = jnp.split(linear(weights, "head", h), 2, -1)
    z = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
    h = jax.nn.relu(linear(weights, "d0", z))
    h = jax.nn.relu(linear(weights, "d1", h))
    logits = linear(weights, "d2", h)
    rec = (jax.nn.softplus(logits) - x * logits).sum()
    kl = -0.5 * (1 + log_var - mean**2 - jnp.exp(log_var)).sum()
    return (rec + kl) / len(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind, default in (("data", str, None), ("test", str, None), ("batch", int, 128), ("seed", int, 0)):
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()
    rows = jax.device_put(np.load(args.data))
    keys = jax.random.split(jax.random.key(args.seed), len(SIZES) + 1)
    weights = {}
    for key, (name, (a, b)) in zip(keys, SIZES.items(), strict=False):  # torch's initial weights
        k1, k2, bound = *jax.random.split(key), a**-0.5
        weights[name] = (
            jax.random.uniform(k1, (a, b), minval=-bound, maxval=bound),
            jax.random.uniform(k2, (b,), minval=-bound, maxval=bound),
        )
    optimiser = optax.adam(1e-3)
    state = optimiser.init(weights)
    steps = len(rows) // args.batch

    def step(carry, now):
        weights, state = carry
        index, key = now
        x = rows[index].astype(jnp.float32) / 255
        value, gradients = jax.value_and_grad(loss)(weights, x, key)
        updates, state = optimiser.update(gradients, state)
        return (optax.apply_updates(weights, updates), state), value

    def epoch(weights, state, key):
        order = jax.random.permutation(key, len(rows))[: steps * args.batch].reshape(steps, args.batch)
        return jax.lax.scan(step, (weights, state), (order, jax.random.split(key, steps)))

    start = time.perf_counter()
    compiled = jax.jit(epoch).lower(weights, state, keys[-1]).compile()
    compile_s = time.perf_counter() - start
    start = spent()
    for i in range(args.epochs):
        (weights, state), _ = jax.block_until_ready(compiled(weights, state, jax.random.fold_in(keys[-1], i)))
    cpu, wall = spent() - start
    test = jnp.asarray(np.load(args.test), jnp.float32).reshape(-1, 1000, PIXELS) / 255
    evaluate = jax.jit(loss)
    bound = float(np.mean([evaluate(weights, x, keys[-1]) for x in test]))
    record = {"cpu_s": round(cpu, 3), "wall_s": round(wall, 3), "neg_elbo": round(bound, 3), "batch": args.batch}
    print(json.dumps(record | {"compile_s": round(compile_s, 3), "jax": jax.__version__}))


if __name__ == "__main__":
    main()
