"""From shards to batches: random access, augmentation, heatmaps, tokens."""
