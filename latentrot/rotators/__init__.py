"""Ways of turning a face behind one protocol, a folder each."""
