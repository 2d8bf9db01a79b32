"""stub"""
from accel.sources.base import DataError, Source, take
from accel.sources.memory import ArraySource
__all__=["ArraySource","DataError","Source","take"]
