"""Google Cloud Storage, with credentials as Google's libraries find them (GOOGLE_APPLICATION_CREDENTIALS, gcloud).

gcsfs repeats a request a few times itself; longer waits are those of faults.py.
"""

import logging
from typing import Any

from gcsfs import GCSFileSystem

from pipeline.base.stores.patient import BLOCK, PlainAnswers, patient

logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs a traceback of what is told in one line


@patient
class GoogleStore(PlainAnswers, GCSFileSystem):
    """gs://BUCKET/NAME."""

    default_block_size = BLOCK

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"use_listings_cache": False})
