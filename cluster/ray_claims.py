"""Claims on a Ray cluster's hosts that killed runs have left: taken back before the next run starts.

Ray Train claims its hosts under a name of its own making, and Ray keeps the claim for three minutes after the last word
of the process that made it. So that process notes the name, with its Ray job, in the store of Ray's head, and the next
run takes back the claims of jobs that Ray says have ended; a job that is there keeps its own. Price: these are inner
interfaces of Ray; where another version of it has them otherwise, the claim is waited for. Imported in Ray's processes,
and by a driver that is connected.
"""

from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.experimental import internal_kv

PREFIX = "electra-claim-"
ANSWER_SECONDS = 5.0
_OTHERWISE = (AttributeError, TypeError, ValueError, KeyError, RuntimeError, RayError)
"""What another version of Ray may answer with."""


def hosts_account() -> Any:
    """Ray's account of the cluster's hosts and of who claims them. ValueError where there is none yet."""
    return ray.get_actor("AutoscalingCoordinator", namespace="AutoscalingCoordinator")


def note_claim(run_id: str) -> None:
    """In Ray Train's controller: its claim is this job's."""
    with suppress(*_OTHERWISE):
        internal_kv._internal_kv_put(PREFIX + _name(run_id), ray.get_runtime_context().get_job_id())


def forget_claim(run_id: str) -> None:
    """The claim has been taken back by who made it."""
    with suppress(*_OTHERWISE):
        internal_kv._internal_kv_del(PREFIX + _name(run_id))


def take_back() -> int:
    """Ends the claims of jobs that have ended; how many there were."""
    count = 0
    with suppress(*_OTHERWISE):
        over = {job["JobID"] for job in ray._private.state.jobs() if job["IsDead"]}
        for key in internal_kv._internal_kv_list(PREFIX):
            if (internal_kv._internal_kv_get(key) or b"").decode() in over:
                count += _end(key.decode().removeprefix(PREFIX))
                internal_kv._internal_kv_del(key)
    return count


def _end(name: str) -> bool:
    """Whether there was such a claim."""
    hosts = hosts_account()
    held = ray.get(hosts.get_reserved_resources.remote(name), timeout=ANSWER_SECONDS)
    ray.get(hosts.cancel_request.remote(name), timeout=ANSWER_SECONDS)
    return bool(held)


def _name(run_id: str) -> str:
    return f"train-{run_id}"
