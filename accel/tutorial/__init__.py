"""The classic first lesson, step by step: one neuron, then layers of them.

Here belongs what is said and drawn while a lesson runs; everything that computes is to the left of
this package.
"""

from accel.tutorial.neuron import Lesson, run

__all__ = ["Lesson", "run"]
