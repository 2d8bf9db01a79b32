"""Fused passes: the forward and backward pass of a linear model in one read of X.

Here belongs machine-specific code for the CPU that a measurement shows to pay, in Numba; that for
NVIDIA GPUs is in `accel.backends.cuda`. Each has the same oracle, the generic formula of losses.py
and network.py, and computes
nothing that they do not. A kernel takes arrays and returns sums; it knows no objective.
"""
