"""Published weights as values of our parameter tree, without torch."""
