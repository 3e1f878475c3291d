"""How picture files become (H, W, 3) uint8 sRGB, by theme; `rdeic.images` is the way in."""
