"""Latents to lines: means by yaw, regressions through them, calibrated steps."""
