"""Interactive evaluation: simulated seekers, who want a held-out film, talk with a run and with baselines."""
