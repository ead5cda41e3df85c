"""Characters for tests that try any text."""

from __future__ import annotations

from hypothesis import strategies as st

CHARACTERS = (st.integers(0, 0x7F) | st.integers(0, 0xD7FF) | st.integers(0xE000, 0x10FFFF)).map(chr)
"""As many as ``st.characters()`` has, which works out a table of Unicode categories first, as does ``st.text()``
without characters: 5 s for each process in a fresh checkout."""
