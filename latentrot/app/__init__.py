"""The page: give a photograph, drag the slider."""

from latentrot.app.page import serve

__all__ = ["serve"]
