"""Whatever the bytes, the parsers of .rdeic files and metadata return their content or raise FileFormatError."""

from __future__ import annotations

from fuzz import engine

MEMORY = 64 << 20


def load() -> engine.Harness:
    import rdeic
    from rdeic.container import container, info
    from rdeic.pictures import exif

    def target(data: bytes) -> bool:
        try:
            file = container.unpack(data, max_pixels=None)
            assert container.pack(file) == data  # every content has one encoding
            found = info.inspect(data)
        except rdeic.FileFormatError:
            return False
        assert found[:2] == (file.header.width, file.header.height)
        assert found[-2:] == file.header.coded
        assert all(1 <= side <= whole <= 64 * side for side, whole in zip(found[-2:], found[:2], strict=True))
        assert found.file_bytes == len(data)
        assert 0 < found.width < 2**16 and 0 < found.height < 2**16 and found.steps > 0
        if found.metadata is not None:
            found.metadata.as_dict()
            exif.to_bytes(found.metadata)
        return True

    return engine.Harness(target, engine.stored("container"), MEMORY)


if __name__ == "__main__":
    engine.main(load, str(__doc__))
