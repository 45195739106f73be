"""Monte Carlo option pricing: paths of a share price, the mean of what an option pays, and how sure that is.

    python examples/gallery/options.py [--paths 2000000] [--seed 42]

A European call has a price in closed form (Black and Scholes), so the simulation can be held against it. An Asian
call, which pays by the average of the path, has none: there the simulation is all there is. `seed=` gives each task a
generator of its own, so the prices are the same on any number of workers, threads or processes. NumPy draws and adds
without the GIL: expect threads.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np

import forkright as fr


@dataclass(frozen=True)
class Market:
    """A share and its surroundings; rates and volatility are for a year."""

    spot: float = 100.0
    rate: float = 0.03
    volatility: float = 0.2
    years: float = 1.0
    dates: int = 52


@dataclass(frozen=True)
class Sums:
    """Of what the calls at each strike paid: the sums over the paths, and those of the squares."""

    paths: int
    european: np.ndarray
    european_squared: np.ndarray
    asian: np.ndarray
    asian_squared: np.ndarray


STRIKES = np.array([80.0, 90.0, 100.0, 110.0, 120.0])


def simulate(market: Market, paths: int, *, rng: np.random.Generator) -> Sums:
    """So many paths of the share, each looked at on so many dates, and what the options paid on them."""
    step = market.years / market.dates
    drift = (market.rate - market.volatility**2 / 2) * step
    moves = drift + market.volatility * math.sqrt(step) * rng.standard_normal((market.dates, paths))
    prices = market.spot * np.exp(np.cumsum(moves, axis=0))
    discount = math.exp(-market.rate * market.years)
    european = discount * np.maximum(prices[-1] - STRIKES[:, None], 0.0)
    asian = discount * np.maximum(prices.mean(axis=0) - STRIKES[:, None], 0.0)
    return Sums(paths, european.sum(1), (european**2).sum(1), asian.sum(1), (asian**2).sum(1))


def estimate(sums: list[np.ndarray], squares: list[np.ndarray], paths: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean over all paths, and its standard error."""
    mean = np.sum(sums, axis=0) / paths
    return mean, np.sqrt(np.maximum(np.sum(squares, axis=0) / paths - mean**2, 0.0) / (paths - 1))


def black_scholes(market: Market, strike: float) -> float:
    """The price of a European call in closed form."""
    spread = market.volatility * math.sqrt(market.years)
    upper = (math.log(market.spot / strike) + market.rate * market.years) / spread + spread / 2
    sure = strike * math.exp(-market.rate * market.years)
    return market.spot * normal(upper) - sure * normal(upper - spread)


def normal(x: float) -> float:
    """The share of a normal distribution that lies below `x`."""
    return math.erfc(-x / math.sqrt(2)) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Prices call options by simulation.")
    parser.add_argument("--paths", type=int, default=1_000_000)
    parser.add_argument("--chunk", type=int, default=20_000, help="paths of one task")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--plan", default="auto", help="where to simulate; the prices do not depend on it")
    options = parser.parse_args()

    market = Market()
    tasks = max(1, options.paths // options.chunk)
    parts = fr.starmap(simulate, [(market, options.chunk)] * tasks, seed=options.seed, plan=options.plan)
    paths = sum(part.paths for part in parts)
    european, error = estimate([it.european for it in parts], [it.european_squared for it in parts], paths)
    asian, asian_error = estimate([it.asian for it in parts], [it.asian_squared for it in parts], paths)

    print(f"{paths:,} paths of {market.dates} weeks")
    print("strike   European call     closed form   off, in errors   Asian call")
    for strike, *row in zip(STRIKES, european, error, asian, asian_error, strict=True):
        exact = black_scholes(market, strike)
        simulated = f"{row[0]:8.4f} ± {row[1]:.4f}  {exact:10.4f}  {(row[0] - exact) / row[1]:+15.1f}"
        print(f"{strike:6.0f}  {simulated}  {row[2]:8.4f} ± {row[3]:.4f}")
    print(fr.report())


if __name__ == "__main__":
    main()
