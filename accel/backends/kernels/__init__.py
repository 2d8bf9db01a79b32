"""Fused passes: the forward and backward pass of a linear model in one read of X.

Here belongs machine-specific code that a measurement shows to pay: Numba for the CPU, CUDA C++ for
the GPU. Each has the same oracle, the generic formula of losses.py and network.py, and computes
nothing that they do not. A kernel takes arrays and returns sums; it knows no objective.
"""
