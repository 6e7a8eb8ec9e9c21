"""Pages as Prometheus reads them: its linter, and a real server that scrapes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import bcrypt
import pytest
import trustme
from prometheus_client import CollectorRegistry, Enum, Info
from prometheus_client.core import GaugeHistogramMetricFamily, UntypedMetricFamily

import mpmetrics
from mpmetrics.web.server import PageServer
from mpmetrics.web.web_config import read_web_config
from tests.prometheus import prometheus
from tests.servers import LOOPBACK, eventually, serving_wsgi
from tests.workers import Worker, run_to_end

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import Metric

    from tests.conftest import NeedsProgram

MODES = (
    *("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum"),
    *("mostrecent", "livemostrecent"),
)

WRITE = """
Counter("app_requests", "Requests \\\\ with\\nescapes.", ["path"]).labels('a"b\\\\c\\nd ä').inc(2)
Counter("vllm:prompt_tokens", "Tokens.", ["model"]).labels("m").inc(1e9)
Histogram("vllm:latency_seconds", "Latency.", ["model"], buckets=(0.5, 1)).labels("m").observe(0.7)
Summary("app_size_bytes", "Size.").observe(3)
special = Gauge("app_special", "No number.", ["of"], multiprocess_mode="max")
special.labels("inf").set(math.inf)
special.labels("nan").set(math.nan)
for mode in {modes}:
    Gauge(f"app_{{mode}}_value", "A gauge.", multiprocess_mode=mode).set({number})
"""


class OtherTypes:
    """A collector of the types that multiprocess mode does not know."""

    def describe(self) -> Iterable[Metric]:
        """Return no families, so that no names are claimed."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Yield one family of each."""
        yield UntypedMetricFamily("own_untyped", "Of no type.", 1)
        buckets = [("1.0", 1.0), ("+Inf", 2.0)]
        yield GaugeHistogramMetricFamily("own_sizes", "Now.", buckets, 3.0)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> mpmetrics.Page:
    """Return a page with all types, all modes, names with colons, and odd values and labels."""
    path = tmp_path_factory.mktemp("written")
    for number in (1, 2):
        with Worker(path) as worker:
            worker.do("import math\n" + WRITE.format(modes=MODES, number=number))
    registry = CollectorRegistry()
    Info("own_build", "Build.", registry=registry).info({"version": "1"})
    Enum("own_state", "State.", states=["on", "off"], registry=registry).state("off")
    registry.register(OtherTypes())
    return mpmetrics.Page([path, registry, lambda: "# TYPE told gauge\ntold 7\n"])


def lint(promtool: str, page: bytes) -> tuple[int, list[str]]:
    """Return the exit status of `promtool check metrics` and its output."""
    done = run_to_end(
        [promtool, "check", "metrics"],
        input=page,
        capture_output=True,
    )
    return done.returncode, sorted((done.stdout + done.stderr).decode().splitlines())


CLEAN = 0
UNREADABLE = 1
REMARKS = 3
"""Exit statuses of promtool."""


def test_promtool_finds_nothing_wrong(needs_program: NeedsProgram, page: mpmetrics.Page) -> None:
    """Promtool has no remark on a page whose names follow the conventions."""
    promtool = needs_program("promtool", package="prometheus")
    clean = mpmetrics.Page(page.sources, ["app_requests", "app_all", "app_size", "mpmetrics_"])
    assert lint(promtool, clean.render()) == (CLEAN, [])


def test_promtool_reads_everything(needs_program: NeedsProgram, page: mpmetrics.Page) -> None:
    """Promtool can read a page with everything on it, and remarks on names of users only."""
    promtool = needs_program("promtool", package="prometheus")
    status, remarks = lint(promtool, page.render())
    assert status == REMARKS
    assert remarks == [
        "told no help text",
        "vllm:latency_seconds metric names should not contain ':'",
        "vllm:prompt_tokens_total metric names should not contain ':'",
    ]


def test_promtool_would_tell(needs_program: NeedsProgram, page: mpmetrics.Page) -> None:
    """Promtool fails for a family that is there twice, so the two tests above can fail."""
    promtool = needs_program("promtool", package="prometheus")
    assert lint(promtool, page.render() * 2)[0] == UNREADABLE


CONFIGURATION = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: openmetrics
    static_configs: [targets: ["{openmetrics}"]]
  - job_name: text
    static_configs: [targets: ["{text}"]]
"""


def only_text(application: Any) -> Any:
    """Return a WSGI application that hides from the page what the client accepts."""

    def wrapped(environ: dict[str, Any], start_response: Any) -> Any:
        return application({**environ, "HTTP_ACCEPT": "text/plain"}, start_response)

    return wrapped


EXPECTED = {
    "app_requests_total@": {'__name__=app_requests_total path=a"b\\c\nd ä': "4"},
    "vllm:prompt_tokens_total@": {"__name__=vllm:prompt_tokens_total model=m": "2000000000"},
    "vllm:latency_seconds_bucket@": {
        "__name__=vllm:latency_seconds_bucket le=0.5 model=m": "0",
        "__name__=vllm:latency_seconds_bucket le=1.0 model=m": "2",
        "__name__=vllm:latency_seconds_bucket le=+Inf model=m": "2",
    },
    "histogram_quantile(0.5, vllm:latency_seconds_bucket@)": {"model=m": "0.75"},
    "app_size_bytes_sum@ / app_size_bytes_count@": {"": "3"},
    "app_special@": {"__name__=app_special of=inf": "+Inf", "__name__=app_special of=nan": "NaN"},
    "sum(app_all_value@)": {"": "3"},
    "count(app_liveall_value@)": {"": "2"},
    "app_min_value@ + 10 * app_max_value@ + 100 * app_sum_value@": {"": "321"},
    "app_livemin_value@ + 10 * app_livemax_value@ + 100 * app_livesum_value@": {"": "321"},
    "app_mostrecent_value@ + 10 * app_livemostrecent_value@": {"": "22"},
    "own_build_info@": {"__name__=own_build_info version=1": "1"},
    "own_state@": {
        "__name__=own_state own_state=on": "0",
        "__name__=own_state own_state=off": "1",
    },
    "own_untyped@": {"__name__=own_untyped": "1"},
    "own_sizes_bucket@": {
        "__name__=own_sizes_bucket le=1.0": "1",
        "__name__=own_sizes_bucket le=+Inf": "2",
    },
    "own_sizes_gsum@": {"__name__=own_sizes_gsum": "3"},
    "told@": {"__name__=told": "7"},
    "count(mpmetrics_source_up@ == 1)": {"": "3"},
    "up@": {"__name__=up": "1"},
}
"""What each expression gives, for either job; `@` stands for the selection of the job."""


def host_of(url: str) -> str:
    """Return host and port of a URL."""
    return urlsplit(url).netloc


def test_a_real_prometheus_scrapes_the_page(
    needs_program: NeedsProgram, page: mpmetrics.Page, tmp_path: Path
) -> None:
    """Prometheus finds in both formats all series and values that were written."""
    program = needs_program("prometheus", package="prometheus")
    application = mpmetrics.make_wsgi_app(page)
    with (
        serving_wsgi(application) as openmetrics,
        serving_wsgi(only_text(application)) as text,
    ):
        targets = {"openmetrics": host_of(openmetrics), "text": host_of(text)}
        with prometheus(program, tmp_path, CONFIGURATION.format(**targets)) as server:
            for job in targets:
                eventually(
                    lambda job=job: server.query("up@ == 1", job),  # type: ignore[misc]
                    f"the job {job} has been scraped",
                )
                assert {each: server.query(each, job) for each in EXPECTED} == EXPECTED
            # As many as there are on the page, none of them refused.
            lines = [line for line in page.render().splitlines() if not line.startswith(b"#")]
            for job in targets:
                scraped = server.query("scrape_samples_scraped@", job)
                assert list(scraped.values()) == [str(len(lines))]


SECURED = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: right
    scheme: https
    tls_config: {{ca_file: ca.pem}}
    basic_auth: {{username: prometheus, password: secret}}
    static_configs: [targets: ["{target}"]]
  - job_name: wrong
    scheme: https
    tls_config: {{ca_file: ca.pem}}
    basic_auth: {{username: prometheus, password: guess}}
    static_configs: [targets: ["{target}"]]
"""


def test_a_real_prometheus_with_tls_and_a_password(
    needs_program: NeedsProgram, page: mpmetrics.Page, tmp_path: Path
) -> None:
    """Prometheus scrapes a page behind TLS and a password when it is configured for both."""
    program = needs_program("prometheus", package="prometheus")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert(LOOPBACK).private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "both.pem"
    )
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: both.pem, key_file: both.pem}\n"
        f"basic_auth_users: {{prometheus: {hashed}}}\n"
    )
    serving = PageServer(page, f"{LOOPBACK}:0", web_config=read_web_config(tmp_path / "web.yml"))
    serving.start()
    try:
        configuration = SECURED.format(target=host_of(serving.address))
        with prometheus(program, tmp_path, configuration) as server:
            eventually(lambda: server.query("up@ == 1", "right"), "the page has been scraped")
            assert server.query("app_size_bytes_count@", "right")
            eventually(lambda: server.query("up@ == 0", "wrong"), "the guess was refused")
            assert not server.query("app_size_bytes_count@", "wrong")
    finally:
        serving.stop()
