"""Data sets larger than memory: converted once, mapped from disk, or given chunk by chunk."""

from fastopt._chunks import Chunks
from fastopt.data._convert import convert
from fastopt.data._folder import Data
from fastopt.data._folder import open_folder as open

__all__ = ["Chunks", "Data", "convert", "open"]
