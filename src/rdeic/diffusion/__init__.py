"""Relay residual diffusion: schedule, equations, samplers."""
