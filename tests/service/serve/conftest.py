"""A bundle, videos and a server that the tests share."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

for module in ("openvino", "starlette", "uvicorn", "python_multipart", "prometheus_client", "requests"):
    pytest.importorskip(module)

from mmvideoiq.data.synthetic import make_clip, write_lossless
from tests.service.serve.serving import serving


@pytest.fixture(scope="session")
def demo_bundle(repo) -> Path:
    """The bundle that the zoo ships."""
    return repo / "zoo/demo/demo_videoiq_bundle"


@pytest.fixture(scope="session")
def grating(tmp_path_factory) -> Path:
    """A video of class 3 that 2 bits are enough for."""
    path = tmp_path_factory.mktemp("grating") / "bold.mkv"
    clip, _ = make_clip(np.random.default_rng(0), label=3, kind="bold")
    write_lossless(path, clip, rate=6)
    return path


@pytest.fixture(scope="session")
def server(demo_bundle):
    """A server that tests leave as it is."""
    with serving(demo_bundle, upload_bytes=2**20) as client:
        yield client


@pytest.fixture
def file_limit() -> Callable[[int], AbstractContextManager[None]]:
    """Within the block no file of this process grows beyond so many bytes, as on a disk that is full."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
