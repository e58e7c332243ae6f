import numpy as np
from numpy.typing import NDArray

def shuffled(seed: NDArray[np.uint64], n: int, at_once: int = 65536) -> NDArray[np.intp]: ...
