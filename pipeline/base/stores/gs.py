"""Google Cloud Storage, with credentials as Google's libraries find them (GOOGLE_APPLICATION_CREDENTIALS, gcloud).

By the plain JSON interface: gcsfs's newer one for zonal buckets brings gRPC, whose threads do not survive a fork.
"""

from typing import Any

import aiohttp
from gcsfs.core import GCSFileSystem

from pipeline.base.stores.patient import BLOCK, CONNECT_SECONDS, READ_SECONDS, PlainAnswers, patient


@patient
class GoogleStore(PlainAnswers, GCSFileSystem):
    """gs://BUCKET/NAME."""

    default_block_size = BLOCK
    _request = GCSFileSystem._request.__wrapped__  # without gcsfs's own waits, which log a traceback at their end

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        super().__init__(*args, **{"requests_timeout": timeout} | kwargs | {"use_listings_cache": False})
