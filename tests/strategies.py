"""Hypothesis strategies for all rooms' tests, in one place."""

from __future__ import annotations
