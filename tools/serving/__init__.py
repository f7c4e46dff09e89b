"""What is made of a trained model: exports, and plain T5 models."""
