"""What every section of a run's config is: frozen, no key ignored; and the kinds of value that recur."""

import os
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

STORES = ("s3", "gs")
"""Kinds of URL that data and checkpoints can be written to."""


def _local(place: str) -> str:
    if "://" in place:
        raise ValueError("must be a local folder, not a URL (data and checkpoints can lie at one: set store)")
    return place


def _store(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if scheme not in STORES or not separator or not rest.strip("/"):
        raise ValueError(
            "must be a URL such as s3://bucket/runs/x or gs://bucket/runs/x; a folder of this machine is run_dir"
        )
    return url.rstrip("/")


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Place = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
"""A path; a ~ at its beginning is the home folder."""
LocalPlace = Annotated[Place, AfterValidator(_local)]
"""A path that is no URL."""
Store = Annotated[str, AfterValidator(_store)]
"""A URL that can be written below."""
Decay = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Frozen, and no key is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field is not None and field.annotation not in (bool, bool | None):
                raise ValueError(f"{name} is {str(value).lower()}, which is no value for it")
        return values
