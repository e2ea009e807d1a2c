"""FocusCLIP in JAX: CLIP with Subject-Focused Attention (arXiv 2403.06904)."""
