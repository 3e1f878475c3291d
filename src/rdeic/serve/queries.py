"""The parameters in the query of a request. Each states its unit and range; unknown ones are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rdeic.codec.codec import MAX_DETAIL
from rdeic.codec.limits import MAX_FILE_STEPS

_MAX_SEED = 2**32 - 1
Background = Annotated[
    str | None,
    Field(max_length=40, description="Colour behind transparent pixels: white, #rrggbb.", examples=["white"]),
]


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Compress(_Query):
    """At most one of quality, bpp and max_bytes; without one the quality is 50."""

    quality: Annotated[
        float | None, Field(ge=0, le=100, allow_inf_nan=False, description="Quality.", examples=[50])
    ] = None
    bpp: Annotated[
        float | None,
        Field(gt=0, le=100, allow_inf_nan=False, description="Bits per pixel, met as closely as possible."),
    ] = None
    max_bytes: Annotated[
        int | None, Field(ge=1, le=2**31 - 1, description="Best quality in at most so many bytes.")
    ] = None
    seed: Annotated[
        int, Field(ge=0, le=_MAX_SEED, description="Of the decoder's noise; 0 costs no bytes.")
    ] = 0
    scale: Annotated[
        bool, Field(description="Whether bpp and max_bytes may store the picture smaller than it is.")
    ] = True
    metadata: Annotated[
        Literal["none", "basic", "location"],
        Field(description="What of the picture's metadata to keep: basic is date, camera and comment."),
    ] = "none"
    background: Background = None

    @model_validator(mode="after")
    def _one_goal(self) -> Compress:
        if sum(goal is not None for goal in (self.quality, self.bpp, self.max_bytes)) > 1:
            raise ValueError("choose one of quality, bpp and max_bytes")
        return self


class Decompress(_Query):
    """How to restore."""

    detail: Annotated[
        float,
        Field(
            ge=0,
            le=MAX_DETAIL,
            allow_inf_nan=False,
            description="lambda_s of Eq. 15: below 1 smoother, above 1 sharper; other than 1 takes longer.",
        ),
    ] = 1.0
    steps: Annotated[
        int | None,
        Field(ge=1, le=MAX_FILE_STEPS, description="Denoising steps. Default: as the file says."),
    ] = None


class Compare(_Query):
    """Which codec, and at how many bytes."""

    codec: Annotated[Literal["avif", "webp", "jpeg"], Field(description="A conventional codec.")]
    bytes: Annotated[int, Field(ge=1, le=2**31 - 1, description="Wanted size of the file.", examples=[2459])]
    background: Background = None


class Show(_Query):
    """How to show a picture."""

    background: Background = None
