"""The networks of one model, put together, and what has to be settled before they work."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from rdeic.config import ModelConfig
from rdeic.diffusion.schedule import alpha_bars
from rdeic.model.compression import Compression
from rdeic.model.entropy_model import EntropyModel
from rdeic.nn import moments
from rdeic.nn.autoencoder import Autoencoder
from rdeic.nn.blocks import CrossAttention
from rdeic.nn.control import ControlNetwork
from rdeic.nn.exact import exact_copy
from rdeic.nn.graphs import Capture, GraphCache, Runner, eager
from rdeic.nn.unet import UNet
from rdeic.system.devices import exact_home

CONTEXT_TOKENS = 77  # of the text encoder; the context is that of the empty prompt, a constant
QUALITY_STEPS = 255  # quality travels as one byte
GRAPH_PIXELS = (
    1 << 20
)  # of a picture; with more, arithmetic takes longer than launches, and a graph much memory


def control_network(config: ModelConfig, unet: UNet) -> ControlNetwork:
    """A fresh one, which changes nothing yet. Of `unet` only the widths matter."""
    guided = config.autoencoder.latent_channels + config.compression.width
    return ControlNetwork(config.control, config.unet, unet, guided)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """`dtype`, unless its range is less than float32's."""
    return torch.float32 if dtype == torch.float16 else dtype


class Networks(nn.Module):
    """Those of one model, and how they are kept: prepared, in which precision, as graphs."""

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

    def prepare(self) -> Self:
        """Freeze for inference, and compute once what inference derives from the weights.

        That is the exact coding networks, on the CPU where the weights' device has no float64, and the keys and values
        of the text context. `train` and `load_state_dict` drop both. Raises CheckpointError as `exact_copy`.
        """
        self.eval().requires_grad_(False)
        self._fix_context(self.context)
        weight = self.compression.to_latent.weight
        self._exact = (exact_copy(self.compression.entropy, exact_home(weight.device)),)
        return self

    def train(self, mode: bool = True) -> Self:
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

    def use_graphs(self, capture: Capture, at_once: bool) -> Self:
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

    def set_precision(self, dtype: torch.dtype, analysis: torch.dtype = torch.float32) -> Self:
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
