"""How well a rotator turns heads whose true turned pictures are known; any rotator behind the protocol."""
