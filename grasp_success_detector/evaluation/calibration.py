"""Temperature scaling: make a probability of 0.8 right four times in five."""

import torch
from torch.nn import functional as F


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """
    Return the temperature that minimises the cross entropy on held-out frames.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.

    :param logits: float (N, 2).
    :param labels: int (N,).
    :returns: what to divide logits by, within 0.05 to 20.
    """
    logits, labels = logits.detach().double(), labels.long()
    log_temperature = torch.zeros((), dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn='strong_wolfe')

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(logits / log_temperature.exp(), labels)
        value.backward()
        return value

    optimizer.step(loss)
    # All frames right would drive it to zero: bounded, so that no answer becomes exactly 1.
    return float(log_temperature.detach().exp().clamp(.05, 20.))
