"""Pictures => .rdeic files => pictures (`codec`), at a wanted size (`rate`, `scaling`) and within limits."""
