"""How well a rotator turns heads whose true turned images are known; any rotator behind the protocol."""
