"""CUDA: kernels for what CuPy would take many launches and several reads of X for.

`layout` decides how a pass is laid out on a GPU, from sizes alone; `source` puts the kernels' text
together and compiles it once; `linear_pass` launches them. The formulas of the kernels stand in
accel/losses.py and accel/solvers/rules.py, which are their oracles in the tests.
"""
