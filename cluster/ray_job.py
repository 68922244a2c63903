"""Sends a command to a Ray cluster as one job, follows its log, and ends with the job's own exit code.

    python -m cluster.ray_job --address http://HEAD:8265 -- python pipeline/preprocess.py run_dir=/shared/run ...

The repository travels with the job (Ray's working_dir, at most 512 MB), without what a run does not read. The command
runs in that copy on the head node: paths must be absolute and shared. `ray job submit --working-dir . -- ...` does the
same but ends with 1 whatever the job's code was.
"""

import argparse
import asyncio
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.command import told
from pipeline.base.errors import EXIT_PREEMPTED, UserError, first_line

REPOSITORY = Path(__file__).resolve().parents[1]
# Beside Ray's own default (.git, .venv, venv, __pycache__) and .gitignore; .gitignore is not there in an installation.
EXCLUDES = ("/.git/", "/.venv/", "/runs/", "/corpus/", "/mlruns/", "/mlartifacts/", "/mlflow.db", "/build/", "/dist/")
STOPPED = 130
NOT_READY, START_SECONDS = "No available agent", 60.0


def entrypoint(command: Sequence[str]) -> str:
    """The command as the shell line that Ray wants; UserError when it cannot work from a copy of the repository."""
    if not command:
        raise UserError(
            "no command is given. Write it after --, as in: -- python pipeline/preprocess.py run_dir=/shared/run"
        )
    if any(part.startswith("pipeline/") for part in command):
        folders = [part.partition("=")[2] for part in command if part.startswith("run_dir=")]
        if not folders:
            raise UserError(
                "run_dir is not given. The job runs in a copy of the repository: add run_dir=/ABSOLUTE/PATH."
            )
        if not os.path.isabs(folders[-1]):
            raise UserError(
                f"run_dir={folders[-1]} is relative, and the job runs in a copy of the repository that Ray deletes. "
                f"Give the absolute path of a folder that all nodes share: run_dir={os.path.abspath(folders[-1])}"
            )
    return shlex.join(command)


def runtime_environment(variables: Sequence[str]) -> dict[str, Any]:
    """What Ray sends along: the repository, less EXCLUDES, and NAME=VALUE variables."""
    values = {}
    for variable in variables:
        name, equals, value = variable.partition("=")
        if not name or not equals:
            raise UserError(f"--env {variable}: write NAME=VALUE.")
        values[name] = value
    environment: dict[str, Any] = {"working_dir": str(REPOSITORY), "excludes": list(EXCLUDES)}
    return environment | ({"env_vars": values} if values else {})


def exit_code(status: str, code: int | None, message: str | None) -> int:
    """The command's exit code from Ray's account of the job; UserError when the command never ran to an end."""
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":
        return STOPPED
    if code is None:
        raise UserError(f"Ray could not run the job: {message or status}")
    # Ray gives -N for a command that signal N ended; shells give 128 + N.
    return code if code >= 0 else 128 - code


def submit(address: str, line: str, environment: dict[str, Any]) -> int:
    """Submits, prints the log as it comes, waits; a keyboard interrupt stops the job."""
    _use_token()
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.ERROR)  # a dozen lines about what is left out of the package
    try:
        client = JobSubmissionClient(address)
        job = _submitted(client, line, environment)
    except (OSError, RuntimeError, ValueError) as error:  # OSError: requests' own kind of a lost connection too
        last = str(error).strip().splitlines()[-1].rstrip(".")
        remedy = "Is `ray start --head` running there, with the dashboard's port (8265) open?"
        raise UserError(f"no job could be submitted to {address}: {last}. {remedy}") from None
    print(f"ray_job: {job} on {address}", flush=True)
    try:
        return _outcome(client, job)
    except KeyboardInterrupt:
        client.stop_job(job)
        print(f"ray_job: {job} is asked to stop.", file=sys.stderr, flush=True)
        return STOPPED
    except (OSError, RuntimeError) as error:
        remedy = f"Where it is still there, `ray job logs --follow {job} --address {address}` follows the job."
        print(
            f"ray_job: {address} does not answer any more ({first_line(error)}). {remedy}", file=sys.stderr, flush=True
        )
        return EXIT_PREEMPTED


def _outcome(client: Any, job: str) -> int:
    """The exit code, its log printed until then. Raises OSError or RuntimeError where the cluster is gone."""
    import aiohttp

    try:
        asyncio.run(_follow(client, job))
    except (aiohttp.ClientError, OSError, RuntimeError) as error:
        print(f"ray_job: the log broke off ({error}); waiting for the job.", file=sys.stderr, flush=True)
    return _wait(client, job)


def _use_token() -> None:
    """Sends Ray's token where there is one. Must come before Ray is imported.

    The first local Ray of a user writes ~/.ray/auth_token; `ray start --head` then asks for it, a job's client does not
    send it by itself (Ray 2.60). A cluster that asks for none takes no notice.
    """
    known = [name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if name in os.environ]
    if known or (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _submitted(client: Any, line: str, environment: dict[str, Any]) -> str:
    """The job's id. A cluster that has just been started answers before it can take jobs: waits for it."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return client.submit_job(entrypoint=line, runtime_env=environment)
        except RuntimeError as error:
            if NOT_READY not in str(error) or time.monotonic() > end:
                raise
            time.sleep(1.0)


async def _follow(client: Any, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


def _wait(client: Any, job: str) -> int:
    """The exit code, once Ray has written it down: the log's end may come a moment earlier."""
    while not client.get_job_status(job).is_terminal():
        time.sleep(0.2)
    info = client.get_job_info(job)
    return exit_code(info.status.value, info.driver_exit_code, info.message)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cluster.ray_job", description=__doc__.splitlines()[0])
    parser.add_argument("--address", default=os.environ.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"))
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="for the job (may be repeated)"
    )
    parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="what to run, after --")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Builds the job and submits it."""
    line = entrypoint(arguments.command)
    return submit(arguments.address, line, runtime_environment(arguments.env))


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    return told("ray_job", lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
