"""The .rdeic file: its bytes (`container`), sections and payload. `docs/format.md` is normative. No torch."""
