"""What stores answer when something is wrong: which errors pass by themselves, how long to wait, how to tell a person.

Told by names and status codes, so that no store's library is loaded for it. No secret of a URL or of the environment
gets into a message. Price: while a store is away a call takes up to PATIENCE seconds longer than its own timeouts.
"""

import os
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path
from urllib.parse import unquote

from pipeline.base.errors import UserError, first_line

PATIENCE = 180.0
"""Seconds from a call's first failure to the last time it is tried again."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
"""Seconds; a pause is twice the one before, less up to half of it by chance, so that many workers do not call at once
(exponential back-off with jitter, as in the AWS SDKs' standard retry mode)."""

_LOST = {
    "aiohttp.ClientConnectionError",
    "aiohttp.ClientPayloadError",
    "botocore.ConnectionError",
    "botocore.HTTPClientError",
    "botocore.ResponseParserError",
    "builtins.ConnectionError",
    "builtins.TimeoutError",
    "google.TransportError",
    "http.IncompleteRead",
    "httpx.TransportError",
    "httpx2.TransportError",
    "requests.ConnectionError",
    "requests.Timeout",
    "urllib3.HTTPError",
}
"""A connection or an answer that broke off or did not come: package and class, or a class that it derives from."""
_LASTING = {
    "botocore.InvalidProxiesConfigError",
    "botocore.SSLError",
    "huggingface_hub.OfflineModeIsEnabled",
    "ssl.SSLCertVerificationError",
}
_NO_CREDENTIALS = {
    "botocore.CredentialRetrievalError",
    "botocore.NoCredentialsError",
    "botocore.PartialCredentialsError",
    "botocore.ProfileNotFound",
    "google.DefaultCredentialsError",
    "google.RefreshError",
}
_LIBRARIES = {"aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google", "httpx", "httpx2", "requests", "upath"}
_BUSY = {408, 425, 429, 500, 502, 503, 504}
_BUSY_CODES = {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"}
_SECRET_QUERY = re.compile(
    r"[?&](x-amz-[a-z-]+|x-goog-[a-z-]+|awsaccesskeyid|googleaccessid|sig|pwd|auth|((api|access|secret)[_-]?)?key|"
    r"[a-z_-]*(signature|token|secret|password|credential)[a-z_-]*)=",
    re.IGNORECASE,
)
_SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "DATABRICKS_CLIENT_SECRET",
    "DATABRICKS_TOKEN",
    "GOOGLE_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGPASSWORD",
)
_HIDDEN: set[str] = set()
"""Passwords of addresses that this process was given."""
_SPENT = "the store was waited for"


def shown(text: object) -> str:
    """The text without what must stay secret: user:password@ and signed queries of URLs, keys of the environment."""
    told = _without_secrets(str(text))
    known = {value for name in _SECRETS if len(value := os.environ.get(name, "")) >= 8} | _HIDDEN
    for value in sorted(known, key=len, reverse=True):
        told = told.replace(value, "***")
    return told


def hide(url: str) -> None:
    """The password of this URL, or the token in its place, is not shown from here on, wherever a message has it."""
    found = re.search(r"://([^/\s'\"?#]*)@", url)
    user, colon, password = found[1].partition(":") if found else ("", "", "")
    for value in (password if colon else user, unquote(password)):
        if len(value) >= 6:
            _HIDDEN.add(value)


def _without_secrets(text: str) -> str:
    told = re.sub(r"(?<=://)[^/\s'\"?#]*@", "***@", text)  # to the last @: a password may hold one
    return re.sub(r"\?[^\s'\"]*", lambda found: "?***" if _SECRET_QUERY.search(found[0]) else found[0], told)


def refuse_secrets(text: str) -> None:
    """UserError for a URL with a user, a password or a signature in it: it would be written down with the config."""
    if "://" in text and _without_secrets(text) != text:
        raise UserError(
            f"{shown(text)} holds a user, a password or a signature. A config is written down, so give the URL without "
            "them and the credentials as the store's own tools take them (docs/storage.md)."
        )


def is_fault(error: BaseException) -> bool:
    """Whether the error is a store's or the system's, not one of the program."""
    return isinstance(error, OSError) or bool(_LIBRARIES & {name.partition(".")[0] for name in _names(error)})


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error, None where there is none."""
    return next((status for link in _chain(error) if (status := _status(link)) is not None), None)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later: the store is away, busy or broke off. Never for 403 or 404."""
    links = list(_chain(error))
    nowhere = any(isinstance(link, socket.gaierror) and link.errno == socket.EAI_NONAME for link in links)
    retryable = any(getattr(link, "retryable", False) is True for link in links)  # Google's word for a passing fault
    if nowhere or (not retryable and any(_names(link) & (_LASTING | _NO_CREDENTIALS) for link in links)):
        return False
    if retryable or _code_of(error) in _BUSY_CODES:
        return True
    for link in links:  # the outermost that says it: an answer that broke off may hold an error of its parser
        if _names(link) & _LOST:
            return True
        if (status := _status(link)) is not None:
            return status in _BUSY
    return False


def told(error: BaseException, verb: str, where: object) -> UserError:
    """The message of a fault: what, where and what to do. verb: read or write."""
    start = f"cannot {verb} {shown(where)}: "
    names = {name for link in _chain(error) for name in _names(link)}
    reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
    status, detail = status_of(error), shown(reason).rstrip(".")
    again = "then start the same command again."
    if isinstance(where, Path):
        return UserError(f"{start}{detail}. Mend the path or the access to it, {again}")
    if names & _NO_CREDENTIALS:
        return UserError(f"{start}no credentials ({detail}). Set them as docs/storage.md says, {again}")
    if is_transient(error):
        return StoreAway(
            f"{start}the store was away or busy for {PATIENCE:.0f} seconds ({detail}). What was complete is kept: "
            "see that it answers, then start the same command again."
        )
    if status in (401, 403) or isinstance(error, PermissionError) or detail.startswith("Forbidden"):
        return UserError(f"{start}access denied ({detail}). Mend the credentials or the rights they have, {again}")
    if _code_of(error) == "NoSuchBucket":
        return UserError(f"{start}the bucket does not exist. Make it or mend the URL, {again}")
    if status == 404 or isinstance(error, FileNotFoundError):
        return UserError(f"{start}there is nothing of that name. Mend the URL, {again}")
    return UserError(f"{start}{detail}. Mend it, {again}")


class StoreAway(UserError):
    """A store was waited for in vain."""


class Patience:
    """How often one call has failed, and since when; a line is logged when nothing else waits yet."""

    _waiting: set[int] = set()
    _lock = threading.Lock()

    def __init__(self, where: str) -> None:
        self.where = where
        self.failures, self.since = 0, 0.0

    def __enter__(self) -> "Patience":
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._waiting.discard(id(self))

    def pause_after(self, error: BaseException) -> float | None:
        """Seconds to wait before the next try; None: it is of no use, or PATIENCE is at its end."""
        spent = any(_SPENT in getattr(link, "__notes__", ()) for link in _chain(error))
        if spent or not is_transient(error):
            return None
        if not self.failures:
            self.since = time.monotonic()
            self._begin(error)
        left = self.since + PATIENCE - time.monotonic()
        if left <= 0:
            error.add_note(_SPENT)  # whoever called this call does not begin to wait anew
            return None
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self.failures) * random.uniform(0.5, 1)
        self.failures += 1
        return min(pause, left)

    def _begin(self, error: BaseException) -> None:
        with self._lock:
            first = not self._waiting
            self._waiting.add(id(self))
        if first:  # base/log.py builds on files.py, which builds on this: hence the logger by its name
            getLogger("pipeline").warning(
                f"{shown(self.where)} does not answer ({shown(first_line(error))}): trying again for up to "
                f"{PATIENCE:.0f} seconds"
            )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it came from."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _status(link: BaseException) -> int | None:
    answer = getattr(link, "response", None)
    if isinstance(answer, dict):
        code = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        code = getattr(answer, "status_code", None)
        for name in ("status", "code"):
            code = getattr(link, name, None) if code is None else code
    return int(code) if isinstance(code, int | str) and str(code).isdigit() and int(code) >= 300 else None


def _names(error: BaseException) -> set[str]:
    return {f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}" for kind in type(error).__mro__}


def _code_of(error: BaseException) -> str:
    """The store's own word for an error, such as NoSuchBucket."""
    for link in _chain(error):
        answer = getattr(link, "response", None)
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code", ""))
    return ""
