"""The paper's analyses (Figs. 7 to 12, Tables I and III), for any model and any pictures."""
