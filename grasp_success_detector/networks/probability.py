"""From a network's logits to P(success): the only home of softmax and temperature."""

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.labels import Label


def success_probabilities(logits: NDArray[np.float32],
                          temperature: float = 1.) -> NDArray[np.float32]:
    """
    Return P(success): the softmax of the logits divided by the temperature.

    :param logits: float32 (N, 2), index = Label.
    :param temperature: of the checkpoint, above 0; 1 takes the logits as they are.
    :returns: float32 (N,), 0 to 1; NaN where a logit is NaN.
    """
    margin = (logits[:, Label.SUCCESS] - logits[:, Label.FAILURE]) / np.float32(temperature)
    # Softmax of two is the logistic function of their difference; this form never overflows.
    with np.errstate(invalid='ignore'):
        shares: NDArray[np.float32] = np.exp(-np.logaddexp(np.float32(0.), -margin))
    return shares
