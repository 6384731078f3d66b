"""Evaluation of rotators against ground truth: rendered heads, and real people photographed in several poses."""
