"""Weights in other people's layouts: Stable Diffusion's, the hub's, and the authors' own."""
