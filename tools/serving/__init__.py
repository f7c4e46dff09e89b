"""Exports of trained models, and plain T5 models made from them."""
