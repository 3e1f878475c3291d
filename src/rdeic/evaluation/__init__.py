"""Measuring codecs on real files: ours, and the conventional ones beside it."""
