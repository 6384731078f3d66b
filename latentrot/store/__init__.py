"""Latents on disk: planned shards, the manifest that plans them, and the engines that fill them."""
