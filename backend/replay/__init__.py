"""Replay: the labels given so far are a pool that is labeled again in the order of each sampler, to see which of them
would have come to today's accuracy with the fewest.

``trials`` plays them, whatever trains; ``learning`` trains the product's own network and sampler; ``project`` gathers a
project's labels and keeps what was found. :mod:`backend.reporting.replays` says what it means.
"""
