"""Readers: one module per annotation format, each yielding `ImageRecord`s.

A reader takes the file's path and `notes`, a `collections.Counter` to which it adds, under a phrase a
user understands, whatever it converted, left out or could not use; the caller prints them.
"""
