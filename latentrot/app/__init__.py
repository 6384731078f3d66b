"""The web page."""

from latentrot.app.page import serve

__all__ = ["serve"]
