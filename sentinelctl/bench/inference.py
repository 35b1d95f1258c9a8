"""The inference server under an open loop of ReviewChunks calls, each of about the same number of chunks."""

import base64
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sentinelctl.bench.arrivals import Stage
from sentinelctl.bench.calls import Call, batches, hunks_of, loaded, mean_batch, pack
from sentinelctl.bench.run import Job, Run, Tell, make_load, run_of
from sentinelctl.bench.shape import Shape
from sentinelctl.beside import beside
from sentinelctl.errors import UsageError
from sentinelctl.lifecycle import Project
from services.settings import Settings


@dataclass
class Server:
    """An inference server of the bench's own. calls: what is asked, in turn."""

    ports: Mapping[str, int]
    calls: Sequence[Call]
    about: Mapping[str, Any]

    def offer(self, stages: Sequence[Stage], shape: Shape, tell: Tell) -> Run:
        requests = [base64.b64encode(call.request.SerializeToString()).decode() for call in self.calls]
        random.Random(shape.seed).shuffle(requests)  # noqa: S311 - an order, not a secret
        where = {"target": "inference", "address": f"127.0.0.1:{self.ports['grpc']}", "requests": requests}
        before = batches(self.ports["metrics"])
        job = Job.of(stages, shape, where)
        run = run_of(job, make_load(job, tell))
        batch = mean_batch(batches(self.ports["metrics"]), before)
        per_call = self.about["chunks_per_call"]
        return run.with_more({"mean_batch": round(batch, 2), "chunks_per_s": round(run.rate * per_call, 1)}, ())


@contextmanager
def own_server(settings: Settings, repo: Path, *, chunks: int) -> Iterator[Server]:
    """`chunks`: of a call, or up to one hunk more. Raises UsageError where the commits hold nothing the model reads."""
    engine = loaded(settings)
    calls = pack(engine, hunks_of(repo), chunks)
    if not calls:
        raise UsageError(f"the last commits of {repo} hold no line that the model reads", remedy="name another --repo")
    own, info = settings.inference, engine.info
    about = {
        "model": f"{info.name} {info.version}",
        "engine": info.engine,
        "chunks_asked": chunks,
        "chunks_per_call": round(sum(call.chunks for call in calls) / len(calls), 2),
        "tokens_per_call": round(sum(call.tokens for call in calls) / len(calls), 1),
        "max_batch": own.max_batch,
        "window_ms": own.window_ms,
        "threads": own.threads,
    }
    del engine
    with TemporaryDirectory(prefix="sentinel-bench-") as folder:
        project = Project(beside(settings, Path(folder)))
        try:
            (replica,) = project.bring_up(("inference",)).of("inference")
            yield Server(replica.ports, calls, about)
        finally:
            project.take_down()
            project.runtime.close()
