"""Readers: one module per annotation format, each yielding `ImageRecord`s."""
