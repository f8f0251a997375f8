"""Temperature scaling (Guo et al. 2017): logits divided by one number, so that probabilities are as frequent
as they say. No prediction changes.

https://arxiv.org/abs/1706.04599
"""

import numpy as np

from jaxnas.training import measured
from jaxnas.types import Task

# Of the temperature. A few images that all are right would else take it to 0, and every probability to 1.
LEAST, MOST = 0.25, 10.0


def fit(task: Task, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float] | None:
    """The temperature of the least log loss, and the calibration error without and with it.

    Args:
      task: of one class of several, or of two; for others there is none.
      outputs: logits [N, O] on inputs that the network was not trained on.
      labels: int [N].
    """
    if task.predict is None or task.name not in measured.REGISTRY:
        return None
    from scipy import optimize

    x, known = outputs.astype(np.float64), measured.REGISTRY[task.name]
    loss, error = known["loss"].formula, known["calibration_error"].formula
    found = optimize.minimize_scalar(
        lambda log_t: float(loss(x / np.exp(log_t), labels)),
        bounds=(np.log(LEAST), np.log(MOST)),
        method="bounded",
    )
    temperature = float(np.exp(found.x))
    return {
        "temperature": temperature,
        "error": float(error(x, labels)),
        "error_scaled": float(error(x / temperature, labels)),
    }
