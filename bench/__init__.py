"""The benchmark suite: problems, contestants, one judge, pytest-benchmark as the engine.

``python -m bench`` runs it and writes a report; ``pytest bench --benchmark-only -k adam`` works as anywhere else.
"""

from pathlib import Path

#: The tree that bench is a part of.
ROOT = Path(__file__).resolve().parent.parent
