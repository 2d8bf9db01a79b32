"""Tests: properties and independent references, on every backend.

Here belongs what proves a promise of the documentation. A test of the core takes the fixture
`backend` and so runs on numpy, on `strict` (array_api_strict on a device that is not the CPU, a
stand-in for a GPU) and on cupy where a GPU is usable. Speed is never tested here: see bench/.
"""
