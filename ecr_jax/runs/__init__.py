"""The experiment context that stages share, and the commands that train several stages or runs: sweep and demo."""
