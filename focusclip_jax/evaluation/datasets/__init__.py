"""Readers of evaluation data sets in their own on-disk layouts, one module each."""
