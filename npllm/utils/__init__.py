"""Files, downloads and terminal output: what every folder may use and nothing teaches."""
