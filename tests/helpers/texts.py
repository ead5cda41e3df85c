"""Characters for tests that try any text."""

from __future__ import annotations

from hypothesis import strategies as st

CHARACTERS = (st.integers(0, 0x7F) | st.integers(0, 0xD7FF) | st.integers(0xE000, 0x10FFFF)).map(chr)
"""As many as hypothesis takes where none are named; for those it first works out a table of Unicode categories, which
takes each process 6 s in a fresh checkout. tests/unit/test_house.py holds that these are named."""
