"""How good a set of descriptions is, in numbers and pictures. Everything works offline."""
