"""Load generator, peers and driver: how fast the broker is beside others.

``python -m bench`` from the root of the source tree; README.rst says how the
figures are taken. Nothing of the broker is imported here.
"""
