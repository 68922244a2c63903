"""S3 and what speaks its protocol, with credentials, region and endpoint as AWS tools find them (AWS_*, ~/.aws).

One try of botocore's is repeated once at once; longer waits are those of faults.py. An upload is one request or one
multipart upload: the object is whole or absent. Price: a killed process may leave parts of an upload in the bucket.
"""

from typing import Any

from s3fs import S3FileSystem

from pipeline.base.storage import CONNECTIONS
from pipeline.base.stores.patient import BLOCK, CONNECT_SECONDS, READ_SECONDS, PlainAnswers, patient


@patient
class S3Store(PlainAnswers, S3FileSystem):
    """s3://BUCKET/KEY."""

    connect_timeout, read_timeout = CONNECT_SECONDS, READ_SECONDS
    retries = 1
    default_block_size = BLOCK

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = {"retries": {"mode": "standard", "total_max_attempts": 2}, "max_pool_connections": 32}
        kwargs["config_kwargs"] = own | (kwargs.get("config_kwargs") or {})
        super().__init__(*args, **{"max_concurrency": CONNECTIONS} | kwargs | {"use_listings_cache": False})
