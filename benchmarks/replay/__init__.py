"""How often a replay is wrong, on labels of simulated owners of whom it is known what it should say."""
