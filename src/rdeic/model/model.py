"""The complete system: picture -> latent -> compressed features -> bits, and the relay diffusion back.

x --E--> f --g_a--> y --[bits]--> y_hat --g_s--> guide, z_c
z_N = sqrt(ab_N) z_c + sqrt(1 - ab_N) eps --L steps of eps_theta--> z0_hat --D--> x_hat
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rdeic.config import ModelConfig
from rdeic.diffusion.relay import diffuse, guide_detail
from rdeic.diffusion.sampler import sample
from rdeic.diffusion.schedule import RELAY_DDPM, Sampler, alpha_bars, spaced_schedule, spaced_steps
from rdeic.model.latent_codec import (
    EntropyModel,
    Symbols,
    decode_y,
    encode_in_bands,
    encode_symbols,
    quantise_all,
    symbols_of,
)
from rdeic.model.tiles import at, band_rows, tiles
from rdeic.nn import moments
from rdeic.nn.autoencoder import Autoencoder
from rdeic.nn.blocks import CrossAttention, conv3x3
from rdeic.nn.control import ControlNetwork
from rdeic.nn.exact import exact_copy
from rdeic.nn.graphs import Capture, GraphCache, Runner, eager
from rdeic.nn.quality import QualityTable
from rdeic.nn.rate import bits
from rdeic.nn.reach import reach
from rdeic.nn.transfer import to_host
from rdeic.nn.transforms import analysis, hyper_analysis, synthesis
from rdeic.nn.unet import UNet
from rdeic.system.devices import exact_home
from rdeic.types import CodedLatent, Compressed, CompressedFeatures, Encoding

CONTEXT_TOKENS = 77  # of the text encoder; the context is that of the empty prompt, a constant
HYPER_ROWS = 4  # rows of y for each of the hyper-latent
QUALITY_STEPS = 255  # quality travels as one byte
GRAPH_PIXELS = (
    1 << 20
)  # of a picture; with more, arithmetic takes longer than launches, and a graph much memory


class Compression(nn.Module):
    """Encoder feature -> y -> y_hat -> guide and z_c. `quality` (B,) in [0, 1] steers the continuous-rate tables."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.compression
        self.g_a = analysis(c, config.autoencoder.feature_channels)
        self.h_a = hyper_analysis(c)
        self.entropy = EntropyModel(c)
        self.g_s = synthesis(c)
        self.to_latent = conv3x3(c.width, config.autoencoder.latent_channels)
        levels = c.quality_levels
        self.log_gain = QualityTable(c.y_channels, -1.0, 1.0, levels) if levels else None
        self.guide_quality = QualityTable(c.y_channels, 0.0, 0.0, levels) if levels else None

    def analyse(self, feature: Tensor) -> Tensor:
        """f (B, C, h, w) -> y (B, M, h/2, w/2) in the precision of f, whatever that of g_a is."""
        own = next(self.g_a.parameters()).dtype
        if own == torch.float32:  # autocast chooses by itself
            return self.g_a(feature)
        return self.g_a(feature.to(own)).to(feature.dtype)

    def scale_y(self, y: Tensor, quality: Tensor) -> Tensor:
        """Per-quality gain of y, geometrically interpolated: a larger gain is a finer quantiser."""
        return y if self.log_gain is None else y * self.log_gain(quality).exp()

    def features(self, y_hat: Tensor, quality: Tensor) -> CompressedFeatures:
        """Scaled y_hat (B, M, h, w) -> guide and z_c at twice the resolution, in the precision of g_s."""
        if self.log_gain is not None and self.guide_quality is not None:
            y_hat = y_hat * (-self.log_gain(quality)).exp() + self.guide_quality(quality)
        guide = self.g_s(y_hat.to(self.to_latent.weight.dtype))
        return CompressedFeatures(z_c=self.to_latent(guide), guide=guide)

    def forward(self, feature: Tensor, quality: Tensor, noise: Tensor | None) -> Compressed:
        """f (B, C, h, w) -> everything the losses need.

        The rate is that of y + `noise` (uniform in +-1/2, shaped like y), or of y_hat when noise is None; the
        context always sees the rounded values.
        """
        y = self.scale_y(self.analyse(feature), quality).float()
        hyper = self.h_a(y)
        match = self.entropy.codebook(hyper)
        y_hat, params = quantise_all(self.entropy, y, self.entropy.hyper(match.z_q, quality))
        rate = bits(y_hat if noise is None else y + noise, params)
        return Compressed(self.features(y_hat, quality), rate, match.loss, hyper)


def control_network(config: ModelConfig, unet: UNet) -> ControlNetwork:
    """A fresh one, which changes nothing yet. Of `unet` only the widths matter."""
    guided = config.autoencoder.latent_channels + config.compression.width
    return ControlNetwork(config.control, config.unet, unet, guided)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """`dtype`, unless its range is less than float32's."""
    return torch.float32 if dtype == torch.float16 else dtype


class Rdeic(nn.Module):
    """One model. The public methods work on batches; those that make or read bits, on one picture at a time."""

    context: Tensor | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        latent_channels = config.autoencoder.latent_channels
        self.autoencoder = Autoencoder(config.autoencoder)
        self.compression = Compression(config)
        self.unet = UNet(config.unet, latent_channels)
        self.control = control_network(config, self.unet)
        self.alpha_bar = alpha_bars(config.diffusion)
        text = config.unet.context_channels
        self.register_buffer("context", torch.zeros(1, CONTEXT_TOKENS, text) if text else None)
        # Empty until `prepare`. In a tuple: no part of the state, never cast with the rest.
        self._exact: tuple[EntropyModel, ...] = ()
        self._graphs: GraphCache | None = None

    def prepare(self) -> Rdeic:
        """Freeze for inference, and compute once what inference derives from the weights.

        That is the exact coding networks, on the CPU where the weights' device has no float64, and the keys and values
        of the text context. `train` and `load_state_dict` drop both. Raises CheckpointError as `exact_copy`.
        """
        self.eval().requires_grad_(False)
        self._fix_context(self.context)
        weight = self.compression.to_latent.weight
        self._exact = (exact_copy(self.compression.entropy, exact_home(weight.device)),)
        return self

    def train(self, mode: bool = True) -> Rdeic:
        """As for every module. Turning training on also drops what `prepare` derived from the weights."""
        if mode:
            self._outdate()
        return super().train(mode)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As for every module. It also drops what `prepare` derived from the old weights."""
        self._outdate()
        return super().load_state_dict(state_dict, strict, assign)

    def _outdate(self) -> None:
        self._fix_context(None)
        self._exact = ()
        self._graphs = None

    def use_graphs(self, capture: Capture, at_once: bool) -> Rdeic:
        """Run E with g_a, denoising steps and D as graphs, in inference mode; see GraphCache.

        From then on weights must stay where they are; `stop_graphs`, `train` and `load_state_dict` end it.
        """
        self._graphs = GraphCache(capture, at_once)
        return self

    def stop_graphs(self) -> None:
        """Run everything without graphs from now on, and let those go that were recorded."""
        self._graphs = None

    def _runner(self, *key: Hashable, pixels: int) -> Runner:
        """How one part of a picture of so many pixels is run: as a graph, or as it is."""
        if self._graphs is None or pixels > GRAPH_PIXELS or not torch.is_inference_mode_enabled():
            return eager
        if moments.current.get() is not None:  # a tile, whose norms take what this picture's sample gave
            return eager
        return self._graphs.visit(*key)

    def _fix_context(self, context: Tensor | None) -> None:
        for layer in self.modules():
            if isinstance(layer, CrossAttention):
                layer.fix_context(context)

    def set_precision(self, dtype: torch.dtype, analysis: torch.dtype = torch.float32) -> Rdeic:
        """Compute in `dtype` what comes after the bits and costs most: noise estimator, control network, D.

        What makes and reads bits stays float32: a file must not depend on it, and the exact coding networks are
        derived from those weights. So do the time embedding and all arithmetic of the sampler. Norms and attention
        sum up in float32 by themselves. E up to its feature may be in another precision, `analysis`: it chooses y,
        and with it another file, but whatever y it chooses comes back exactly.

        g_a and g_s, which have no norms, follow in bfloat16, which has the range of float32, and not in float16.
        """
        autoencoder, compression = self.autoencoder, self.compression
        for part in (self.unet, self.control, autoencoder.post_quant_conv, autoencoder.decoder):
            part.to(dtype)
        for layer in autoencoder.encoder.feature_layers():
            layer.to(analysis)
        compression.g_a.to(_wide(analysis))
        for last in (compression.g_s, compression.to_latent):
            last.to(_wide(dtype))
        for encoder in (self.unet.encoder, self.control.encoder):
            encoder.time_embed.float()
        return self

    @property
    def precision(self) -> torch.dtype:
        """What is computed in after the bits; see `set_precision`."""
        return self.unet.conv_out.weight.dtype

    @property
    def analysis_precision(self) -> torch.dtype:
        """What E computes in up to its feature; see `set_precision`."""
        first = next(self.autoencoder.encoder.feature_layers()[0].parameters())
        return first.dtype

    # -- picture -> bits

    def analyse(self, x: Tensor) -> Tensor:
        """(1, 3, H, W) in [-1, 1], sides multiples of the hyper stride -> y (1, M, H/16, W/16), before any gain."""
        run = self._runner("analyse", x.shape, x.dtype, pixels=self._pixels(x, 1))
        return run(lambda x: self.compression.analyse(self.autoencoder.feature(x)), x)

    def encode(self, y: Tensor, quality: int) -> CodedLatent:
        """y from `analyse`, quality byte 0..255 -> hyper indices and y stream."""
        return self.encode_with_y_hat(y, quality).coded

    def encode_with_y_hat(self, y: Tensor, quality: int) -> Encoding:
        """`encode`, together with the y_hat that the decoder must find, to compare."""
        exact, compression = self.exact, self.compression
        if rows := band_rows(*y.shape[2:]):
            scaled = compression.scale_y(y, self.level(quality))
            indices = self._indices_in_bands(scaled, rows)
            hyper = self._hyper_in_bands(indices, quality, rows)
            encoded = encode_in_bands(exact, scaled.to(hyper.device), hyper, rows)
            return Encoding(CodedLatent(to_host(indices[0]), encoded.stream), encoded.y_hat)

        def compute(y: Tensor, level: Tensor, exact_level: Tensor) -> tuple[Tensor, ...]:
            scaled = compression.scale_y(y, level)
            indices = compression.entropy.codebook.nearest(compression.h_a(scaled))
            hyper = exact.hyper(exact.codebook.lookup(indices.to(exact_level.device)), exact_level)
            return (indices, *symbols_of(exact, scaled.to(hyper.device).double(), hyper))

        run = self._runner("symbols", y.shape, y.dtype, pixels=self._pixels(y, self.config.y_stride))
        indices, *symbols = run(compute, y, self.level(quality), self._exact_level(quality))
        found = Symbols(*symbols)
        return Encoding(CodedLatent(to_host(indices[0]), encode_symbols(exact, found)), found.y_hat)

    # -- bits -> picture

    def decode(self, coded: CodedLatent, quality: int) -> CompressedFeatures:
        """Inverse of `encode` -> guide and z_c. Raises FileFormatError for a stream that does not fit."""
        level = self.level(quality)
        y_hat = self.decode_y_hat(coded, quality).to(level.dtype).to(level.device)
        run = self._runner(
            "features", y_hat.shape, y_hat.dtype, pixels=self._pixels(y_hat, self.config.y_stride)
        )
        z_c, guide = run(self.compression.features, y_hat, level)
        return CompressedFeatures(z_c.to(level.dtype), guide)

    def decode_y_hat(self, coded: CodedLatent, quality: int) -> Tensor:
        """The exact part of `decode`: (1, M, H/16, W/16) float64, bit for bit the encoder's."""
        indices = torch.from_numpy(coded.hyper_indices)[None]
        if rows := band_rows(*(HYPER_ROWS * side for side in indices.shape[1:])):
            hyper = self._hyper_in_bands(indices, quality, rows)
            return decode_y(self.exact, coded.y_stream, hyper, rows=rows)
        pixels = self._pixels(indices[None], self.config.hyper_stride)

        def runners(number: int, half: str) -> Runner:
            return self._runner("pass", number, half, indices.shape, pixels=pixels)

        return decode_y(self.exact, coded.y_stream, self.exact_hyper(indices, quality), runners)

    def exact_hyper(self, indices: Tensor, quality: int) -> Tensor:
        """Hyper indices (1, H/64, W/64), quality byte 0..255 -> exact hyper feature (1, 2M, H/16, W/16), float64."""
        exact, level = self.exact, self._exact_level(quality)

        def compute(indices: Tensor, level: Tensor) -> Tensor:
            return exact.hyper(exact.codebook.lookup(indices), level)

        pixels = self._pixels(indices[None], self.config.hyper_stride)
        return self._runner("hyper", indices.shape, pixels=pixels)(compute, indices.to(level.device), level)

    def _indices_in_bands(self, y: Tensor, rows: int) -> Tensor:
        """Scaled y (1, M, h, w) -> hyper indices (1, h/4, w/4), `rows` rows of y at a time."""
        h_a, codebook = self.compression.h_a, self.compression.entropy.codebook
        halo = HYPER_ROWS * -(-reach(h_a, y[:, :, :16, :16]) // HYPER_ROWS)
        found = []
        for band in tiles(y.shape[2], rows, halo):
            hyper = h_a(y[:, :, band.outer])[:, :, at(band.within, HYPER_ROWS)]
            found.append(codebook.nearest(hyper))
        return torch.cat(found, dim=1)

    def _hyper_in_bands(self, indices: Tensor, quality: int, rows: int) -> Tensor:
        """`exact_hyper` in float32, which holds its values, `rows` rows of y at a time."""
        exact, level = self.exact, self._exact_level(quality)
        indices, h_s = indices.to(level.device), exact.hyper_synthesis
        halo = HYPER_ROWS * reach(h_s, exact.codebook.lookup(indices[:, :4, :4]))
        height, width = (HYPER_ROWS * side for side in indices.shape[1:])
        hyper = torch.empty(1, 2 * self.config.compression.y_channels, height, width, device=level.device)
        for band in tiles(height, rows, halo):
            z_q = exact.codebook.lookup(indices[:, at(band.outer, HYPER_ROWS)])
            hyper[:, :, band.inner] = exact.hyper(z_q, level)[:, :, band.within]
        return hyper

    def restore(
        self,
        features: CompressedFeatures,
        noises: Iterator[Tensor],
        steps: int,
        detail: float,
        sampler: Sampler | None = RELAY_DDPM,
    ) -> Tensor:
        """`denoise`, then D -> (B, 3, H, W), nominally in [-1, 1]."""
        z0_hat = self.denoise(features, noises, steps, detail, sampler)
        run = self._runner(
            "decode", z0_hat.shape, z0_hat.dtype, pixels=self._pixels(z0_hat, self.config.autoencoder.stride)
        )
        return run(self.autoencoder.decode, z0_hat)

    def denoise(
        self,
        features: CompressedFeatures,
        noises: Iterator[Tensor],
        steps: int,
        detail: float,
        sampler: Sampler | None = RELAY_DDPM,
    ) -> Tensor:
        """Relay diffusion in `steps` steps -> z0_hat, shaped like z_c.

        `noises` yields standard normal tensors shaped like z_c. `detail` is lambda_s of Eq. 15. Without a sampler z_c
        itself stands for z0_hat. Raises ConfigError unless `steps` is 1 to N, or 1 to T for a sampler that starts from
        pure noise.
        """
        if sampler is None:
            return features.z_c
        diffusion = self.config.diffusion
        start = diffusion.relay_start if sampler.relay else diffusion.train_steps
        schedule = spaced_schedule(self.alpha_bar, spaced_steps(start, steps))
        eps = next(noises)
        z_n = diffuse(features.z_c, eps, schedule[0].alpha_bar) if sampler.relay else eps

        run = self._runner(
            "step", detail, z_n.shape, z_n.dtype, pixels=self._pixels(z_n, self.config.autoencoder.stride)
        )

        def estimate(z: Tensor, t: Tensor, guide: Tensor) -> Tensor:
            return self.predict_noise(z, t, guide, detail)

        def denoise(z: Tensor, t: int) -> Tensor:
            return run(estimate, z, torch.full(z.shape[:1], t, device=z.device), features.guide)

        return sample(denoise, z_n, schedule, sampler.rule, noises)

    def predict_noise(self, z_n: Tensor, t: Tensor, guide: Tensor, detail: float = 1.0) -> Tensor:
        """eps_hat of Eq. 15, in z_n's precision: z_n (B, C, h, w), timestep indices t (B,).

        The second pass runs only where it counts.
        """
        z, context = z_n.to(self.precision), self._context(z_n.shape[0])
        if detail == 0.0:
            return self.unet(z, t, context).to(z_n.dtype)
        control = self.control(z, guide.to(self.precision), t, context)
        eps_theta: Tensor = self.unet(z, t, context, control).to(z_n.dtype)
        if detail == 1.0:
            return eps_theta
        return guide_detail(self.unet(z, t, context).to(z_n.dtype), eps_theta, detail)

    def _pixels(self, like: Tensor, stride: int) -> int:
        """Pixels of a picture that has the positions of `like` (B, C, h, w), each `stride` pixels a side."""
        return like[0, 0].numel() * stride**2

    def _context(self, batch: int) -> Tensor | None:
        """For the networks: None where there is none, or where they know it already."""
        if self.context is None or self._exact:
            return None
        return self.context.to(self.precision).expand(batch, -1, -1)

    @property
    def exact(self) -> EntropyModel:
        """The entropy model in exact arithmetic, made by `prepare` when it is first needed. Raises CheckpointError."""
        if not self._exact:
            self.prepare()
        return self._exact[0]

    def level(self, quality: int) -> Tensor:
        """Quality byte 0..255 -> (1,) in [0, 1], on the device and in the precision of the weights that make bits."""
        weight = next(self.compression.h_a.parameters())  # makes bits, so its precision is never reduced
        return torch.full((1,), quality / QUALITY_STEPS, device=weight.device, dtype=weight.dtype)

    def _exact_level(self, quality: int) -> Tensor:
        """Not through `level`: the exact networks must see the same number whatever the weights' precision."""
        device = self.exact.codebook.entries.device
        return torch.full((1,), quality / QUALITY_STEPS, device=device, dtype=torch.float64)
