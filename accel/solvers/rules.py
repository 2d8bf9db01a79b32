"""Update rules of stochastic gradient descent: how a gradient moves the parameters, in place.

Each works on the one flat vector of parameters, so an update is a handful of calls whatever the
number of layers; arrays that it needs are made once, in `memory`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sqrt
from typing import Any, Protocol

Array = Any
SMALLEST_RATE = 1e-6  # below it "adaptive" ends the training, as in scikit-learn


class Rule(Protocol):
    """An update rule."""

    n_arrays: int  # that it remembers, each of the size of the parameters

    def update(
        self,
        params: Array,
        gradient: Array,
        memory: list[Array],
        *,
        learning_rate: float,
        step: int,
        xp: Any,
    ) -> None:
        """Move params; the gradient is used up. Steps count from 1."""


@dataclass(frozen=True)
class SGD:
    r"""Stochastic gradient descent with momentum.

    .. math:: v \leftarrow \mu v - \eta g, \qquad
              \theta \leftarrow \theta + v \;\text{ or, with Nesterov, }\;
              \theta \leftarrow \theta + \mu v - \eta g

    Parameters
    ----------
    momentum : float
        :math:`\mu`, 0 to 1.
    nesterov : bool
        Which of the two.

    Notes
    -----
    Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013,
    equations 1 to 4, in the variables of scikit-learn.
    """

    momentum: float
    nesterov: bool
    n_arrays = 1

    def update(
        self,
        params: Array,
        gradient: Array,
        memory: list[Array],
        *,
        learning_rate: float,
        step: int,  # noqa: ARG002
        xp: Any,
    ) -> None:
        """Velocity, then parameters."""
        (velocity,) = memory
        gradient *= learning_rate
        velocity *= self.momentum
        velocity -= gradient
        if not self.nesterov:
            params += velocity
            return
        params -= gradient
        xp.multiply(velocity, self.momentum, out=gradient)
        params += gradient


@dataclass(frozen=True)
class Adam:
    r"""Adam, and with a decay AdamW.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad
              v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad
              \theta \leftarrow \theta - \eta \lambda \theta
              - \eta \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \frac{m}{\sqrt{v} + \epsilon}

    Parameters
    ----------
    beta_1, beta_2 : float
        Decay of the two moments.
    epsilon : float
        :math:`\epsilon`.
    decay : array (n_params,) or None
        :math:`\lambda` of each parameter, zero at the biases; None for none.
    work : array (n_params,) or None
        Written over in each update; needed with a decay.
    fused : callable or None
        A backend's kernel for the update of both moments and the parameters, if it pays.

    Notes
    -----
    Kingma & Ba, Adam, ICLR 2015, Algorithm 1 in the order of the end of section 2, as scikit-learn;
    Loshchilov & Hutter, Decoupled weight decay regularization, ICLR 2019, Algorithm 2.
    """

    beta_1: float
    beta_2: float
    epsilon: float
    decay: Array | None = None
    work: Array | None = None
    fused: Callable[..., Any] | None = None
    n_arrays = 2

    def update(
        self,
        params: Array,
        gradient: Array,
        memory: list[Array],
        *,
        learning_rate: float,
        step: int,
        xp: Any,
    ) -> None:
        """Moments, then parameters."""
        m, v = memory
        if self.decay is not None:
            decayed: Any = self.work
            xp.multiply(self.decay, params, out=decayed)
            decayed *= learning_rate
            params -= decayed
        rate = learning_rate * sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        if self.fused is not None:
            self.fused(params, gradient, m, v, self.beta_1, self.beta_2, self.epsilon, rate)
            return
        m -= gradient  # beta_1 (m - g) + g, so that no other array is needed
        m *= self.beta_1
        m += gradient
        v *= self.beta_2
        gradient *= gradient
        gradient *= 1 - self.beta_2
        v += gradient
        change = gradient
        xp.sqrt(v, out=change)
        change += self.epsilon
        xp.divide(m, change, out=change)
        change *= rate
        params -= change


class Schedule(Protocol):
    """How the learning rate changes between epochs."""

    def after_epoch(self, initial: float, rate: float, *, t: int, share: float) -> float:
        """Rate after an epoch: t samples seen, a share of max_iter epochs done."""

    def after_plateau(self, rate: float) -> float | None:
        """Rate after epochs without improvement; None to stop."""


@dataclass(frozen=True)
class Constant:
    """The initial rate; stops at a plateau."""

    def after_epoch(self, initial: float, rate: float, *, t: int, share: float) -> float:  # noqa: ARG002
        """The same."""
        return rate

    def after_plateau(self, rate: float) -> float | None:  # noqa: ARG002
        """Stop."""
        return None


@dataclass(frozen=True)
class InverseScaling(Constant):
    """Initial rate / (t + 1)^power_t after t samples.

    Parameters
    ----------
    power_t : float
        The exponent.
    """

    power_t: float = 0.5

    def after_epoch(self, initial: float, rate: float, *, t: int, share: float) -> float:  # noqa: ARG002
        """The formula."""
        return float(initial / (t + 1) ** self.power_t)


@dataclass(frozen=True)
class Adaptive(Constant):
    """A fifth of the rate at every plateau, until it is tiny."""

    def after_plateau(self, rate: float) -> float | None:
        """A fifth."""
        return None if rate <= SMALLEST_RATE else rate / 5


@dataclass(frozen=True)
class Cosine(Constant):
    """Initial rate (1 + cos(pi share)) / 2, share of max_iter; Loshchilov & Hutter, SGDR, 2017."""

    def after_epoch(self, initial: float, rate: float, *, t: int, share: float) -> float:  # noqa: ARG002
        """The formula."""
        return 0.5 * initial * (1 + cos(pi * share))


# name -> schedule for scikit-learn's power_t
SCHEDULES: dict[str, Any] = {
    "constant": lambda power_t: Constant(),  # noqa: ARG005
    "invscaling": InverseScaling,
    "adaptive": lambda power_t: Adaptive(),  # noqa: ARG005
    "cosine": lambda power_t: Cosine(),  # noqa: ARG005
}
