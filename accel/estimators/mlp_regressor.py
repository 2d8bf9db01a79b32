"""A network that predicts numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if

from accel.backends.interchange import device_of, namespace, to_host
from accel.estimators.arguments import check_choice
from accel.estimators.network import NetworkEstimator
from accel.estimators.network_targets import NetworkTargets, number_targets
from accel.losses import TARGET_LOSSES

Array = Any


class MLPRegressor(RegressorMixin, NetworkEstimator):  # type: ignore[misc]
    r"""Fully connected network for numbers, on the CPU or on an NVIDIA GPU.

    .. math:: a_0 = x, \qquad a_{l+1} = f(a_l W_l + b_l), \qquad z = a_L W_L + b_L

    .. math:: \min_{W, b} \; \frac{1}{S} \sum_i s_i\, \ell(y_i, z_i)
              + \frac{\alpha}{2 S} \sum_l |W_l|_2^2, \qquad S = \sum_i s_i

    with half the squared distance or half the Poisson deviance, summed over the outputs; the sums
    run over the rows of a batch.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}, default="squared_error"
        "poisson" is for counts; the prediction is then exp(z).
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Widths of the hidden layers; () for none, which is the linear model.
    activation : {"identity", "logistic", "tanh", "relu", "gelu"}, default="relu"
        f, of every hidden unit; gelu in its tanh form.
    solver : {"adam", "adamw", "sgd", "lbfgs", "gd"}, default="adam"
        The first three train by batches. "lbfgs" and "gd" use all rows at once, until max|gradient|
        is at most `tol`.
    alpha : float, default=0.0001
        Strength of the penalty; for "adamw" the decay of the weights in each update, instead.
    batch_size : int or "auto", default="auto"
        Rows of a batch; "auto" is 200, or all if there are fewer.
    learning_rate : {"constant", "invscaling", "adaptive", "cosine"}, default="constant"
        How the rate changes: not; as (t + 1)^-power_t; to a fifth at every plateau; along half a
        cosine to zero at max_iter. "invscaling" and "adaptive" are for "sgd" only.
    learning_rate_init : float, default=0.001
        The rate at the start, and of "gd".
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Most epochs, or updates of "lbfgs" and "gd".
    shuffle : bool, default=True
        Whether every epoch takes the rows in another order.
    random_state : int, RandomState or None, default=None
        Of first parameters, held-out rows, orders and masks, all drawn on the host: the same fit as
        scikit-learn's for the same number, and the same on every backend, to rounding.
    tol : float, default=1e-4
        Least improvement of the loss, or of the score with early stopping.
    verbose : bool or int, default=False
        True prints where it runs, every epoch and how it ended.
    warm_start : bool, default=False
        Start from the parameters of the last fit.
    momentum : float, default=0.9
        Of "sgd".
    nesterovs_momentum : bool, default=True
        Whether that is Nesterov's.
    early_stopping : bool, default=False
        Hold rows out, end when their score no longer improves, and keep the best parameters.
    validation_fraction : float, default=0.1
        Share of the rows held out.
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay of the moments of "adam" and "adamw".
    epsilon : float, default=1e-8
        Of the same.
    n_iter_no_change : int or inf, default=10
        Epochs without improvement by `tol` that are borne.
    max_fun : int, default=15000
        Accepted for scikit-learn's sake: max_iter bounds "lbfgs".
    dropout : float, default=0.0
        Share of the outputs of every hidden layer that are dropped in each training step.
    initialization : {"glorot", "he"}, default="glorot"
        Interval of the first parameters.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        Of the factors of products while training; sums, parameters and all else are float32. On a
        GPU the tensor cores do it; elsewhere it is emulated. X must not be float64.
    center : bool, default=False
        Train on X less its column means, which the first b takes up, exactly: the network is one of
        X. Columns of one sign, as pixels, pull the weights of a unit all one way; centred, far
        fewer epochs do. Not scikit-learn's steps then.
    input_scale : float, default=1.0
        Factor of X: pixels as uint8 with ``input_scale=1/255`` train as ``X / 255``, uncopied.
    backend : str, default="auto"
        "auto", "numpy", "cupy" or "cupy:N", see `accel.get_backend`.
    callback : callable, optional
        Called after each epoch with an `accel.solvers.epochs.EpochProgress` ("lbfgs" and "gd": with
        a `Progress`, before each update); a true result ends the fit.
    checkpoint : str, Path or None, default=None
        Folder for the last state (last.npz) and, of epochs, the best parameters (best.npz). A fit
        that finds a state of the same data and arguments there goes on from it, to bitwise the same
        result.
    checkpoint_every : int, default=1
        Epochs between two states, or updates of "lbfgs" and "gd".

    Attributes
    ----------
    coefs_ : list of ndarray (n_in, n_out)
        W of each layer, in the dtype of X (float32 or float64), on the host.
    intercepts_ : list of ndarray (n_out,)
        b of each layer.
    n_iter_ : int
        Epochs done, or updates of "lbfgs" and "gd".
    t_ : int
        Rows seen.
    loss_ : float
        Mean loss of the last epoch, with the penalty.
    loss_curve_ : list of float
        The same of every epoch; of "lbfgs" and "gd", the objective before each update.
    best_loss_ : float or None
        Lowest of them; None with early stopping.
    validation_scores_ : list of float or None
        Score of the held-out rows after each epoch, with early stopping.
    best_validation_score_ : float or None
        Highest of them.
    n_layers_, n_outputs_ : int
        Layers with the input, and outputs.
    out_activation_ : str
        What makes a prediction of the last layer.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray (n_features,)
        Names of the columns, where X had string names.
    input_scale_ : float
        The factor of X that the network was trained with; predictions use it.
    objective_, gradient_norm_ : float
        Of "lbfgs" and "gd": objective and max|gradient| at the result.
    status_ : Status
        How the fit ended; its value is a sentence that says what to do.
    backend_ : BackendReport
        Where it ran, and why not on a GPU if "auto" wanted one.
    account_ : Account
        What `explain` prints.

    Notes
    -----
    With the same arguments and random_state, epochs of "sgd" and "adam" are those of scikit-learn's
    MLPRegressor to rounding. With several outputs its loss_curve_ is the mean over them of what its
    steps descend; here the loss is the sum that the steps descend.
    """

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float = 0.0,
        initialization: str = "glorot",
        precision: str = "float32",
        center: bool = False,
        input_scale: float = 1.0,
        backend: str = "auto",
        callback: Callable[[Any], Any] | None = None,
        checkpoint: Any = None,
        checkpoint_every: int = 1,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.initialization = initialization
        self.precision = precision
        self.center = center
        self.input_scale = input_scale
        self.backend = backend
        self.callback = callback
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            NumPy, CuPy, torch, lists, a data frame or sparse. float64 is computed in float64;
            float32, uint8, int8, float16 and bfloat16 in float32, as they lie. Not modified.
        y : array-like (n_samples,) or (n_samples, n_outputs)
            Numbers.
        sample_weight : array-like (n_samples,), optional
            Non-negative weights; 0 is the same as no row.

        Returns
        -------
        MLPRegressor
            This estimator, fitted.

        Raises
        ------
        ValueError
            If an argument is out of range, has the wrong shape or holds NaN.
        accel.BackendUnavailable
            If a backend was required that cannot be used.
        accel.checkpoint.CheckpointError
            If the checkpoint is of another run, or damaged.
        OSError
            If the checkpoint cannot be written: before the training, or, where the disk is full,
            once what was learned is kept.
        """
        self._fit(X, partial(self._targets, y, sample_weight))
        return self

    @available_if(NetworkEstimator._can_train_by_batches)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch on these rows, from where the last call ended.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            As for `fit`.
        y : array-like (n_samples,) or (n_samples, n_outputs)
            As for `fit`.
        sample_weight : array-like (n_samples,), optional
            As for `fit`.

        Returns
        -------
        MLPRegressor
            This estimator.
        """
        self._fit(X, partial(self._targets, y, sample_weight), incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """Predicted numbers.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.

        Returns
        -------
        array (n_samples,) or (n_samples, n_outputs)
            In the namespace and on the device of X.
        """
        with device_of(X):
            raw = self._raw_prediction(X, "predict")
            prediction = TARGET_LOSSES[self.loss].predict(raw, xp=namespace(raw))
            return prediction[:, 0] if self.n_outputs_ == 1 else prediction

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination, 1 - |y - prediction|^2 / |y - mean|^2.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.
        y : array-like (n_samples,) or (n_samples, n_outputs)
            True numbers.
        sample_weight : array-like (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        float
            At most 1.
        """
        from sklearn.metrics import r2_score

        prediction, weight = to_host(self.predict(X)), to_host(sample_weight)
        return float(r2_score(to_host(y), prediction, sample_weight=weight))

    def _targets(self, y: Any, sample_weight: Any, n_rows: int, *, first: bool) -> NetworkTargets:
        """Targets of these numbers, as many as in the last fit unless it is the first."""
        loss = TARGET_LOSSES[check_choice("loss", self.loss, TARGET_LOSSES)]
        targets = number_targets(y, n_rows, sample_weight, loss=loss)
        if not first and targets.n_outputs != self.n_outputs_:
            raise ValueError(
                f"y has {targets.n_outputs} outputs, but the fit has {self.n_outputs_}."
            )
        return targets
