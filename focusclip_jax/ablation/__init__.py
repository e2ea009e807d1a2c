"""Whether focus helps: a grid of training runs, what is measured of each, and what may be concluded."""
