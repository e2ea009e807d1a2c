"""From 2D keypoints and an activity label to pose descriptions and TFRecord shards."""
