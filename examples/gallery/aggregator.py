"""An API that asks other APIs: FastAPI, a time limit for each of them, and ranking that computes.

    python examples/gallery/aggregator.py [--serve 8000]

`GET /offers/{product}` asks all shops at the same time and ranks what they answer. A shop that is late or broken costs
the answer its own offers and nobody's time: `task_timeout` ends its call alone, and `on_error="return"` puts the error
in its place. Ranking is pure Python and would hold up every other request of this server if it ran on its loop, so
`await executor.submit(...)` gives it to the executor, which finds out what suits it.

Without `--serve` it starts three shops and itself, asks itself for a few products and shows what came of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request

import forkright as fr

LIMIT = 0.5
Offer = dict[str, Any]


def rank(offers: list[Offer], rounds: int) -> list[Offer]:
    """The offers, best first, by a score that takes some computing: how price, stock and distance weigh up."""

    def score(offer: Offer) -> float:
        total = 0.0
        for step in range(rounds):
            weight = step / rounds
            total += weight / offer["price"] + (1 - weight) * math.log1p(offer["stock"]) / offer["days"]
        return total / rounds

    return sorted(({**offer, "score": round(score(offer), 4)} for offer in offers), key=lambda it: -it["score"])


def make_app(shops: list[str], rounds: int = 20_000) -> FastAPI:
    """The aggregator, for shops at these addresses."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx.AsyncClient() as app.state.client:
            with fr.Executor() as app.state.executor:
                yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/offers/{product}")
    async def offers(product: int, request: Request) -> dict[str, Any]:
        client: httpx.AsyncClient = request.app.state.client
        executor: fr.Executor = request.app.state.executor

        async def ask(shop: str) -> list[Offer]:
            answer = await client.get(f"{shop}/products/{product}")
            answer.raise_for_status()
            return [{**offer, "shop": shop} for offer in answer.json()]

        answers = await fr.amap(ask, shops, task_timeout=LIMIT, on_error="return")
        asked = list(zip(shops, answers, strict=True))
        known = [offer for _, answer in asked if not isinstance(answer, BaseException) for offer in answer]
        return {
            "offers": await executor.submit(rank, known, rounds),
            "missing": {shop: type(answer).__name__ for shop, answer in asked if isinstance(answer, BaseException)},
        }

    @app.get("/report")
    async def report(request: Request) -> dict[str, str]:
        """Where ranking ran so far, and why."""
        return {"report": str(request.app.state.executor.report())}

    return app


def make_shop(delay: float, fails: bool = False) -> FastAPI:
    """A shop for want of real ones: answers after a while, or not at all."""
    app = FastAPI()

    @app.get("/products/{product}")
    async def offers(product: int) -> list[Offer]:
        await asyncio.sleep(delay)
        if fails:
            raise RuntimeError("this shop is broken")
        return [{"price": 10 + product * n % 7, "stock": n * 3, "days": 1 + n % 4} for n in range(1, 9)]

    return app


@contextlib.asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[str]:
    """Serves an app on this loop while the block runs; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        task = asyncio.create_task(server.serve(sockets=[door]))
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def show(requests: int, rounds: int) -> None:
    """A few requests at a time, to a real server that asks real servers."""
    async with contextlib.AsyncExitStack() as stack:
        kinds = [make_shop(0.05), make_shop(0.1), make_shop(30.0), make_shop(0.02, fails=True)]
        shops = [await stack.enter_async_context(running(shop)) for shop in kinds]
        address = await stack.enter_async_context(running(make_app(shops, rounds)))
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        answers = await asyncio.gather(*(client.get(f"{address}/offers/{n}") for n in range(1, requests + 1)))
        for number, answer in enumerate(answers[:3], 1):
            best, missing = answer.json()["offers"][0], sorted(answer.json()["missing"].values())
            print(f"product {number}: {best['price']} from shop {shops.index(best['shop'])}, missing: {missing}")
        print(f"{sum(answer.status_code == 200 for answer in answers)} of {requests} requests were answered")
        print((await client.get(f"{address}/report")).json()["report"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Asks shops for offers and ranks them.")
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve for others, with the shops given")
    parser.add_argument("--shop", action="append", default=[], help="the address of a shop; may be repeated")
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=20_000, help="how long ranking takes")
    options = parser.parse_args()
    if options.serve:
        uvicorn.run(make_app(options.shop, options.rounds), port=options.serve)
    else:
        asyncio.run(show(options.requests, options.rounds))


if __name__ == "__main__":
    main()
