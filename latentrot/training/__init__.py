"""What each network is taught, and how a run is kept and resumed."""
