"""HyperQueue's server and one worker in this process: a count a line in, tasks per second of `true` a line out."""

import json
import sys
import time

sys.path.insert(0, sys.argv[1])

from hyperqueue import Job, LocalCluster  # noqa: E402
from hyperqueue.cluster import WorkerConfig  # noqa: E402

with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=int(sys.argv[2])))
    client = cluster.client()
    print("bench ready", flush=True)
    for line in sys.stdin:
        count = int(line)
        job = Job()
        for _ in range(count):
            job.program(["true"], stdout=None, stderr=None)
        begun = time.monotonic()
        client.wait_for_jobs([client.submit(job)])
        print("bench", json.dumps(count / (time.monotonic() - begun)), flush=True)
