"""Fatbins that are found in a stream are those that the list of sections leads to; what is not needed is not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from device_objects import fatbin, noise, shared_object
from upload_wheels import real_object

from buildkit.verify.fatbin import Image, read_fatbins
from buildkit.verify.fatbin_stream import stream_fatbins


@dataclass
class Counting:
    """A stream that knows what was read and what was left out."""

    data: bytes
    at: int = 0
    got: int = 0

    def read(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        self.at += len(part)
        self.got += len(part)
        return part

    def skip(self, size: int) -> None:
        self.at += size


def images(data: bytes) -> list[list[tuple[str, int]]]:
    return [[(image.kind, image.number) for image in each.images] for each in stream_fatbins(Counting(data))]


ONE, TWO = [("elf", 86), ("elf", 120)], [("elf", 90), ("ptx", 120)]


@pytest.mark.parametrize("before", [0, 1, 4095, 65520, 65536 - 176, 65536 - 180, 200_003])
def test_units_are_found_wherever_a_piece_of_the_stream_ends(before: int) -> None:
    assert images(shared_object(ONE, TWO, before=noise(before))) == [ONE, TWO]


def test_a_linkers_own_file_gives_the_same_as_its_sections(tmp_path: Path) -> None:
    built = real_object(tmp_path, 86, 120)
    assert images(built) == [[("elf", 86), ("elf", 120)]]
    assert [each.images for each in stream_fatbins(Counting(built))] == [
        each.images for each in read_fatbins(tmp_path / "fatbin.so")
    ]


def test_payloads_are_left_out_and_nothing_behind_the_code_is_read() -> None:
    data = shared_object(ONE, TWO, payload=1 << 20, writable=noise(1 << 20))
    stream = Counting(data)
    assert sum(len(each.images) for each in stream_fatbins(stream)) == 4
    assert stream.got < 8 * (64 << 10) < len(data) / 8


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "nothing"),
        (b"#!/bin/sh\n" + fatbin(ONE), "no ELF file"),
        (b"\x7fELF\x01\x01" + bytes(60) + fatbin(ONE), "32 bits"),
        (shared_object(before=b"\x50\xed\x55\xba" + bytes(100)), "only the four bytes"),
        (shared_object(writable=fatbin(ONE)), "in what is writable"),
        (shared_object(ONE)[:180], "broken off"),
    ],
)
def test_what_is_no_device_code_is_not_taken_for_it(data: bytes, why: str) -> None:
    assert images(data) == [], why


def test_a_size_that_leads_nowhere_ends_the_unit() -> None:
    data = bytearray(shared_object(ONE, TWO))
    place = bytes(data).index(b"\x50\xed\x55\xba") + 16 + 8
    data[place : place + 8] = (1 << 60).to_bytes(8, "little")
    assert images(bytes(data)) == [TWO]


def test_an_image_is_its_kind_and_number() -> None:
    (only,) = stream_fatbins(Counting(shared_object([("ptx", 120)])))
    assert only.images == (Image("ptx", 120),)
