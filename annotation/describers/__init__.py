"""Describers: each turns one `ImageRecord` into several natural-language descriptions."""
