"""Use Dynamo's real objects: the handle of the unified backend, and the load publisher.

Dynamo's sample engine runs in a real runtime, with discovery in memory, and its page is scraped.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import prometheus_client

from mpmetrics.engines import StatLoggerFactory, setup_metrics_collection
from mpmetrics.engines.dynamo.runtime_pages import PAGES
from tests.upstream.configuration import load
from tests.upstream.reporting import compare, count, differ
from tests.workers import run_to_end

SECONDS: Final = 60
NAME: Final = "vllm:requests_total"


def make_model(directory: Path) -> None:
    """Write a model without weights, of which Dynamo reads the tokenizer and the settings."""
    tokenizers = load("tokenizers")
    words = {"<unk>": 0, "</s>": 1, "a": 2}
    model = tokenizers.models.WordLevel(words, unk_token="<unk>")
    tokenizers.Tokenizer(model).save(str(directory / "tokenizer.json"))
    settings: dict[str, dict[str, Any]] = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": 3,
            "max_position_embeddings": 128,
            "eos_token_id": 1,
            "bos_token_id": 1,
        },
        "generation_config.json": {"eos_token_id": 1},
        "tokenizer_config.json": {
            "eos_token": "</s>",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": "{{ messages }}",
        },
    }
    for name, values in settings.items():
        (directory / name).write_text(json.dumps(values))


def find_port() -> int:
    """Return a free port below 32,768: Dynamo reads the number into 16 bits with a sign."""
    for port in range(20_000 + os.getpid() % 10_000, 1 << 15):
        with socket.socket() as found:
            if found.connect_ex(("127.0.0.1", port)):
                return port
    message = "there is no free port"
    raise RuntimeError(message)


def scrape(port: int) -> list[str]:
    """Return the lines of the page of the runtime, once it has our family."""
    end = time.monotonic() + SECONDS
    lines: list[str] = []
    while time.monotonic() < end:
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
                lines = page.read().decode().splitlines()
        except OSError:
            lines = []
        if any(line.startswith(NAME) for line in lines):
            break
        time.sleep(0.2)  # Dynamo says nowhere that its server listens
    return lines


def run_backend(model: str, port: int) -> None:
    """Run the sample engine with our set-up in its hook, and compare what its page shows."""
    prometheus_client.Counter("vllm:requests", "Requests", ["kind"]).labels("a").inc(3)
    given: dict[str, Any] = {}

    class Engine(load("dynamo.common.backend.sample_engine").SampleLLMEngine):  # type: ignore[misc]
        async def register_prometheus(self, metrics: Any) -> None:
            given["labels"] = dict(metrics.auto_labels)
            given["setup"] = setup_metrics_collection(metrics)
            given["again"] = setup_metrics_collection(metrics, include="other:")

    def watch() -> None:
        given["lines"] = scrape(port)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    load("dynamo.common.backend.run").run(
        Engine,
        [
            *("--discovery-backend", "mem", "--event-plane", "zmq", "--disable-kv-routing"),
            *("--model-name", model),
        ],
    )
    shown = [line for line in given.get("lines", ()) if line.startswith(NAME)]
    labels = {**given["labels"], "kind": "a"}
    listed = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    compare("the page", [f"{NAME}{{{listed}}} 3.0"], shown)
    compare("the pages of a runtime", 1, len(PAGES))
    count(f"a handle with {len(given['labels'])} labels")


async def publish() -> None:
    """Publish load by Dynamo's own publisher, for an endpoint alone."""
    runtime = load("dynamo.runtime").DistributedRuntime(asyncio.get_running_loop(), "mem", "tcp")
    endpoint = runtime.endpoint("my-ns.backend.generate")
    loggers = StatLoggerFactory(endpoint, observer_timeout=SECONDS)
    logger = loggers(None, 0)
    await asyncio.gather(*loggers._connecting)
    loggers.set_num_gpu_blocks_all(10)
    loggers.init_publish()
    kind = load("dynamo.llm").WorkerMetricsPublisher
    if not isinstance(logger.publisher, kind):
        differ(f"an endpoint alone publishes by {logger.publisher!r}")
    compare("errors of the loggers", {}, dict(loggers.errors()))
    factory = load("dynamo.vllm.publisher").StatLoggerFactory
    theirs = list(factory.__init__.__code__.co_varnames[1 : factory.__init__.__code__.co_argcount])
    ours = StatLoggerFactory.__init__.__code__.co_varnames[1 : len(theirs) + 1]
    compare("the parameters of StatLoggerFactory", theirs, list(ours))
    missing = [name for name in dir(factory) if not hasattr(StatLoggerFactory, name)]
    compare("what StatLoggerFactory lacks", [], missing)
    own = load("dynamo.vllm.publisher").DynamoStatLoggerPublisher
    base = load("vllm.v1.metrics.loggers").StatLoggerBase
    names = {name for name in (*dir(own), *dir(base)) if not name.startswith("_")}
    compare("what StatLogger lacks", [], sorted(names - {"bind_endpoint", *dir(type(logger))}))
    count("a publisher of load")
    runtime.shutdown()


def main(scratch: str) -> None:
    """Compare both; the runtime of the second is another, so it is in another process."""
    if scratch == "publish":
        asyncio.run(publish())
        return
    publisher = [sys.executable, "-W", "ignore", "-m", "tests.upstream.callbacks", "publish"]
    run_to_end(publisher, env={**os.environ, "DYN_EVENT_PLANE": "zmq"}, check=True)
    model = Path(scratch, "model")
    model.mkdir()
    make_model(model)
    port = find_port()
    os.environ.update(DYN_SYSTEM_PORT=str(port), DYN_SYSTEM_HOST="127.0.0.1")
    run_backend(str(model), port)


if __name__ == "__main__":
    main(sys.argv[1])
