"""How picture files become (H, W, 3) uint8 sRGB, by theme; `images` is the way in."""
