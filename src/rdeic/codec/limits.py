"""What a picture may cost: no file can claim more memory or time than these limits allow."""

from __future__ import annotations

from rdeic.config import ModelConfig
from rdeic.container.stored_size import Size
from rdeic.errors import FileFormatError, ImageError
from rdeic.model.tiles import BAND_POSITIONS, Tiling

MAX_FILE_STEPS = 50  # denoising steps that a file may ask for by itself
WHOLE, WHOLE_SLOW = 1 << 22, 1 << 20  # pixels that run whole; the latter where E convolves at full resolution
_FLOAT_BYTES = 4
_LIVE = 6  # tensors of E's or D's finest level that exist at the same time
_LIVE_TILED = 14  # the same where they come and go, and with what the allocator keeps
_LIVE_GUIDES = 10  # tensors as large as the guide, in g_s
_LIVE_FEATURES = 40  # channels alive in the noise estimator, as a multiple of its finest level's
_EXACT_BYTES = 130  # for each value of y in a band: hidden activations of the exact networks
_EXACT_COPIES = 2.5  # of y in float64
_LATENTS = 4  # as large as z0_hat
_HELD = 4  # bytes for each pixel: the picture


def check_steps(wanted: int, config: ModelConfig) -> None:
    """Raises FileFormatError if a file that asks for `wanted` denoising steps must not have them."""
    most = min(config.diffusion.relay_start, max(MAX_FILE_STEPS, config.diffusion.default_steps))
    if wanted > most:
        raise FileFormatError(
            f"the file asks for {wanted} denoising steps, at most {most} are plausible; choose with --steps, in Python "
            "with steps="
        )


def plan(size: Size, config: ModelConfig, room: int | None, steps: int = 1) -> Tiling | None:
    """How to cut up a coded picture so that its networks find `room` bytes enough; None: not at all.

    Small pictures stay whole if they can; what decides is their size, and memory only where it is short. Raises
    ImageError if there is too little for any cut: Linux would kill the process instead of refusing it the memory.
    """
    ways: list[Tiling | None] = [Tiling(), Tiling().halved(), Tiling().halved().halved()]
    if size.width * size.height <= (WHOLE_SLOW if config.autoencoder.slow else WHOLE):
        ways.insert(0, None)
    for way in ways:
        needed = needed_bytes(size, config, way, steps)
        if room is None or needed <= room:
            return way
    raise ImageError(
        f"a picture of {size.width}x{size.height} takes at least {needed / 1e9:.2f} GB of memory more, and there are "
        f"{(room or 0) / 1e9:.2f} GB; allow or free more, scale it down, or cut it up"
    )


def needed_bytes(size: Size, config: ModelConfig, way: Tiling | None, steps: int = 1) -> int:
    """About what coding a picture takes, beside the program and the model: the estimate before it is begun.

    Calibrated on the peaks that `benchmarks/large_pictures.py` finds for mini on a CPU (docs/performance.md).
    """
    pixels = size.width * size.height
    finest = config.autoencoder.values_per_pixel * _FLOAT_BYTES
    positions = min(BAND_POSITIONS, -(-pixels // config.y_stride**2))
    exact = positions * config.compression.y_channels * _EXACT_BYTES
    if way is None:
        return pixels * (finest * _LIVE + _HELD) + exact
    sample = way.sample.count * (way.sample.side + 2 * way.sample.halo) ** 2
    tile = min(max((way.side + 2 * way.halo) ** 2, sample), pixels) * finest * _LIVE_TILED
    wide = max(
        _LIVE_GUIDES * config.compression.width,
        _LIVE_FEATURES * config.unet.widths[0] // config.unet.patch**2,
    )
    window = min(way.window**2, pixels) // config.autoencoder.stride**2 * wide * _FLOAT_BYTES
    # y, y_hat and the hyper feature, or z0_hat and the noise
    y = _EXACT_COPIES * config.compression.y_channels * 8 / config.y_stride**2
    z = (_LATENTS + steps) * config.autoencoder.latent_channels * _FLOAT_BYTES / config.autoencoder.stride**2
    return int(pixels * (_HELD + max(y, z)) + max(tile, window, exact))
