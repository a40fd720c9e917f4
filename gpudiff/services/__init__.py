"""Threads, queues and clocks: differencer, associator, publisher, simulator."""
