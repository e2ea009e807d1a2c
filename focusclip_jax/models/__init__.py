"""The image tower, the text tower and the FocusCLIP that joins them."""
