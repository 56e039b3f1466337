"""Tests, by room; ``tests.fakes`` is the public fake engine."""
