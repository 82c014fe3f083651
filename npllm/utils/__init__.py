"""Files, downloads, threads, plots and terminal output: helpers of the other folders."""
