"""Latents on disk: shards, the manifest that plans them, and the engines that compute them."""
