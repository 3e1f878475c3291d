"""Lossless coding: codebook indices (`indices`), Gaussian tables (`tables`), range coder (`coder`).

Everything here is exact integer arithmetic, so the same symbols give the same bytes on every machine.
"""
