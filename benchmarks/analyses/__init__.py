"""The paper's analyses (Figs. 7 to 12, Table II), for any model and any pictures."""
