"""The page of latentrot as a Space: what `latentrot app` serves, on the address that the host names."""

import os

from latentrot.cli import main

HOST, PORT = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"), os.environ.get("GRADIO_SERVER_PORT", "7860")

if __name__ == "__main__":
    raise SystemExit(main(["app", "--host", HOST, "--port", PORT]))
